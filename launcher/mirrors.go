package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/fetch"
)

// anyOf asks the repository and then its mirrors, until one of them has an answer that holds. A source that lags,
// lies or is down costs its turn and nothing more, since what is believed is believed for its signatures; why it
// was passed over is told.
func (f *feed) anyOf(ctx context.Context, ask func(*fetch.Repository) error) error {
	var failed misses
	for _, src := range f.source.Sources() {
		err := ask(src)
		if err == nil || ctx.Err() != nil || durable.Full(err) || errors.Is(err, manifest.ErrNoRelease) || errors.Is(err, manifest.ErrWrongPlatform) {
			return err
		}
		failed = append(failed, miss{src.Address(), err})
		f.skipped(src.Address(), err)
	}
	return failed.verdict()
}

// skipped tells of a source that was of no use, if another one can be.
func (f *feed) skipped(address string, err error) {
	if f.tell != nil && len(f.source.Sources()) > 1 {
		f.tell(updater.Event{At: time.Now(), Kind: "mirror", Text: address + " was passed over", Err: err.Error()})
	}
}

// miss is why a source had no answer.
type miss struct {
	source string
	err    error
}

type misses []miss

// verdict is what it means that no source had an answer. One that lies is evidence, and so is it when all of them
// are behind what is known here, or past their time; some that are behind while others are out of reach are not:
// the news may be with those.
func (m misses) verdict() error {
	if len(m) == 1 {
		return refused(m[0].err)
	}
	lying, behind := 0, 0
	for _, x := range m {
		switch {
		case errors.Is(x.err, manifest.ErrOlder), errors.Is(x.err, manifest.ErrExpired):
			behind++
		case lies(x.err):
			lying++
		}
	}
	if lying > 0 || behind == len(m) {
		return updater.Refused(m)
	}
	return fmt.Errorf("%v", m) // %v: nothing of it is evidence
}

func (m misses) Error() string {
	texts := make([]string, len(m))
	for i, x := range m {
		texts[i] = x.source + ": " + x.err.Error()
	}
	return "no source has an answer: " + strings.Join(texts, "; ")
}

func (m misses) Unwrap() []error {
	list := make([]error, len(m))
	for i, x := range m {
		list[i] = x.err
	}
	return list
}
