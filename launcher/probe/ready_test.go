package probe

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// script answers by the time since it was made.
func script(ok func(since time.Duration) bool) func(context.Context) Result {
	begun := time.Now()
	return func(context.Context) Result {
		return Result{OK: ok(time.Since(begun)), Text: "scripted", At: time.Now()}
	}
}

func TestReadyFindsReadinessSoon(t *testing.T) {
	for _, at := range []time.Duration{0, 5 * time.Millisecond, 20 * time.Millisecond, time.Second, 4 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			once := script(func(since time.Duration) bool { return since >= at })
			_, err := ready(t.Context(), once, asking{interval: time.Second, good: 1})
			late := time.Since(begun) - at
			if err != nil || late > max(at/7, 2*time.Millisecond) {
				t.Errorf("ready at %s: found %s later, %v", at, late, err)
			}
		})
	}
}

func TestReadyPausesNoLongerThanTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		last := time.Now()
		var longest time.Duration
		once := script(func(since time.Duration) bool {
			longest, last = max(longest, time.Since(last)), time.Now()
			return since > 10*time.Minute
		})
		if _, err := ready(t.Context(), once, asking{interval: time.Second, good: 1}); err != nil || longest != time.Second {
			t.Errorf("longest pause %s, %v", longest, err)
		}
	})
}

func TestReadyWantsARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []bool{true, true, false, true, false, true, true, true}
		n := 0
		once := func(context.Context) Result {
			n++
			return Result{OK: answers[n-1]}
		}
		told, err := ready(t.Context(), once, asking{interval: time.Second, good: 3})
		if err != nil || n != len(answers) || len(told) != n {
			t.Errorf("asked %d times, %d told, %v", n, len(told), err)
		}
	})
}

func TestReadyGivesUp(t *testing.T) {
	never := func(time.Duration) bool { return false }
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		begun := time.Now()
		told, err := ready(ctx, script(never), asking{interval: time.Second, good: 1})
		if !errors.Is(err, ErrNeverHealthy) || !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 30*time.Second {
			t.Errorf("at the deadline: %v after %s", err, time.Since(begun))
		}
		if len(told) != maxTranscript || time.Since(told[0].At) > 40*time.Second {
			t.Errorf("transcript of %d", len(told))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		order := errors.New("operator's order")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(order) })
		if _, err := ready(ctx, script(never), asking{interval: time.Second, good: 1}); !errors.Is(err, order) || errors.Is(err, ErrNeverHealthy) {
			t.Errorf("told to stop: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		died := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(died) })
		begun := time.Now()
		_, err := ready(t.Context(), script(never), asking{interval: time.Minute, good: 1, died: died})
		if !errors.Is(err, ErrExited) || time.Since(begun) != time.Second {
			t.Errorf("died: %v after %s", err, time.Since(begun))
		}
	})
}
