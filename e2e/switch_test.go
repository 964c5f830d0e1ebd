package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// A good release takes over and no client of any kind loses a request.
func TestSwitchLosesNothing(t *testing.T) {
	s := launched(t, stage.Options{})
	r := underLoad(t, s, load.Options{Workers: everyone}, func(*load.Load) {
		publish(t, s, "1.1.0", example(t, "1.1.0", ""))
		operator(t, s, 0, "update", "--now", "--follow")
	})
	nothingLost(t, r)
	if r.Versions["1.1.0"] == 0 {
		t.Errorf("no client ever met 1.1.0: %v", r.Versions)
	}
	if st := status(t, s); st.Active.Number != "1.1.0" || st.Previous.Number != "1.0.0" {
		t.Errorf("active %v, previous %v; want 1.1.0 and 1.0.0", st.Active, st.Previous)
	}
}

// A release that dies in its probation costs what was inside it and nothing else, and is not tried again.
func TestCrashInProbationRollsBack(t *testing.T) {
	s := launched(t, stage.Options{})
	r := underLoad(t, s, load.Options{Workers: everyone}, func(*load.Load) {
		publish(t, s, "1.1.0", example(t, "1.1.0", "exit:500ms"))
		out := operator(t, s, 20, "update", "--now", "--follow")
		if !strings.Contains(out, "exit code 1") {
			t.Errorf("the exit code of the dead version is not told:\n%s", out)
		}
	})
	if r.Lost() {
		t.Errorf("lost more than the crash costs: %+v", r)
	}
	if len(r.OpenAt) != 1 || r.CutByCrash > r.OpenAt[0] {
		t.Errorf("%d cut by the crash, open then %v", r.CutByCrash, r.OpenAt)
	}
	if st := status(t, s); st.Active.Number != "1.0.0" || len(st.Quarantine) != 1 {
		t.Errorf("active %v, quarantine %v; want 1.0.0 and 1.1.0", st.Active, st.Quarantine)
	}
	show := operator(t, s, 0, "history", "show")
	for _, left := range []string{"last probes of 1.1.0", "status 200", "last output of 1.1.0", "example: exit: the fault of this release, exit code 1"} {
		if !strings.Contains(show, left) {
			t.Errorf("the history does not say %q:\n%s", left, show)
		}
	}
	operator(t, s, 10, "update", "--now", "--follow")
	operator(t, s, 0, "quarantine", "clear", "1.1.0")
}

// A release that fails by its health is rolled back and costs nothing at all.
func TestBadHealthRollsBackWithoutLoss(t *testing.T) {
	s := launched(t, stage.Options{})
	r := underLoad(t, s, load.Options{Workers: everyone}, func(*load.Load) {
		publish(t, s, "1.1.0", example(t, "1.1.0", "health-fail:300ms"))
		operator(t, s, 20, "update", "--now", "--follow")
	})
	nothingLost(t, r)
	if st := status(t, s); st.Active.Number != "1.0.0" {
		t.Errorf("active %v, want 1.0.0", st.Active)
	}
}

// Every other way for a release to be bad leads to the right verdict within its stated time, with nothing lost before
// the switch.
func TestBadReleases(t *testing.T) {
	const ready, look, fall = 5 * time.Second, time.Second, 3 // of the configuration below
	for _, tc := range []struct {
		fault  string
		exit   int
		says   string
		stated time.Duration // see docs/OPERATIONS.md, and the time after which the fault begins
	}{
		{"never-ready", 14, "did not become ready in time", ready + look},
		{"never-healthy", 14, "status 503", 2*ready + look},
		{"ready-then-die:0s", 14, "exit code 1", 0},
		{"exit:300ms", 20, "exit code 1", 300 * time.Millisecond},
		{"exit0:300ms", 20, "exit code 0", 300 * time.Millisecond},
		{"health-fail:300ms", 20, "3 probes in a row failed", 300*time.Millisecond + (fall+1)*look},
		{"hang:300ms", 20, "no answer within 1s", 300*time.Millisecond + (fall+1)*look},
		{"flap:0s", 20, "it flaps: 6 of the last 12 probes failed", (4*fall + 1) * look},
		{"500s:0s", 20, "5xx", 2*time.Second + 2*look}, // of 16 clients that ask every 50 ms
	} {
		t.Run(strings.Map(plainName, tc.fault), func(t *testing.T) {
			s := launched(t, stage.Options{Config: map[string]string{
				"health":    "interval = \"100ms\"\ngood = 3\nready_timeout = \"5s\"\ntimeout = \"1s\"\n",
				"probation": "time = \"10m\"\n", // a verdict at its end would not be met
			}})
			r := underLoad(t, s, load.Options{Workers: map[load.Class]int{load.KeepAlive: 8, load.Fresh: 8}}, func(*load.Load) {
				publish(t, s, "1.1.0", example(t, "1.1.0", tc.fault))
				if out := operator(t, s, tc.exit, "update", "--now", "--follow"); !strings.Contains(out, tc.says) {
					t.Errorf("%q is not told:\n%s", tc.says, out)
				}
			})
			if r.Refused > 0 || tc.exit == 14 && r.Lost() {
				t.Errorf("lost requests: %+v", r)
			}
			if st := status(t, s); st.Active.Number != "1.0.0" {
				t.Errorf("active %v, want 1.0.0", st.Active)
			}
			phase := journal.Probation
			if tc.exit == 14 {
				phase = journal.Warming
			}
			took := judged(t, s, phase, tc.stated)
			if tc.fault == "never-ready" && took < ready {
				t.Errorf("turned away after %s, it had %s to become ready", took, ready)
			}
		})
	}
}

// slack is what a machine that has other work may add to a stated time.
const slack = 10 * time.Second

// judged demands that 1.1.0 was turned away in a phase, for a fault of its own, and by the launcher's own record
// within the stated time, and returns how long it took.
func judged(t *testing.T, s *stage.Stage, phase journal.Phase, stated time.Duration) time.Duration {
	t.Helper()
	e := last(t, s, "1.1.0")
	took := time.Duration(e.Millis[phase]) * time.Millisecond
	t.Logf("turned away after %s in %s, stated are %s", took, e.Failed, stated)
	if e.To != "1.1.0" || e.Failed != phase || e.Verdict != journal.Bad || took > stated+slack {
		t.Errorf("history says %+v, want 1.1.0 to be found bad in %s within %s and %s", e, phase, stated, slack)
	}
	return took
}
