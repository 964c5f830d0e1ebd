package e2e

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// A clock that an administrator or a time server sets cannot be had without setting that of the machine. So a launcher
// is compiled with a time package whose wall clock is as many seconds ahead as the file named by LAUNCHER_CLOCK says; its
// monotonic clock, and every timer, are left as they are. The file is mapped, since a timer asks for the time where no
// system call may be made.
const (
	wallClock = "\tsec, nsec, mono := runtimeNow()\n"
	ahead     = "\tsec += *ahead\n"
	aheadFile = `package time

import (
	"syscall"
	"unsafe"
)

var ahead = mapAhead()

func mapAhead() *int64 {
	name, _ := syscall.Getenv("LAUNCHER_CLOCK")
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return new(int64)
	}
	defer syscall.Close(fd)
	b, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return new(int64)
	}
	return (*int64)(unsafe.Pointer(&b[0]))
}
`
)

// withClock compiles a launcher whose clock can be set.
func withClock(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin, rest, found := strings.Cut(string(text), "func Now() Time {\n"+wallClock)
	if !found {
		t.Fatalf("%s does not read the clock as it did", file)
	}
	changed, added, overlay, out := filepath.Join(dir, "time.go"), filepath.Join(dir, "ahead.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "launcher")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {file: changed, filepath.Join(filepath.Dir(file), "ahead.go"): added}})
	if err = errors.Join(err,
		os.WriteFile(changed, []byte(begin+"func Now() Time {\n"+wallClock+ahead+rest), 0o600),
		os.WriteFile(added, []byte(aheadFile), 0o600), os.WriteFile(overlay, list, 0o600)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-overlay", overlay, "-o", out, "../launcher")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

// A clock that jumps ten years in the middle of a probation, ahead or back, ends it neither early nor late, and condemns
// nobody; nor does it keep the next launcher from finding the processes. Updates wait while the metadata has expired
// by that clock.
func TestClockJumps(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the launcher's clock is set by a file that is mapped as Linux does")
	}
	const years = 10 * 365 * 24 * time.Hour
	p := programs
	p.Launcher = withClock(t)
	s := stagedWith(t, p, quick(map[string]string{"probation": "time = \"5s\"\nmin_requests = 0\n"}))
	clock, err := os.Create(filepath.Join(s.Home, "clock"))
	if err != nil {
		t.Fatal(err)
	}
	defer clock.Close()
	s.Env = []string{"LAUNCHER_CLOCK=" + clock.Name()}
	set := func(d time.Duration) {
		t.Helper()
		if _, err := clock.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(d/time.Second)), 0); err != nil {
			t.Fatal(err)
		}
	}
	set(0)
	publish(t, s, "1.0.0", example(t, "1.0.0", ""))
	launch(t, s)
	serving(t, s, "1.0.0")
	r := underLoad(t, s, some, func(l *load.Load) {
		for _, c := range []struct {
			version string
			jump    time.Duration
			killed  bool
		}{{"1.1.0", years, false}, {"1.2.0", -years, false}, {"1.3.0", years, true}, {"1.4.0", -years, true}} {
			publish(t, s, c.version, example(t, c.version, ""))
			operator(t, s, 0, "update", "--now")
			phase(t, s, journal.Probation)
			before := pids(t, s)
			eventually(t, "a second of the probation has passed", func() bool { return status(t, s).ProbationLeftMS < 4000 })
			set(c.jump)
			left, begun := time.Duration(status(t, s).ProbationLeftMS)*time.Millisecond, time.Now()
			if c.killed {
				kill(t, s)
				flow(t, l, 20)
				launch(t, s)
				phase(t, s, journal.Probation)
				if now := pids(t, s); now[c.version] != before[c.version] || len(now) != len(before) {
					t.Errorf("processes %v, before %v", now, before)
				}
			}
			serving(t, s, c.version)
			took := time.Since(begun)
			if took < left-1500*time.Millisecond || took > 5*time.Second+slack {
				t.Errorf("the clock jumped by %s with %s left, and %s was committed after %s", c.jump, left, c.version, took)
			}
			e := last(t, s, c.version)
			if e.To != c.version || e.Outcome != updater.Committed {
				t.Errorf("history says %s %s", e.To, e.Outcome)
			}
			if off := e.Ended.Sub(time.Now().Add(c.jump)); off.Abs() > time.Hour {
				t.Errorf("the launcher's clock says %s, and is to be %s off", e.Ended, c.jump)
			}
			if c.jump > 0 {
				publish(t, s, c.version+"-next", example(t, c.version+"-next", ""))
				operator(t, s, 11, "update", "--now", "--follow")
				change(t, s, "yank", c.version+"-next", "--reason", "only the clock was tried")
			}
			set(0)
		}
	})
	nothingLost(t, r)
}
