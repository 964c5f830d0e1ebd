package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// An artifact of a GiB is fetched, hashed, sealed, verified twice and started, and the launcher needs 8 MiB more
// than at rest, at its peak.
func TestMemoryOfABigArtifact(t *testing.T) {
	const gib = 1 << 30
	s := staged(t, quick(nil))
	m := behind(t, s)
	publish(t, s, "1.0.0", example(t, "1.0.0", ""))
	launch(t, s)
	serving(t, s, "1.0.0")
	big := filepath.Join(t.TempDir(), "example")
	b, err := os.ReadFile(example(t, "1.1.0", ""))
	if err == nil {
		err = os.WriteFile(big, b, 0o755)
	}
	if err == nil {
		err = os.Truncate(big, gib) // the program reads no further than its sections
	}
	if err != nil {
		t.Fatal(err)
	}
	publish(t, s, "1.1.0", big)
	if err := os.Remove(big); err != nil {
		t.Fatal(err)
	}
	m.is(nil)
	eventually(t, "the launcher is at rest", func() bool { return status(t, s).Phase == "idle" })
	idle := memory(t, s.PID(), "VmRSS")
	// The peak begins anew (proc(5), clear_refs).
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.PID()), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	operator(t, s, 0, "update", "--now", "--follow")
	peak := memory(t, s.PID(), "VmHWM")
	t.Logf("at rest %d KiB, peak %d KiB", idle, peak)
	if peak > idle+8<<10 {
		t.Errorf("%d KiB at rest, %d KiB at the peak of an update to 1 GiB", idle, peak)
	}
	if _, sent := m.seen(); sent < gib {
		t.Errorf("%d bytes were sent", sent)
	}
	serving(t, s, "1.1.0")
}

// memory is a line of /proc/PID/status, in KiB.
func memory(t *testing.T, pid int, name string) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(name + `:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		t.Fatalf("no %s in:\n%s", name, b)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
