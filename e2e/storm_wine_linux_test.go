package e2e

import (
	"testing"
	"time"
)

// The launcher for Windows is ended by force at random moments of updates, ways back and updates that fail. The
// payload goes on and no client notices; the next launcher finds it and brings the update to its right end.
func TestKillStormOnWindows(t *testing.T) {
	programs, m := windows(t)
	h := stormOn(t, programs, m, handoff)
	h.random(t, 20, 2*time.Second, func() {
		if out, err := m.Run(t.Context(), "taskkill", "/f", "/im", "launcher.exe"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		eventually(t, "the launcher is dead", h.Dead)
	})
	h.over(t)
}
