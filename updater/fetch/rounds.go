package fetch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// mostRounds bounds a download whose line breaks again and again and yet brings something each time.
const mostRounds = 100

// rounds is how long to go on.
type rounds struct {
	fruitless int          // in a row, the one before them that brought something included
	have      func() int64 // what has come so far; nil if nothing is kept of a failed try
}

// persist calls try with one source after the other, in rounds, until it succeeds, every source has failed for
// good, or enough rounds have brought nothing. Between rounds it rests, and between sources it does not: another
// mirror has nothing to recover from.
func (r *Repository) persist(ctx context.Context, bound rounds, try func(named) error) error {
	backoff := r.o.Backoff
	left := slices.Clone(r.srcs)
	failed := make(map[string]error)
	fruitless, last := 0, int64(0)
	for round := 1; ; round++ {
		for _, src := range slices.Clone(left) {
			err := try(src)
			if err == nil {
				return nil
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			var own localError
			if errors.As(err, &own) {
				return err // another source meets the same disk
			}
			failed[src.address] = err
			var p passing
			if !errors.As(err, &p) {
				left = slices.DeleteFunc(left, func(s named) bool { return s.address == src.address })
			}
			if r.o.Skipped != nil && len(r.srcs) > 1 {
				r.o.Skipped(src.address, err)
			}
		}
		fruitless++
		if bound.have != nil && bound.have() >= last+chunkBytes {
			fruitless, last, backoff = 1, bound.have(), r.o.Backoff
		}
		if len(left) == 0 || fruitless >= bound.fruitless || round >= mostRounds {
			return r.outcome(failed, round)
		}
		// Spread, or every host that a failing server turned away comes back at the same moment.
		select {
		case <-time.After(backoff/2 + rand.N(backoff)):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		backoff = min(2*backoff, longestBackoff)
	}
}

// outcome words what the last try at each source came to.
func (r *Repository) outcome(failed map[string]error, tries int) error {
	var all failures
	for _, src := range r.srcs {
		err := failed[src.address]
		var p passing
		if errors.As(err, &p) {
			err = fmt.Errorf("%w (tried %d times)", err, tries)
		}
		if len(r.srcs) == 1 {
			return err
		}
		all = append(all, fmt.Errorf("%s: %w", src.address, err))
	}
	return all
}

// failures are what several sources came to, on one line.
type failures []error

func (f failures) Error() string {
	texts := make([]string, len(f))
	for i, err := range f {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (f failures) Unwrap() []error { return f }

// localError is a failure of this machine.
type localError struct{ error }

func (l localError) Unwrap() error { return l.error }
