package updater

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// Another order takes the place of an update that has had no traffic yet, at once; in every other phase, and on the way
// back, its turn comes in idle.
func TestOrdersSupersedeBeforeTheSwitch(t *testing.T) {
	for phase := range table {
		for _, back := range []bool{false, true} {
			st := State{Phase: phase, Good: versions(2, 1)}
			if c := version(3); phase != journal.Idle && phase != journal.Retiring {
				st.Candidate = &c
			}
			if back && st.Candidate != nil {
				*st.Candidate = st.Good[1]
			}
			next, err := apply(st, Order{Kind: OrderUpdate, Number: "1.4.0"}, outlook{})
			must(t, err)
			want, verdict := phase, journal.None
			if !back && slices.Contains([]Phase{journal.Fetching, journal.Staging, journal.Warming}, phase) {
				want, verdict = journal.Discarding, journal.Superseded
			}
			if next.Phase != want || next.Verdict != verdict || next.Want == nil || next.Want.Number != "1.4.0" {
				t.Errorf("an order in %s, going back %v: %s, %q, want %v", phase, back, next.Phase, next.Verdict, next.Want)
			}
		}
	}
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
				r.pass(time.Minute)
				answer := make(chan error, 1)
				go func() { answer <- r.order(Order{Kind: OrderPin, Number: "1.3.0", Reason: "test"}) }()
				r.pass(time.Minute)
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
				r.pass(0)
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
				r.pass(10 * time.Second)
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
				r.pass(48 * time.Hour)
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
		r.pass(0)
		release()
		if err := <-answer; !errors.Is(err, ErrNothing) {
			t.Errorf("answered %v", err)
		}
		r.pass(time.Hour)
		r.expect(2, RolledBack)
	})
}

func TestOrderedUpdate(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		must(t, r.halfPaused())
		must(t, r.order(Order{Kind: OrderUpdate}))
		r.pass(0)
		if st := r.state(); st.Want != nil || st.Phase != journal.Idle || !strings.Contains(st.Reason, "paused") {
			t.Errorf("%+v", st)
		}
		must(t, r.order(Order{Kind: OrderUpdate, Number: "1.9.0", Now: true}))
		r.pass(0)
		if st := r.state(); st.Want != nil || !strings.Contains(st.Reason, "1.9.0 is not among") {
			t.Errorf("%+v", st)
		}
		must(t, r.order(Order{Kind: OrderUpdate, Now: true}))
		r.rest(2) // the first was let go by the pause
		r.expect(3, Committed)
		if st := r.state(); st.Reason != "" {
			t.Errorf("after an update that went well: %s", st.Reason)
		}
		must(t, r.order(Order{Kind: OrderUpdate}))
		r.pass(0)
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

// A service whose jobs follow one another asks to wait again and again; that asks the vendor nothing, and the update
// begins when the jobs end.
func TestBusyAgainAsksNobody(t *testing.T) {
	in(t, []int{1}, []int{2}, func(t *testing.T, r *rig) {
		r.enough = 1 << 30
		end := time.Now().Add(10 * time.Minute)
		r.u.Busy = func() (string, time.Time) {
			if time.Now().After(end) {
				return "", time.Time{}
			}
			return "job", time.Now().Add(2 * time.Second)
		}
		r.launch()
		r.pass(9 * time.Minute)
		if r.checks != 1 {
			t.Errorf("%d looks at the channel, and the poll interval is %v", r.checks, r.poll)
		}
		r.reach(journal.Probation)
		if late := time.Since(end); late > time.Minute {
			t.Errorf("begun %v after the last job", late)
		}
	})
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
		r.pass(time.Second)
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
		r.pass(time.Minute)
		if r.state().Pause != nil {
			t.Error("the journal holds what was refused")
		}
	})
}

// An order to update that comes while an update is on its way has its turn after it, at once; and one that
// was fulfilled opens no gate for the next release.
func TestOrderedUpdateHasItsTurn(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.launch()
		r.reach(journal.Probation)
		r.pass(time.Second)
		must(t, r.order(Order{Kind: OrderUpdate}))
		r.pass(time.Second)
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
		r.pass(24 * time.Hour)
		r.expect(3, Committed)
		if len(r.story) != 1 {
			t.Errorf("%+v", r.story)
		}
	})
}

// An order that cannot be saved is refused, also in probation, which itself goes on without the disk. Only the
// way back is taken all the same.
func TestUnsavedOrderIsRefused(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.launch()
		r.reach(journal.Probation)
		r.pass(time.Second)
		r.disk.Fail(func(durabletest.Op) error { return errors.New("input/output error") })
		if err := r.order(Order{Kind: OrderPause}); err == nil || r.u.Status().State.Pause != nil {
			t.Errorf("paused without a word on the disk: %v", err)
		}
		must(t, r.order(Order{Kind: OrderRollback}))
		r.disk.Fail(nil)
		r.rest(1)
		r.expect(2, RolledBack)
	})
}

// An engine that panics while it carries out an order answers it, and what the journal may or may not hold of it
// is made one with what the next engine goes by.
func TestOrderHalfWay(t *testing.T) {
	in(t, []int{2, 1}, nil, func(t *testing.T, r *rig) {
		r.launch()
		r.cut.left, r.cut.how = 2, durabletest.Lost // the write of the slot is done, its sync is never answered
		if err := r.order(Order{Kind: OrderPause}); !errors.Is(err, errHalfWay) {
			t.Errorf("%v", err)
		}
		<-r.ended
		r.cut.left, r.cut.dead = 0, false
		r.launch() // the same engine again, as the launcher does
		r.pass(time.Minute)
		if now, disk := r.u.Status().State, r.state(); (now.Pause == nil) != (disk.Pause == nil) {
			t.Errorf("the engine says %+v, the journal %+v", now.Pause, disk.Pause)
		}
	})
}
