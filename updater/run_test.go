package updater

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// rig is an engine that runs over a world, in a bubble of time.
type rig struct {
	*world
	t     *testing.T
	held  chan struct{}
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
	synctest.Wait()
}

// halt stops the engine in order and returns what Run did.
func (r *rig) halt() error {
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
		time.Sleep(time.Second)
		synctest.Wait()
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

// until waits, in the time of the bubble, for something to come true.
func (r *rig) until(what string, is func() bool) {
	r.t.Helper()
	for range 100000 {
		if is() {
			return
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
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

func (r *rig) order(o Order) error { return r.u.Order(r.t.Context(), o) }

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

func TestHistory(t *testing.T) {
	in(t, []int{1}, []int{2}, func(t *testing.T, r *rig) {
		r.on = func(_ context.Context, step string, _ Version) {
			if step == "fetch" || step == "switch" {
				time.Sleep(1500 * time.Millisecond)
			}
		}
		r.launch()
		e := r.rest(1)
		if e.Outcome != Committed || e.From != "1.1.0" || e.To != "1.2.0" || e.Digest != version(2).Digest || e.SwitchMS != 1500 || e.Millis["fetching"] != 1500 || e.Millis["probation"] != 25000 || e.Verdict != "" {
			t.Errorf("%+v", e)
		}
		r.offer(3)
		r.sick["watch 1.3.0"] = errBad
		_, store := r.open()
		if proven, err := store.Proven(); err != nil || !slices.Equal(proven, versions(2, 1)) {
			t.Errorf("proven: %v, %v", proven, err)
		}
		must(t, r.order(Order{Kind: OrderCheck}))
		e = r.rest(2)
		if e.Outcome != RolledBack || e.From != "1.2.0" || e.Verdict != journal.Bad || e.Failed != journal.Probation || e.RollbackMS != 1500 || !strings.Contains(e.Reason, "exit code 2") || e.Evidence == nil || e.Evidence.Exit != "exit code 2" {
			t.Errorf("%+v", e)
		}
		r.expect(2, RolledBack)
	})
}

// Before anything else the active version serves, and with the vendor unreachable it goes on doing so.
func TestColdStart(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		var steps []string
		r.procs = map[string]*proc{}
		r.sick["check "] = errors.New("no route to host")
		r.on = func(_ context.Context, s string, v Version) { steps = append(steps, s+" "+v.Number) }
		r.launch()
		time.Sleep(24 * time.Hour)
		if steps[0] != "serve 1.2.0" || !slices.Equal(r.serving(), []string{"1.2.0"}) {
			t.Errorf("first %s, serving %v", steps[0], r.serving())
		}
		if n := len(steps); n < 20 || n > 40 { // half a minute, doubling to an hour
			t.Errorf("%d steps in a day", n)
		}
		if s := r.u.Status(); !strings.Contains(s.CheckErr, "no route") || r.cut.ops == 0 {
			t.Errorf("%+v", s)
		}
		delete(r.sick, "check ")
		r.rest(1)
		r.expect(3, Committed)
	})
}

// Idle writes nothing.
func TestIdleDoesNotWrite(t *testing.T) {
	in(t, []int{2, 1}, []int{2}, func(t *testing.T, r *rig) {
		r.launch()
		before := r.disk.Ops()
		time.Sleep(30 * 24 * time.Hour)
		if n := r.disk.Ops() - before; n != 0 {
			t.Errorf("%d writes in an idle month", n)
		}
	})
}

func TestWorldIsTriedAgain(t *testing.T) {
	for _, step := range []string{"fetch", "verify", "warm", "switch", "watch"} {
		t.Run(step, func(t *testing.T) {
			in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
				r.sick[step+" 1.3.0"] = errors.New("out of memory")
				r.launch()
				e := r.rest(2) // after the first it begins anew with the same release
				if e.Verdict != journal.World || e.To != "1.3.0" || len(r.state().Quarantine) != 0 {
					t.Errorf("%+v", e)
				}
				tried := 0
				for _, ev := range r.events {
					if ev.Kind == "retry" {
						tried++
					}
				}
				if tried != 2*(maxStarts-1) {
					t.Errorf("%d times tried again", tried)
				}
				delete(r.sick, step+" 1.3.0")
				r.rest(3)
				r.expect(3, Committed)
			})
		})
	}
}

func TestBadIsNot(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.sick["warm 1.3.0"] = Bad(errors.New("never became healthy"))
		r.launch()
		r.rest(1)
		delete(r.sick, "warm 1.3.0")
		time.Sleep(7 * 24 * time.Hour)
		r.expect(2, Discarded)
		if len(r.story) != 1 || !r.heard("quarantine") {
			t.Errorf("%d updates in a week", len(r.story))
		}
		must(t, r.order(Order{Kind: OrderClear}))
		r.rest(2)
		r.expect(3, Committed)
	})
}

// A stop keeps the phase, and a step that was stopped is not held against anyone.
func TestStopKeepsThePhase(t *testing.T) {
	for _, at := range []struct{ step, phase string }{{"fetch", "fetching"}, {"verify", "staging"}, {"warm", "warming"}, {"switch", "switching"}, {"watch", "probation"}} {
		t.Run(at.phase, func(t *testing.T) {
			in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
				for range 10 {
					r.hold(at.step, 3)
					if r.stop == nil {
						r.launch()
					} else {
						r.restart()
					}
					r.reach(Phase(at.phase))
					time.Sleep(10 * time.Second)
				}
				must(t, nil)
				r.on = nil
				r.restart()
				if st := r.state(); st.Clean || st.Boots > 0 || st.Starts > 1 {
					t.Errorf("%+v", st)
				}
				r.rest(1)
				r.expect(3, Committed)
			})
		})
	}
}

// A step that brings the launcher down is not begun for ever.
func TestStartsAreCounted(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		begun := 0
		r.on = func(_ context.Context, step string, v Version) {
			if step == "warm" && v.Epoch == 3 && begun < 4 {
				begun++
				panic("killed")
			}
		}
		r.launch()
		for r.phase() != journal.Idle || len(r.story) == 0 {
			select {
			case err := <-r.ended:
				if !strings.Contains(err.Error(), "killed") {
					t.Fatal(err)
				}
				r.launch()
			default:
				time.Sleep(time.Second)
			}
		}
		if begun != maxStarts || r.story[0].Verdict != journal.World || len(r.state().Quarantine) != 0 {
			t.Errorf("begun %d times, %+v", begun, r.story[0])
		}
		r.on = nil
		r.rest(2)
		r.expect(3, Committed)
	})
}

// A machine that goes down with the candidate three times goes back; a launcher that dies alone does not.
func TestBootsAreCounted(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.launch()
		for boot := range maxBoots + 1 {
			r.reach(journal.Probation)
			if got := r.state().Boots; got != boot {
				t.Errorf("%d boots counted, want %d", got, boot)
			}
			r.crash()
		}
		if e := r.rest(1); e.Verdict != journal.Bad {
			t.Errorf("%+v", e)
		}
		r.expect(2, RolledBack)
	})
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.launch()
		for range 10 {
			r.reach(journal.Probation)
			r.cut.left = 1
			<-r.ended
			r.cut.left, r.cut.dead = 0, false
			r.updater()
			r.launch()
		}
		if st := r.state(); st.Boots != 0 || st.Phase != journal.Probation {
			t.Errorf("%+v", st)
		}
		r.rest(1)
		r.expect(3, Committed)
	})
}

// The boot is counted before the candidate is started: the start may be what brings the machine down.
func TestBootsAreCountedFirst(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		deaths := 0
		r.on = func(_ context.Context, step string, v Version) {
			if step == "watch" && v.Epoch == 3 || step == "serve" && v.Epoch == 3 {
				deaths++
				r.cut.left, r.cut.power = 1, true // at the tick that follows
			}
		}
		r.launch()
		for len(r.story) == 0 {
			time.Sleep(time.Second)
			synctest.Wait()
			if !r.cut.dead {
				continue
			}
			<-r.ended
			r.disk = r.disk.Crash(0)
			r.cut = &cutter{Disk: r.disk}
			r.procs = map[string]*proc{}
			r.updater()
			r.launch()
		}
		if deaths != 1+maxBoots {
			t.Errorf("brought the machine down %d times", deaths)
		}
		r.expect(2, RolledBack)
	})
}

// Probation is counted: the time that the launcher or the machine was off is not part of it, and no more than
// saveEvery is lost to a power cut.
func TestProbationIsCounted(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.launch()
		r.reach(journal.Probation)
		time.Sleep(13 * time.Second)
		must(t, errors.Join(r.haltIn(journal.Probation)))
		if st := r.state(); st.Remaining > 12*time.Second || st.Remaining < 11*time.Second || !st.Clean {
			t.Errorf("stopped with %+v", st)
		}
		time.Sleep(24 * time.Hour)
		r.procs = map[string]*proc{}
		r.updater()
		r.launch()
		if !slices.Equal(r.serving(), []string{"1.3.0"}) || len(r.Running()) != 2 {
			t.Errorf("after the boot %v accept connections, %d run", r.serving(), len(r.Running()))
		}
		begun := time.Now()
		r.rest(1)
		if d := time.Since(begun); d < 11*time.Second || d > 13*time.Second {
			t.Errorf("committed after %v more", d)
		}
	})
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.launch()
		r.reach(journal.Probation)
		time.Sleep(13 * time.Second)
		r.crash()
		if left := r.state().Remaining; left > probationTime-saveEvery || left == 0 {
			t.Errorf("%v are left of %v after 13 s", left, probationTime)
		}
		r.rest(1)
		r.expect(3, Committed)
	})
}

func (r *rig) haltIn(p Phase) error {
	if err := r.halt(); !errors.Is(err, context.Canceled) {
		return err
	}
	if got := r.state().Phase; got != p {
		return fmt.Errorf("stopped in %s", got)
	}
	return nil
}

// An order interrupts what may be interrupted and waits for what may not.
func TestOrdersInterrupt(t *testing.T) {
	for _, tc := range []struct {
		step  string
		n     int
		phase Phase
		waits bool
	}{
		{"fetch", 3, journal.Fetching, false},
		{"verify", 3, journal.Staging, false},
		{"warm", 3, journal.Warming, false},
		{"switch", 3, journal.Switching, true},
		{"watch", 3, journal.Probation, false},
		{"retire", 2, journal.Retiring, true},
		{"switch", 2, journal.Reverting, true},
		{"retire", 3, journal.Discarding, true},
	} {
		t.Run(string(tc.phase), func(t *testing.T) {
			in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
				if tc.phase == journal.Reverting || tc.phase == journal.Discarding {
					r.sick["switch 1.3.0"] = errBad
				}
				release := r.hold(tc.step, tc.n)
				r.launch()
				r.reach(tc.phase)
				time.Sleep(time.Minute)
				answer := make(chan error, 1)
				go func() { answer <- r.order(Order{Kind: OrderPin, Number: "1.3.0", Reason: "test"}) }()
				time.Sleep(time.Minute)
				select {
				case err := <-answer:
					if tc.waits || err != nil {
						t.Errorf("answered at once: %v", err)
					}
				default:
					if !tc.waits {
						t.Errorf("the step was not interrupted")
					}
					release()
					must(t, <-answer)
				}
				if st := r.state(); st.Starts > 1 || r.heard("retry") {
					t.Errorf("the order was held against the step: %+v", st)
				}
				if p := r.state().Pin; p == nil || p.Number != "1.3.0" {
					t.Errorf("answered before it was saved: %+v", p)
				}
				r.rest(1)
				if tc.phase == journal.Reverting || tc.phase == journal.Discarding {
					r.expect(2, r.story[0].Outcome)
				} else {
					r.expect(3, Committed)
				}
			})
		})
	}
}

// A rollback is an update to the version before, and what it leaves is not installed again.
func TestRollback(t *testing.T) {
	for _, p := range []Phase{journal.Idle, journal.Fetching, journal.Warming, journal.Probation} {
		t.Run(string(p), func(t *testing.T) {
			in(t, []int{2, 1}, []int{2}, func(t *testing.T, r *rig) {
				want, steps := 1, map[Phase]string{journal.Fetching: "fetch", journal.Warming: "warm", journal.Probation: "watch"}
				if p != journal.Idle {
					r.offer(3)
					r.hold(steps[p], 3)
				}
				if p == journal.Probation {
					want = 2
				}
				if p == journal.Warming { // the candidate runs by now
					r.on = func(ctx context.Context, step string, _ Version) {
						if step == "check" && r.phase() == journal.Warming {
							<-ctx.Done()
						}
					}
				}
				r.launch()
				r.reach(p)
				time.Sleep(10 * time.Second)
				must(t, r.order(Order{Kind: OrderRollback, Reason: "too slow"}))
				if p != journal.Probation {
					r.reach(journal.Probation)
					if !slices.EqualFunc(r.Running(), versions(1, 2), func(a, b Version) bool { return is(a)(b) }) {
						t.Errorf("%v run", r.Running())
					}
				}
				if p != journal.Idle && p != journal.Probation {
					r.offer(2)
					r.rest(2) // the candidate that was let go
				}
				e := r.rest(1)
				if p == journal.Idle && (e.To != "1.1.0" || e.From != "1.2.0" || e.Reason != "too slow") {
					t.Errorf("%+v", e)
				}
				r.offer(3, 2)
				if p != journal.Probation {
					r.offer(2)
				}
				time.Sleep(48 * time.Hour)
				r.expect(want, r.story[len(r.story)-1].Outcome)
				if len(r.Running()) != 1 {
					t.Errorf("%v run", r.Running())
				}
				if p == journal.Probation {
					return
				}
				if err := r.order(Order{Kind: OrderRollback}); !errors.Is(err, ErrNoPrevious) {
					t.Errorf("rolled back once more: %v", err)
				}
				must(t, r.order(Order{Kind: OrderClear}))
				n := len(r.story)
				r.rest(n + 1)
				r.expect(2, Committed)
			})
		})
	}
}

// The order to leave a version that has just been left by itself must not leave another one.
func TestRollbackCrossesAnAutomaticOne(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.sick["watch 1.3.0"] = errBad
		release := r.hold("switch", 2)
		r.launch()
		r.reach(journal.Reverting)
		answer := make(chan error, 1)
		go func() { answer <- r.order(Order{Kind: OrderRollback}) }()
		synctest.Wait()
		release()
		if err := <-answer; !errors.Is(err, ErrNothing) {
			t.Errorf("answered %v", err)
		}
		time.Sleep(time.Hour)
		r.expect(2, RolledBack)
	})
}

func TestOrderedUpdate(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		must(t, r.halfPaused())
		must(t, r.order(Order{Kind: OrderUpdate}))
		synctest.Wait()
		if st := r.state(); st.Want != nil || st.Phase != journal.Idle || !strings.Contains(st.Reason, "paused") {
			t.Errorf("%+v", st)
		}
		must(t, r.order(Order{Kind: OrderUpdate, Number: "1.9.0", Now: true}))
		synctest.Wait()
		if st := r.state(); st.Want != nil || !strings.Contains(st.Reason, "1.9.0 is not among") {
			t.Errorf("%+v", st)
		}
		must(t, r.order(Order{Kind: OrderUpdate, Now: true}))
		r.rest(2) // the first was let go by the pause
		r.expect(3, Committed)
		must(t, r.order(Order{Kind: OrderUpdate}))
		synctest.Wait()
		if st := r.state(); st.Want != nil || !strings.Contains(st.Reason, "1.3.0 is active") {
			t.Errorf("%+v", st)
		}
	})
}

func (r *rig) halfPaused() error {
	r.hold("fetch", 3)
	r.launch()
	r.reach(journal.Fetching)
	return r.order(Order{Kind: OrderPause, Reason: "holiday"})
}

// A pause with an end ends by itself, without waiting for the next poll.
func TestPauseEnds(t *testing.T) {
	in(t, []int{2, 1}, []int{2}, func(t *testing.T, r *rig) {
		r.launch()
		must(t, r.order(Order{Kind: OrderPause, Until: time.Now().Add(90 * time.Minute)}))
		r.offer(3)
		begun := time.Now()
		r.reach(journal.Probation)
		if d := time.Since(begun); d < 90*time.Minute || d > 91*time.Minute {
			t.Errorf("begun after %v", d)
		}
	})
}

func TestSuperseded(t *testing.T) {
	for step, phase := range map[string]Phase{"fetch": journal.Fetching, "verify": journal.Staging, "warm": journal.Warming, "watch": journal.Probation} {
		t.Run(step, func(t *testing.T) {
			in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
				if step == "watch" {
					r.u.Poll = 5 * time.Second
				}
				release := r.hold(step, 3)
				r.launch()
				r.reach(phase)
				r.offer(3, 4)
				if step == "watch" {
					r.offer(4)
				}
				begun := time.Now()
				release()
				e := r.rest(1)
				if step == "watch" { // it serves: the newer one waits its turn
					if e.Outcome != Committed {
						t.Errorf("%+v", e)
					}
				} else if e.Outcome != Discarded || e.Verdict != journal.Superseded {
					t.Errorf("%+v", e)
				}
				r.rest(2)
				if d := time.Since(begun); step != "watch" && d > probationTime+time.Second {
					t.Errorf("the newer one came after %v", d)
				}
				r.expect(4, Committed)
				if st := r.state(); len(st.Quarantine)+len(st.Held) != 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// A disk that takes no more writes keeps nobody from going back, and lets nobody go on.
func TestJournalThatCannotBeWritten(t *testing.T) {
	full := func(op durabletest.Op) error {
		if strings.HasPrefix(op.Name, "journal") {
			return errors.New("input/output error")
		}
		return nil
	}
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.launch()
		r.reach(journal.Probation)
		time.Sleep(2 * time.Second)
		r.disk.Fail(full)
		r.sick["watch 1.3.0"] = Bad(errors.New("answers 503"))
		begun := time.Now()
		r.until("1.2.0 serves", func() bool { return slices.Equal(r.serving(), []string{"1.2.0"}) })
		if d := time.Since(begun); d > 6*time.Second { // the next look of the watch
			t.Errorf("the disk delayed the way back by %v", d)
		}
		time.Sleep(time.Hour)
		if len(r.Running()) != 2 || !r.heard("alarm") {
			t.Errorf("went on without a journal: %v", r.Running())
		}
		r.disk.Fail(nil)
		r.rest(1)
		r.expect(2, RolledBack)
	})
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		began := false
		r.on = func(_ context.Context, step string, _ Version) {
			began = began || step == "fetch"
			if step == "check" && r.phase() == journal.Idle {
				r.disk.Fail(full)
			}
		}
		r.launch()
		time.Sleep(time.Hour)
		if began || !slices.Equal(r.serving(), []string{"1.2.0"}) {
			t.Error("a forward step began without a saved journal")
		}
		if err := r.u.Order(t.Context(), Order{Kind: OrderPause}); err == nil || r.u.Status().State.Pause != nil {
			t.Errorf("an order was accepted that is not saved: %v", err)
		}
		r.disk.Fail(nil)
		r.rest(1)
		r.expect(3, Committed)
	})
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.launch()
		r.reach(journal.Probation)
		r.disk.Fail(full)
		must(t, r.order(Order{Kind: OrderRollback})) // taken although it cannot be saved
		synctest.Wait()
		if !slices.Equal(r.serving(), []string{"1.2.0"}) {
			t.Errorf("%v accept connections", r.serving())
		}
		r.disk.Fail(nil)
		r.rest(1)
		if !slices.ContainsFunc(r.state().Held, marks(version(3))) {
			t.Errorf("%+v", r.state())
		}
	})
}

// With no way back at all, what runs keeps running, and the way back is taken once there is one.
func TestNoWayBack(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.launch()
		r.reach(journal.Probation)
		r.damage(version(2))
		r.damage(version(1))
		delete(r.procs, version(2).Digest)
		r.sick["watch 1.3.0"] = Bad(errors.New("answers 503"))
		time.Sleep(time.Hour)
		if !slices.Equal(r.serving(), []string{"1.3.0"}) || r.phase() != journal.Reverting || !r.heard("alarm") {
			t.Errorf("%v accept connections in %s", r.serving(), r.phase())
		}
		r.repair(version(2))
		r.rest(1)
		r.expect(2, RolledBack)
	})
}

func (r *rig) repair(v Version) {
	_, s := r.open()
	f, err := r.disk.OpenFile(s.File(v), os.O_WRONLY, 0)
	must(r.t, err)
	_, err = f.WriteAt(artifact(int(v.Epoch)), 0)
	must(r.t, errors.Join(err, f.Sync(), f.Close()))
}

// The active version is broken on disk at boot: the one before serves, and the broken one is fetched anew.
func TestActiveIsDamaged(t *testing.T) {
	in(t, []int{2, 1}, []int{2}, func(t *testing.T, r *rig) {
		r.procs = map[string]*proc{}
		r.damage(version(2))
		r.launch()
		if !slices.Equal(r.serving(), []string{"1.1.0"}) && r.phase() == journal.Idle {
			t.Errorf("%v accept connections", r.serving())
		}
		r.rest(1)
		r.expect(2, Committed)
		if !r.heard("alarm") {
			t.Error("nobody was told")
		}
	})
	in(t, []int{2}, nil, func(t *testing.T, r *rig) { // and it is the only one
		r.procs = map[string]*proc{}
		r.damage(version(2))
		r.launch()
		time.Sleep(time.Hour)
		r.repair(version(2))
		r.until("it serves", func() bool { return len(r.serving()) == 1 })
	})
}

func spoil(t *testing.T, d durable.Disk, b []byte) {
	for i := range 2 {
		f, err := d.OpenFile(fmt.Sprintf("journal/slot%d", i), os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteAt(b, 0)
		must(t, errors.Join(err, f.Sync(), f.Close()))
	}
}

// A damaged journal is made anew from what is proven to have served; a merely sealed version is not.
func TestDamagedJournal(t *testing.T) {
	in(t, []int{2, 1}, []int{2}, func(t *testing.T, r *rig) {
		_, s := r.open()
		must(t, durable.WriteFile(r.disk, s.Staged(version(3)), artifact(3), 0o600))
		must(t, s.Seal(t.Context(), version(3)))
		spoil(t, r.disk, make([]byte, 4096))
		r.procs = map[string]*proc{}
		r.updater()
		r.launch()
		if !slices.Equal(r.serving(), []string{"1.2.0"}) || !r.heard("alarm") {
			t.Errorf("%v accept connections", r.serving())
		}
		if st := r.state(); !slices.Equal(st.Good, versions(2, 1)) || st.HighWater != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// A journal from a newer launcher is not touched.
func TestNewerJournal(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		j, _ := r.open()
		st := r.state()
		must(t, j.Save(st))
		must(t, j.Save(st))
		f, err := durable.ReadFile(r.disk, "journal/slot0", 1<<20)
		must(t, err)
		newer := reprint(string(f), "schema=1", "schema=2")
		spoil(t, r.disk, []byte(newer))
		r.procs = map[string]*proc{}
		r.updater()
		before := r.disk.Ops()
		r.launch()
		if err := <-r.ended; !errors.Is(err, journal.ErrNewer) {
			t.Errorf("%v", err)
		}
		r.stop = nil
		after, err := durable.ReadFile(r.disk, "journal/slot0", 1<<20)
		must(t, err)
		if !slices.Equal(r.serving(), []string{"1.2.0"}) || !strings.HasPrefix(string(after), newer) {
			t.Errorf("%v accept connections, %d operations", r.serving(), r.disk.Ops()-before)
		}
	})
}

func TestOrdersAreBounded(t *testing.T) {
	in(t, []int{1}, nil, func(t *testing.T, r *rig) {
		for range maxOrders {
			must(t, r.u.enqueue(&request{order: Order{Kind: OrderCheck}, done: make(chan error, 1)}))
		}
		if err := r.order(Order{Kind: OrderCheck}); !errors.Is(err, ErrTooMany) {
			t.Errorf("%v", err)
		}
		r.u.orders = nil
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.u.Order(ctx, Order{Kind: OrderPause}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		r.launch()
		if r.state().Pause != nil {
			t.Error("an order that was taken back was carried out")
		}
	})
}

// A service that asks to wait is waited for.
func TestBusy(t *testing.T) {
	in(t, []int{1}, []int{2}, func(t *testing.T, r *rig) {
		end := time.Now().Add(20 * time.Minute)
		r.u.Busy = func() (string, time.Time) { return "month end", end }
		begun := time.Now()
		r.launch()
		r.reach(journal.Probation)
		if d := time.Since(begun); d < 20*time.Minute || d > 21*time.Minute {
			t.Errorf("begun after %v", d)
		}
	})
}

// reprint changes a journal slot and makes its checksum right again, as package journal specifies it.
func reprint(slot, from, to string) string {
	first, rest, _ := strings.Cut(slot, "\n")
	body, _, _ := strings.Cut(rest, "\n")
	head, _, _ := strings.Cut(strings.Replace(first, from, to, 1), " sha256=")
	sum := sha256.Sum256([]byte(head + "\n" + body))
	return head + " sha256=" + hex.EncodeToString(sum[:]) + "\n" + body + "\n"
}

// An order that comes between two steps does not wait for the next one to end.
func TestOrderBetweenSteps(t *testing.T) {
	in(t, []int{1}, []int{2}, func(t *testing.T, r *rig) {
		note := r.u.Notify
		r.u.Notify = func(e Event) {
			if note(e); e.Kind == "end" { // told before idle begins to wait
				must(t, r.u.enqueue(&request{order: Order{Kind: OrderPause}, done: make(chan error, 1)}))
			}
		}
		r.launch()
		r.rest(1)
		time.Sleep(time.Second)
		if r.state().Pause == nil {
			t.Error("the order waits for the next look at the channel")
		}
	})
}

// An order that could not be saved and was refused must not come back by the next boot.
func TestRefusedOrderIsTakenOut(t *testing.T) {
	in(t, []int{1}, []int{1}, func(t *testing.T, r *rig) {
		r.launch()
		r.disk.Fail(func(op durabletest.Op) error { // written, but the answer is bad
			if op.Kind == "sync" && strings.HasPrefix(op.Name, "journal") {
				return errors.New("input/output error")
			}
			return nil
		})
		if err := r.order(Order{Kind: OrderPause}); err == nil {
			t.Error("accepted")
		}
		r.disk.Fail(nil)
		time.Sleep(time.Minute)
		if r.state().Pause != nil {
			t.Error("the journal holds what was refused")
		}
	})
}

// What goes wrong with the staged file between fetching and staging.
func TestStagedFile(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil   func(r *rig, part string)
		fetched int
		active  int
	}{
		"gone":    {func(r *rig, part string) { must(r.t, r.disk.Remove(part)) }, 2, 3},
		"changed": {func(r *rig, part string) { must(r.t, durable.WriteFile(r.disk, part, artifact(7), 0o600)) }, 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
				fetched, spoilt := 0, false
				r.on = func(_ context.Context, step string, v Version) {
					if step == "fetch" {
						fetched++
					}
					if step == "check" && r.phase() == journal.Fetching && !spoilt {
						spoilt = true
						tc.spoil(r, r.u.Store.Staged(version(3)))
					}
				}
				r.launch()
				e := r.rest(1)
				if r.state().Good[0] != version(tc.active) || fetched != tc.fetched || r.heard("retry") {
					t.Errorf("%+v, fetched %d times", e, fetched)
				}
				if bad := tc.active == 2; bad != (e.Verdict == journal.Bad) {
					t.Errorf("%+v", e)
				}
			})
		})
	}
}

// A way back that is short of memory for a moment is not given up for an older one.
func TestWayBackIsTriedAgain(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.sick["watch 1.3.0"] = Bad(errors.New("answers 503"))
		r.sick["switch 1.2.0"] = errors.New("no memory")
		r.launch()
		r.reach(journal.Reverting)
		time.Sleep(time.Second)
		delete(r.sick, "switch 1.2.0")
		r.rest(1)
		r.expect(2, RolledBack)
		if e := r.story[0]; !strings.Contains(e.Reason, "503") {
			t.Errorf("the reason was lost: %+v", e)
		}
	})
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) { // but not for ever
		r.sick["watch 1.3.0"] = Bad(errors.New("answers 503"))
		r.sick["switch 1.2.0"] = errors.New("no memory")
		r.launch()
		r.rest(1)
		r.expect(1, RolledBack)
	})
}

// A version that rots on disk after it was sealed: a new one is fetched anew, and one to go back to is given up.
func TestDamagedBeforeWarming(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		rotten := false
		r.on = func(_ context.Context, step string, _ Version) {
			if step == "check" && r.phase() == journal.Staging && !rotten {
				rotten = true
				r.damage(version(3))
			}
		}
		r.launch()
		if e := r.rest(1); e.Verdict != journal.World {
			t.Errorf("%+v", e)
		}
		r.rest(2)
		r.expect(3, Committed)
	})
	in(t, []int{3, 2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.launch()
		r.damage(version(2))
		must(t, r.order(Order{Kind: OrderRollback}))
		if e := r.rest(1); e.Verdict != journal.Bad || e.Failed != journal.Warming {
			t.Errorf("%+v", e)
		}
		r.expect(3, Discarded)
		must(t, r.order(Order{Kind: OrderRollback}))
		r.rest(2)
		r.expect(1, Committed)
	})
}

// An order to update that comes while an update is on its way has its turn after it, at once; and one that
// was fulfilled opens no gate for the next release.
func TestOrderedUpdateHasItsTurn(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.launch()
		r.reach(journal.Probation)
		time.Sleep(time.Second)
		must(t, r.order(Order{Kind: OrderUpdate}))
		time.Sleep(time.Second)
		r.offer(3, 4)
		r.rest(1)
		begun := time.Now()
		r.rest(2)
		r.expect(4, Committed)
		if d := time.Since(begun); d > probationTime+time.Second {
			t.Errorf("it waited %v", d)
		}
	})
	in(t, []int{2, 1}, []int{2}, func(t *testing.T, r *rig) {
		r.launch()
		r.offer(3)
		must(t, r.order(Order{Kind: OrderUpdate, Now: true}))
		r.reach(journal.Probation)
		r.offer(3, 4)
		r.offers[1].Share = 0
		time.Sleep(24 * time.Hour)
		r.expect(3, Committed)
		if len(r.story) != 1 {
			t.Errorf("%+v", r.story)
		}
	})
}

// What is proven to have run here bounds what is chosen, even where the journal knows less.
func TestHighWaterOfProvenVersions(t *testing.T) {
	in(t, []int{1}, []int{2}, func(t *testing.T, r *rig) {
		_, s := r.open()
		must(t, durable.WriteFile(r.disk, s.Staged(version(3)), artifact(3), 0o600))
		must(t, s.Seal(t.Context(), version(3)))
		must(t, s.Prove(version(3)))
		r.launch()
		time.Sleep(24 * time.Hour)
		if st := r.state(); st.Good[0] != version(1) || len(r.story) != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// A version that is offered no more is let go before it serves.
func TestWithdrawn(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		release := r.hold("fetch", 3)
		r.launch()
		r.reach(journal.Fetching)
		r.offer(2)
		release()
		if e := r.rest(1); e.Verdict != journal.Superseded {
			t.Errorf("%+v", e)
		}
		r.expect(2, Discarded)
	})
}

// Garbage goes one update late, when no slot of the journal names it any more, and not at all while one
// cannot be read.
func TestCollect(t *testing.T) {
	in(t, []int{4, 3, 2, 1}, []int{5}, func(t *testing.T, r *rig) {
		r.launch()
		r.rest(1)
		for _, v := range versions(5, 4, 3, 2, 1) {
			if err := r.whole(v); err != nil {
				t.Errorf("%s: %v", v.Number, err)
			}
		}
		r.offer(6)
		r.rest(2)
		if r.whole(version(1)) == nil || r.whole(version(3)) != nil {
			t.Error("kept 1.1.0, or removed 1.3.0")
		}
	})
	for _, readable := range []bool{true, false} {
		in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
			r.on = func(_ context.Context, step string, _ Version) {
				if step != "retire" {
					return
				}
				s := r.u.Store
				must(t, durable.WriteFile(r.disk, s.Staged(version(9)), artifact(9), 0o600))
				must(t, s.Seal(t.Context(), version(9)))
				if !readable {
					r.spoilOlderSlot()
				}
			}
			r.launch()
			r.rest(1)
			if kept := r.whole(version(9)) == nil; kept == readable {
				t.Errorf("journal readable: %v, garbage kept: %v", readable, kept)
			}
		})
	}
}

func (r *rig) spoilOlderSlot() {
	newest := r.u.Journal.Seq()
	for i := range 2 {
		name := fmt.Sprintf("journal/slot%d", i)
		b, err := durable.ReadFile(r.disk, name, 1<<20)
		must(r.t, err)
		if !strings.Contains(string(b[:80]), fmt.Sprintf(" seq=%d ", newest)) {
			must(r.t, durable.WriteFile(r.disk, name, make([]byte, len(b)), 0o600))
		}
	}
}
