package e2e

import (
	"fmt"
	"testing"

	"github.com/turnstone-go/turnstone/launcher/control"
)

// Under systemd an update loses nothing, and a bad one is rolled back.
func TestSystemdUpdate(t *testing.T) {
	m := installed(t, quick(map[string]string{"probation": "time = \"2s\"\nmin_requests = 20\n"}))
	r := m.loaded(t, func() {
		publish(t, m.stage, "1.1.0", example(t, "1.1.0", ""))
		m.launcher(t, 0, "update", "--now", "--follow")
		publish(t, m.stage, "1.2.0", example(t, "1.2.0", "health-fail:300ms"))
		m.launcher(t, 20, "update", "--now", "--follow")
	})
	nothingLost(t, r)
	if r.Versions["1.1.0"] == 0 || r.Versions["1.2.0"] == 0 {
		t.Errorf("not every version was met: %v", r.Versions)
	}
	if v, _ := m.served(t); v != "1.1.0" {
		t.Errorf("%s serves after the rollback", v)
	}
	eventually(t, "one payload is left", func() bool { return len(m.inUnit(t)) == 1 })
}

// A reboot in probation, in order or by a power cut, goes on with what was left of it: the candidate serves,
// and is committed when its time is over and not before.
func TestSystemdRebootInProbation(t *testing.T) {
	const whole, before = 14_000, 12_500 // ms
	m := installed(t, quick(map[string]string{"probation": fmt.Sprintf("time = \"%dms\"\nmin_requests = 0\n", whole)}))
	publish(t, m.stage, "1.1.0", example(t, "1.1.0", ""))
	m.launcher(t, 0, "update", "--now")
	m.onProbation(t, func(left int64) bool { return left > 0 && left < before })
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := m.onProbation(t, func(left int64) bool { return left > 0 }); left >= before {
		t.Errorf("%d ms are left after the reboot, less than %d were left before", left, before)
	}
	if err := m.PowerCut(); err != nil {
		t.Fatal(err)
	}
	if err := m.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := m.onProbation(t, func(left int64) bool { return left > 0 }); left >= before {
		t.Errorf("%d ms are left after the power cut, less than %d were left before the reboot", left, before)
	}
	m.serving(t, "1.1.0")
	if v, _ := m.served(t); v != "1.1.0" {
		t.Errorf("%s serves in the end", v)
	}
}

// onProbation waits until what is left of 1.1.0's probation is as wanted; 1.1.0 serves meanwhile.
func (m *machine) onProbation(t *testing.T, want func(leftMS int64) bool) (left int64) {
	t.Helper()
	m.is(t, "1.1.0 is on probation", func(st control.Status) bool {
		left = st.ProbationLeftMS
		return st.Phase == "probation" && st.Candidate != nil && st.Candidate.Number == "1.1.0" && want(left)
	})
	if v, _ := m.served(t); v != "1.1.0" {
		t.Errorf("%s serves in the probation of 1.1.0", v)
	}
	return left
}
