package updater

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// rig is an engine that runs over a world, in a bubble of time.
type rig struct {
	*world
	t     *testing.T
	ended chan error
	stop  context.CancelFunc
}

// in runs f with an engine over w that has not begun yet.
func in(t *testing.T, good, offered []int, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, good, offered)
		w.enough = 1 << 30
		r := &rig{world: w, t: t}
		w.updater()
		f(t, r)
		if r.stop != nil {
			r.halt()
		}
	})
}

// begin starts the launcher, or starts it again.
func (r *rig) launch() {
	r.world.t = r.t
	ctx, cancel := context.WithCancel(r.t.Context())
	r.stop = cancel
	ended := make(chan error, 1)
	r.ended = ended
	u := r.u
	go func() {
		defer func() {
			if p := recover(); p != nil {
				ended <- fmt.Errorf("panic: %v", p)
			}
		}()
		ended <- u.Run(ctx)
	}()
	r.pass(0)
}

// halt stops the engine in order and returns what Run did.
func (r *rig) halt() error {
	r.pass(0)
	r.stop()
	r.stop = nil
	return <-r.ended
}

// restart is an orderly stop of the machine and its start.
func (r *rig) restart() {
	if err := r.halt(); !errors.Is(err, context.Canceled) {
		r.t.Errorf("stopped with %v", err)
	}
	r.procs = map[string]*proc{}
	r.updater()
	r.launch()
}

// crash is a power cut and the start after it.
func (r *rig) crash() {
	r.cut.left, r.cut.power = 1, true
	for range 1000 {
		r.pass(time.Second)
		if r.cut.dead {
			break
		}
	}
	<-r.ended
	r.disk = r.disk.Crash(0)
	r.cut = &cutter{Disk: r.disk}
	r.procs = map[string]*proc{}
	r.updater()
	r.launch()
}

// pass lets time pass in the bubble, and everything that comes with it happen.
func (r *rig) pass(d time.Duration) {
	r.meet()
	time.Sleep(d)
	synctest.Wait()
	r.meet()
}

// until waits, in the time of the bubble, for something to come true. The engine is at rest whenever it looks.
func (r *rig) until(what string, is func() bool) {
	r.t.Helper()
	r.pass(0)
	for range 100000 {
		if is() {
			return
		}
		r.pass(100 * time.Millisecond)
	}
	r.t.Fatalf("never came: %s; %+v", what, r.u.Status())
}

func (r *rig) reach(p Phase) {
	r.t.Helper()
	r.until(string(p), func() bool { return r.phase() == p })
}

// rest waits for the end of the n-th update.
func (r *rig) rest(n int) Entry {
	r.t.Helper()
	r.until(fmt.Sprintf("end %d", n), func() bool { return len(r.story) >= n })
	return r.story[n-1]
}

// hold makes the next begin of a step wait until its context ends or the function that is returned is called.
func (r *rig) hold(step string, n int) (release func()) {
	gate := make(chan struct{})
	done := false
	r.on = func(ctx context.Context, s string, v Version) {
		if s == step && v.Epoch == uint64(n) && !done {
			done = true
			select {
			case <-gate:
			case <-ctx.Done():
			}
		}
	}
	return func() { close(gate) }
}

// order gives an order and lets the engine do what it does at once.
func (r *rig) order(o Order) error {
	defer r.pass(0)
	return r.u.Order(r.t.Context(), o)
}

func (r *rig) expect(active int, outcome Outcome) {
	r.t.Helper()
	if got := r.state().Good[0]; got != version(active) {
		r.t.Errorf("%s is active, want %s", got.Number, version(active).Number)
	}
	if last := r.story[len(r.story)-1]; last.Outcome != outcome {
		r.t.Errorf("ended %+v, want %s", last, outcome)
	}
	if !slices.Equal(r.serving(), []string{version(active).Number}) {
		r.t.Errorf("%v accept connections", r.serving())
	}
}
