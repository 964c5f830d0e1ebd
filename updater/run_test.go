package updater

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/updater/journal"
)

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
		r.pass(24 * time.Hour)
		if steps[0] != "serve 1.2.0" || !slices.Equal(r.serving(), []string{"1.2.0"}) {
			t.Errorf("first %s, serving %v", steps[0], r.serving())
		}
		if n := len(steps); n < 20 || n > 40 { // half a minute, doubling to an hour
			t.Errorf("%d steps in a day", n)
		}
		if s := r.u.Status(); !strings.Contains(s.CheckErr, "no route") {
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
		r.pass(30 * 24 * time.Hour)
		if n := r.disk.Ops() - before; n != 0 {
			t.Errorf("%d writes in an idle month", n)
		}
	})
}

func TestWorldIsTriedAgain(t *testing.T) {
	for _, step := range []string{"fetch", "verify", "self-check", "warm", "switch", "watch"} {
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

// What failed here is fetched and started once, however long it is offered, until an operator clears it; and
// the way back to a version on disk is open all the time.
func TestBadIsNot(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.sick["warm 1.3.0"] = Bad(errors.New("never became healthy"))
		tries := map[string]int{}
		r.on = func(_ context.Context, step string, v Version) { tries[step+" "+v.Number]++ }
		r.launch()
		r.rest(1)
		delete(r.sick, "warm 1.3.0")
		r.pass(7 * 24 * time.Hour)
		r.expect(2, Discarded)
		if len(r.story) != 1 || !r.heard("quarantine") || tries["fetch 1.3.0"] != 1 || tries["warm 1.3.0"] != 1 {
			t.Errorf("%d updates in a week, %v", len(r.story), tries)
		}
		must(t, r.order(Order{Kind: OrderRollback}))
		r.rest(2)
		r.expect(1, Committed)
		must(t, r.order(Order{Kind: OrderClear}))
		r.rest(3)
		r.expect(3, Committed)
	})
}

// A stop keeps the phase, and a step that was stopped is not held against anyone.
func TestStopKeepsThePhase(t *testing.T) {
	for _, at := range []struct{ step, phase string }{{"fetch", "fetching"}, {"verify", "staging"}, {"self-check", "staging"}, {"warm", "warming"}, {"switch", "switching"}, {"watch", "probation"}} {
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
					r.pass(10 * time.Second)
				}
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
				r.pass(time.Second)
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
			r.meet()
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
			r.pass(time.Second)
			r.pass(0)
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

// A launcher that dies again and again on the way back goes back all the same, to the version before and to none
// older, and leaves no process behind; nor does one that dies while it sends the old ones away.
func TestDeathsOnTheWayBack(t *testing.T) {
	for _, tc := range []struct {
		step   string
		n      int
		active int
	}{{"switch", 2, 2}, {"retire", 3, 2}, {"retire", 2, 3}} {
		in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
			if tc.active == 2 {
				r.sick["watch 1.3.0"] = Bad(errors.New("answers 503"))
			}
			deaths := 0
			r.on = func(_ context.Context, step string, v Version) {
				if step == tc.step && v.Epoch == uint64(tc.n) && deaths <= maxStarts+1 {
					deaths++
					panic("killed")
				}
			}
			r.launch()
			for range 200 {
				select {
				case <-r.ended:
					r.updater()
					r.launch()
				default:
					r.pass(time.Second)
				}
			}
			if st := r.state(); st.Phase != journal.Idle || st.Good[0] != version(tc.active) {
				t.Errorf("%s %d: %+v", tc.step, tc.n, st)
			}
			if !slices.Equal(r.serving(), []string{version(tc.active).Number}) || len(r.Running()) != 1 {
				t.Errorf("%s %d: %v accept connections, %v run", tc.step, tc.n, r.serving(), r.Running())
			}
		})
	}
}

// Probation is counted: the time that the launcher or the machine was off is not part of it, and no more than
// saveEvery is lost to a power cut.
func TestProbationIsCounted(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.launch()
		r.reach(journal.Probation)
		r.pass(13 * time.Second)
		must(t, r.haltIn(journal.Probation))
		if st := r.state(); st.Remaining > 12*time.Second || st.Remaining < 11*time.Second || !st.Clean {
			t.Errorf("stopped with %+v", st)
		}
		r.pass(24 * time.Hour)
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
		r.pass(13 * time.Second)
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
