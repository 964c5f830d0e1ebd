package main

import (
	"context"
	"time"
)

// longestPause is between two looks at a candidate in probation, whatever health.interval says.
const longestPause = time.Second

// rounds is how a candidate in probation is looked at: at once, since a stretch may be shorter than a pause, and then
// again and again. From the begin of one look to that of the next it is pause, or as long as the look takes when that is more.
type rounds struct {
	pause  time.Duration
	look   func(context.Context) error // evidence against the candidate, or nil
	passed func() bool                 // when its time is over
	tick   func(left time.Duration)    // about once a second
}

// run returns nil when the candidate has passed, what a look returned, or the cause of ctx.
func (r rounds) run(ctx context.Context, left time.Duration) error {
	last, told := time.Now(), time.Now()
	next := time.NewTicker(r.pause)
	defer next.Stop()
	for {
		if err := r.look(ctx); err != nil {
			return err
		}
		now := time.Now()
		left -= now.Sub(last) // the monotonic clock: neither a set clock nor a suspended machine counts
		last = now
		if left <= 0 && r.passed() {
			return nil
		}
		if now.Sub(told) >= time.Second {
			told = now
			r.tick(max(left, 0))
		}
		select {
		case <-ctx.Done():
			r.tick(max(left, 0))
			return context.Cause(ctx)
		case <-next.C:
		}
	}
}
