package e2e

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

// The launcher for Windows is ended by force at points of each phase of updates, ways back and updates that fail, and at
// random moments. The payload goes on and no client notices; the next launcher finds it and brings the update to its right end.
func TestKillStormOnWindows(t *testing.T) {
	programs, m := windows(t)
	programs.Launcher = filepath.Join(t.TempDir(), "mortal.exe")
	if err := stage.BuildMortal(programs.Launcher, "windows"); err != nil {
		t.Fatal(err)
	}
	h := stormOn(t, programs, m, handoff)
	for _, point := range []string{"warming/0", "warming/1", "switching/0", "switching/1", "probation/0", "retiring/0", "retiring/1"} {
		h.at(t, point, forward, back)
	}
	for _, point := range []string{"fetching/0", "staging/0", "reverting/0", "reverting/1", "discarding/0"} {
		h.at(t, point, astray)
	}
	h.random(t, 20, 2*time.Second, func() {
		if out, err := m.Run(t.Context(), "taskkill", "/f", "/im", "mortal.exe"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		eventually(t, "the launcher is dead", h.Dead)
	})
	h.over(t)
}

// at has the launcher die at a point of each move.
func (h *storm) at(t *testing.T, point string, moves ...func() move) {
	t.Helper()
	for _, m := range moves {
		if !h.round(t, m(), point, "") {
			t.Fatalf("%s was not reached", point)
		}
		h.unhurt(t, point)
	}
}
