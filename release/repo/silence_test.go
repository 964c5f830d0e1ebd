package repo

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// drip answers with a byte after each pause, as a request that ends with its context.
type drip struct {
	ctx    context.Context
	pauses []time.Duration
}

func (s *drip) Read(b []byte) (int, error) {
	if len(s.pauses) == 0 {
		return 0, io.EOF
	}
	select {
	case <-s.ctx.Done():
		return 0, s.ctx.Err()
	case <-time.After(s.pauses[0]):
		s.pauses = s.pauses[1:]
		return copy(b, "x"), nil
	}
}

func (s *drip) Close() error { return nil }

// What goes on coming is read however long it takes; what stops coming ends.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = time.Minute
		for last, want := range map[time.Duration]error{most - time.Second: nil, most + time.Second: errSilent} {
			ctx, w := watch(t.Context(), most)
			w.body = &drip{ctx, []time.Duration{most - time.Second, most - time.Second, last}}
			data, err := io.ReadAll(w)
			if !errors.Is(err, want) || err == nil && len(data) != 3 {
				t.Errorf("after %v: %q, %v; want %v", last, data, err, want)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
