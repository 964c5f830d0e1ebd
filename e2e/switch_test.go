package e2e

import (
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
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

// Every other way for a release to be bad leads to the right verdict, with nothing lost before the switch.
func TestBadReleases(t *testing.T) {
	for _, tc := range []struct {
		fault string
		exit  int
		says  string
	}{
		{"never-ready", 14, "did not become ready in time"},
		{"ready-then-die:0s", 14, "exit code 1"},
		{"500s:0s", 20, "5xx"},
		{"hang:300ms", 20, "1.1.0"},
		{"exit0:300ms", 20, "exit code 0"},
		{"flap", 20, "probes"},
	} {
		t.Run(strings.Map(plainName, tc.fault), func(t *testing.T) {
			s := launched(t, stage.Options{Config: map[string]string{"health": "interval = \"100ms\"\ngood = 3\nready_timeout = \"2s\"\ntimeout = \"500ms\"\n"}})
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
		})
	}
}
