package updater

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// passes says whether a gate, or with gate "" every one, lets a version through in the status as it is now.
func (r *rig) passes(number, gate string) bool {
	r.t.Helper()
	for _, f := range r.u.Status().Findings {
		if f.Number != number {
			continue
		}
		if gate == "" {
			return f.Passed()
		}
		for _, v := range f.Verdicts {
			if v.Gate == gate {
				return v.Pass
			}
		}
	}
	r.t.Errorf("no verdict of %q on %s: %+v", gate, number, r.u.Status().Findings)
	return true
}

// What a check found is held against the state as it is, without another check.
func TestFindingsAreNotStale(t *testing.T) {
	in(t, []int{1}, []int{2}, func(t *testing.T, r *rig) {
		r.launch()
		r.rest(1)
		if r.passes("1.2.0", "newer") {
			t.Error("1.2.0 would be installed, and is active")
		}
	})
	in(t, []int{1}, []int{2}, func(t *testing.T, r *rig) {
		r.sick["watch 1.2.0"] = errBad
		r.launch()
		r.rest(1)
		if r.passes("1.2.0", "quarantine") {
			t.Error("1.2.0 would be installed, and is in quarantine")
		}
		looks := r.checks
		must(t, r.order(Order{Kind: OrderPause, Until: time.Now().Add(time.Minute)}))
		r.pass(0)
		if r.passes("1.2.0", "pause") {
			t.Error("the pause is not told")
		}
		if r.checks != looks {
			t.Error("the channel was asked again")
		}
		must(t, r.order(Order{Kind: OrderResume}))
		r.u.Tune(Tuning{Config: "beef"})
		r.pass(0)
		// The look at the channel that follows the resumption may come before or after the new configuration; if
		// after, 1.2.0 is under way already.
		if st := r.u.Status().State; st.Phase == journal.Idle && st.Candidate == nil && !r.passes("1.2.0", "quarantine") {
			t.Error("still in quarantine under a new configuration")
		}
	})
}

// What an operator went back from is held, at once and after a check, though its document was not read while it was
// active.
func TestHoldIsToldAtOnce(t *testing.T) {
	in(t, []int{2, 1}, []int{2}, func(t *testing.T, r *rig) {
		r.launch()
		r.pass(time.Minute) // the look at the channel that finds it active
		must(t, r.order(Order{Kind: OrderRollback}))
		if r.rest(1); r.passes("1.2.0", "hold") {
			t.Errorf("1.2.0 is not held: %+v", r.u.Status().Findings)
		}
		looks := r.checks
		must(t, r.order(Order{Kind: OrderClear}))
		if r.until("another look", func() bool { return r.checks > looks }); !r.passes("1.2.0", "hold") {
			t.Error("1.2.0 is held, and was cleared")
		}
	})
}

// Wrong bytes are no evidence against the release: no mark, no second try at once, and success when the source
// has come to its senses.
func TestRefusedIsTriedAgain(t *testing.T) {
	for _, step := range []string{"fetch", "resolve", "check"} {
		t.Run(step, func(t *testing.T) {
			in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
				at := step + " 1.3.0"
				if step == "check" {
					at = "check "
				}
				r.sick[at] = Refused(errors.New("not the signed bytes"))
				r.launch()
				if step == "fetch" {
					begun := time.Now()
					if e := r.rest(2); e.Verdict != journal.Refused || e.Failed != journal.Fetching || e.Outcome != Discarded {
						t.Errorf("%+v", e)
					}
					if d := time.Since(begun); d < firstMiss || d > 2*firstMiss {
						t.Errorf("tried again after %v", d)
					}
				} else {
					r.until("it is told", func() bool {
						return slices.ContainsFunc(r.events, func(e Event) bool { return e.Kind == "check" && e.Verdict == journal.Refused })
					})
				}
				if r.heard("retry") || r.heard("quarantine") || len(r.state().Quarantine) != 0 {
					t.Errorf("held against the release: %+v", r.state())
				}
				delete(r.sick, at)
				r.until("it is committed", func() bool { return r.heard("commit") })
			})
		})
	}
}

// lose removes every version from the disk, and every process.
func (r *rig) lose() {
	r.procs = map[string]*proc{}
	must(r.t, durable.RemoveAll(r.disk, "store"))
	r.updater()
}

// A host that lost its store gets the active version back from the channel, and says so meanwhile.
func TestStoreIsLost(t *testing.T) {
	in(t, []int{2, 1}, []int{2}, func(t *testing.T, r *rig) {
		r.lose()
		r.sick["check "] = errors.New("no route to host")
		r.launch()
		r.pass(10 * time.Minute)
		if s := r.u.Status(); !strings.Contains(s.Trouble, "1.2.0 is missing or damaged on disk") || len(r.serving()) != 0 {
			t.Errorf("trouble %q, serving %v", s.Trouble, r.serving())
		}
		delete(r.sick, "check ")
		must(t, r.order(Order{Kind: OrderPause, Reason: "month end"}))
		r.pass(0)
		r.until("1.2.0 serves", func() bool { return slices.Equal(r.serving(), []string{"1.2.0"}) })
		st := r.state()
		if s := r.u.Status(); s.Trouble != "" || len(r.story) != 0 || st.Phase != journal.Idle || !slices.Equal(st.Good, versions(2, 1)) {
			t.Errorf("%q, %+v, %+v", s.Trouble, r.story, st)
		}
		must(t, r.order(Order{Kind: OrderResume}))
		r.pass(0)
		r.offer(3)
		must(t, r.order(Order{Kind: OrderCheck}))
		r.pass(0)
		r.rest(1)
		r.expect(3, Committed)
	})
	t.Run("wrong bytes come first", func(t *testing.T) {
		in(t, []int{2}, []int{2}, func(t *testing.T, r *rig) {
			r.lose()
			r.sick["fetch 1.2.0"] = Refused(errors.New("not the signed bytes"))
			r.launch()
			r.pass(10 * time.Minute)
			if len(r.serving()) != 0 || len(r.state().Quarantine) != 0 || r.checks > 10 {
				t.Errorf("%v serve after %d checks; %+v", r.serving(), r.checks, r.state())
			}
			delete(r.sick, "fetch 1.2.0")
			r.until("1.2.0 serves", func() bool { return len(r.serving()) == 1 })
		})
	})
	t.Run("ordered", func(t *testing.T) {
		in(t, []int{2}, []int{2}, func(t *testing.T, r *rig) {
			r.lose()
			r.sick["check "] = errors.New("no route to host")
			r.launch()
			delete(r.sick, "check ")
			must(t, r.order(Order{Kind: OrderUpdate, Now: true}))
			r.pass(0)
			r.until("1.2.0 serves", func() bool { return len(r.serving()) == 1 })
			r.until("the order has its answer", func() bool { return r.state().Want == nil })
		})
	})
	t.Run("a newer one is offered", func(t *testing.T) {
		in(t, []int{2}, []int{2, 3}, func(t *testing.T, r *rig) {
			r.lose()
			r.launch()
			r.rest(1)
			r.expect(3, Committed)
		})
	})
	t.Run("while it serves nothing is fetched", func(t *testing.T) {
		in(t, []int{2}, []int{2}, func(t *testing.T, r *rig) {
			must(t, durable.RemoveAll(r.disk, "store"))
			r.launch()
			r.pass(24 * time.Hour)
			if r.heard("download") || r.u.Status().Trouble != "" {
				t.Errorf("%+v", r.u.Status())
			}
		})
	})
}

// Who asks for a version that is not there is told which ones are.
func TestRollbackNamesWhatIsThere(t *testing.T) {
	st := at(journal.Idle)
	st.Good = versions(4, 3, 2, 1)
	st.Held = []journal.Mark{{Number: "1.2.0", Digest: version(2).Digest}}
	for number, want := range map[string]string{
		"0.0.1": "0.0.1 is not among the good versions on disk; to go back to: 1.3.0, 1.1.0",
		"1.2.0": "1.2.0 is not among",
	} {
		_, err := apply(st, Order{Kind: OrderRollback, Number: number}, edge)
		if !errors.Is(err, ErrNoPrevious) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", number, err)
		}
	}
	if _, err := apply(st, Order{Kind: OrderRollback, Number: "1.4.0"}, edge); !errors.Is(err, ErrNothing) || !strings.Contains(err.Error(), "1.4.0 is the version that serves") {
		t.Errorf("to the active version: %v", err)
	}
	st.Good = versions(4)
	for number, want := range map[string]string{"": "no other good version", "0.0.1": "0.0.1 is not a good version on disk, and no other one is"} {
		if _, err := apply(st, Order{Kind: OrderRollback, Number: number}, edge); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", number, err)
		}
	}
}

// Whoever orders a rollback a second time, in the probation of the first, does not undo it. A version that is named
// is where the order goes, or it is refused.
func TestRollbackTwice(t *testing.T) {
	for _, phase := range []Phase{journal.Switching, journal.Probation} {
		st := at(phase)
		st.Good = versions(3, 2, 1)
		back := version(2)
		st.Candidate = &back
		for number, want := range map[string]error{"": ErrNothing, "1.2.0": ErrNothing, "1.1.0": ErrNoPrevious} {
			got, err := apply(st, Order{Kind: OrderRollback, Number: number}, edge)
			if !errors.Is(err, want) || got.Phase != phase || len(got.Held) != 0 {
				t.Errorf("%s, to %q: %s, %v", phase, number, got.Phase, err)
			}
		}
		got, err := apply(st, Order{Kind: OrderRollback, Number: "1.3.0"}, edge)
		if err != nil || got.Phase != journal.Reverting {
			t.Errorf("%s, to the version that was left: %s, %v", phase, got.Phase, err)
		}
		forward := at(phase) // 1.3.0 is new, 1.2.0 and 1.1.0 are good
		forward.Good = versions(2, 1)
		if _, err := apply(forward, Order{Kind: OrderRollback, Number: "1.1.0"}, edge); !errors.Is(err, ErrNoPrevious) || !strings.Contains(err.Error(), "the way back is to 1.2.0") {
			t.Errorf("%s, past the version before: %v", phase, err)
		}
	}
}

// A look at the channel that an order cut short is no answer of the channel, and whoever waits for one goes on
// waiting for the next.
func TestInterruptedLookSaysNothing(t *testing.T) {
	in(t, []int{1}, nil, func(t *testing.T, r *rig) {
		var looks atomic.Int32
		answer := make(chan struct{})
		r.on = func(ctx context.Context, step string, _ Version) {
			if step != "check" {
				return
			}
			looks.Add(1)
			select {
			case <-answer:
			case <-ctx.Done():
			}
		}
		r.launch()
		must(t, r.order(Order{Kind: OrderPin, Number: version(1).Number}))
		r.until("the next look", func() bool { return looks.Load() > 1 })
		if s := r.u.Status(); s.CheckErr != "" || !s.LastCheck.IsZero() {
			t.Errorf("at %v the channel is said to have answered %q", s.LastCheck, s.CheckErr)
		}
		close(answer)
		r.until("the answer", func() bool { return !r.u.Status().LastCheck.IsZero() })
	})
}

// A repository that does not answer holds up the watch over a candidate for askLimit and no longer.
func TestLookInProbationIsBounded(t *testing.T) {
	in(t, []int{1}, []int{2}, func(t *testing.T, r *rig) {
		var looks int
		var took time.Duration
		r.u.Poll = 2 * time.Second
		r.on = func(ctx context.Context, step string, _ Version) {
			if step == "check" && r.phase() == journal.Probation {
				begun := time.Now()
				<-ctx.Done()
				r.meet()
				looks, took = looks+1, time.Since(begun)
			}
		}
		r.launch()
		r.reach(journal.Probation)
		r.until("a look at the channel", func() bool { return looks > 0 })
		if took != askLimit {
			t.Errorf("the candidate was not watched for %s, want %s", took, askLimit)
		}
		r.sick["watch "+version(2).Number] = Bad(errExit)
		if e := r.rest(1); e.Outcome != RolledBack {
			t.Errorf("ended %+v", e)
		}
	})
}

// What the packages below the engine say of their part is not said again.
func TestReasonsAreSaidOnce(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.sick["warm 1.3.0"] = Bad(errors.New("start 1.3.0: no such program"))
		r.launch()
		if e := r.rest(1); e.Reason != "start 1.3.0: no such program" {
			t.Errorf("warm: %s", e.Reason)
		}
	})
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		v, u := version(3), r.u
		r.world.t = t
		must(t, durable.WriteFile(r.disk, u.Store.Staged(v), artifact(4), 0o600))
		once(t, u.seal(t.Context(), v), "seal")
		once(t, u.retire(t.Context(), &State{Good: []Version{v}}), "1.3.0")
		must(t, durable.WriteFile(r.disk, u.Store.Staged(v), artifact(3), 0o600))
		must(t, u.seal(t.Context(), v))
		r.damage(v)
		once(t, u.start(t.Context(), State{Candidate: &v}), "verify")
	})
}

// once wants an error that says the words, and says them once.
func once(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || strings.Count(err.Error(), words) != 1 {
		t.Errorf("%v; want %q once", err, words)
	}
}
