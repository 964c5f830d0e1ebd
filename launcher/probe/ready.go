package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

var (
	// ErrExited is returned by Ready when the process ended while it was asked.
	ErrExited = errors.New("the process ended before it was healthy")
	// ErrNeverHealthy is returned by Ready when the deadline of its context came first.
	ErrNeverHealthy = errors.New("never healthy")
)

// maxTranscript bounds what is kept of the answers: the last ones tell.
const maxTranscript = 32

// Ready asks until good answers in a row were good, and returns the last answers, at most 32. It returns
// ErrExited as soon as died is closed, ErrNeverHealthy at the deadline of ctx, and the cause of ctx when
// that was cancelled for another reason.
//
// The first question is asked at once, and each pause is an eighth of the time spent so far, from 2 ms up
// to c.Interval: a version that starts in 20 ms is found ready about 3 ms later, one that starts in a
// minute is not asked thousands of times.
func Ready(ctx context.Context, c Check, good int, died <-chan struct{}) ([]Result, error) {
	c = c.withDefaults()
	if c.Kind == None {
		good = 1 // the answer is always the same
	}
	return ready(ctx, c.Once, asking{interval: c.Interval, good: good, died: died})
}

// asking is how Ready asks.
type asking struct {
	interval time.Duration
	good     int
	died     <-chan struct{}
}

func ready(ctx context.Context, once func(context.Context) Result, a asking) ([]Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() { // so that the end of the process also ends a question under way
		defer close(watched)
		select {
		case <-a.died:
			cancel(ErrExited)
		case <-ctx.Done():
		}
	}()
	defer func() {
		cancel(nil)
		<-watched
	}()

	var told []Result
	begun, row := time.Now(), 0
	for asked := 1; ; asked++ {
		r := once(ctx)
		select {
		case <-a.died: // then whoever answered was not this process
			cancel(ErrExited)
		default:
		}
		if ctx.Err() != nil {
			return told, ended(ctx, told, asked, time.Since(begun))
		}
		told = remember(told, r)
		if row++; !r.OK {
			row = 0
		}
		if row >= max(a.good, 1) {
			return told, nil
		}
		select {
		case <-time.After(pause(time.Since(begun), a.interval)):
		case <-ctx.Done():
			return told, ended(ctx, told, asked, time.Since(begun))
		}
	}
}

func pause(spent, longest time.Duration) time.Duration {
	return min(max(spent/8, 2*time.Millisecond), longest)
}

// ended says why Ready gave up.
func ended(ctx context.Context, told []Result, asked int, spent time.Duration) error {
	err := context.Cause(ctx)
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrExited) {
		return err // told to stop
	}
	last := "no answer yet"
	if len(told) > 0 {
		last = "last: " + told[len(told)-1].Text
	}
	if errors.Is(err, ErrExited) {
		return fmt.Errorf("%w (asked %d times in %s, %s)", ErrExited, asked, spent.Round(time.Millisecond), last)
	}
	return fmt.Errorf("%w: asked %d times in %s, %s: %w", ErrNeverHealthy, asked, spent.Round(time.Millisecond), last, err)
}

func remember(told []Result, r Result) []Result {
	told = append(told, r)
	if over := len(told) - maxTranscript; over > 0 {
		told = slices.Delete(told, 0, over)
	}
	return told
}
