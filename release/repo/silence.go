package repo

import (
	"context"
	"errors"
	"io"
	"time"
)

// longestSilence is how long an object store may take for an answer to begin, its retries included, and between two of
// its bytes.
const longestSilence = time.Minute

var errSilent = errors.New("the object store has fallen silent")

// watched is a body whose reading ends with an error when nothing comes any more.
type watched struct {
	body  io.ReadCloser
	ctx   context.Context
	timer *time.Timer
	most  time.Duration
	end   func()
}

// watch begins to wait for what is asked with the context that it returns.
func watch(ctx context.Context, most time.Duration) (context.Context, *watched) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(most, func() { cancel(errSilent) })
	return ctx, &watched{ctx: ctx, timer: timer, most: most, end: func() { timer.Stop(); cancel(nil) }}
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.body.Read(b)
	if err != nil && err != io.EOF && w.ctx.Err() != nil {
		err = context.Cause(w.ctx)
	}
	w.timer.Reset(w.most)
	return n, err
}

func (w *watched) Close() error {
	defer w.end()
	return w.body.Close()
}
