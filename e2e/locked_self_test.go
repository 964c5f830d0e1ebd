package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
)

// At each step of the launcher's own update another program keeps the files of that step to itself, longer than any
// retry. While the old launcher is at work the update ends as the world's fault, with the file and its holder named,
// and the manager starts the old one; the new launcher starts in spite of it, and reports in when the files are free.
// Nobody is condemned, and the service serves all the time.
func TestLockedFilesOfASelfUpdate(t *testing.T) {
	x := &lockedRenewal{service: renewableOnWindows(t, "1m"), locker: windowsTool(t, "./locker")}
	operator(t, x.Stage, 0, "pause", "--for", "24h") // only what is ordered happens
	x.pid = x.payload(t)
	l := load.Start(load.Options{Address: x.Listen, Workers: map[load.Class]int{load.KeepAlive: 8, load.Fresh: 4}})
	defer l.Stop()

	installed := fmt.Sprintf("%x", sha256.Sum256(x.program(t)))
	first := x.release(t, "100.1.0")
	operator(t, x.Stage, 0, "self-update", "--check") // and the trust folder is filled
	x.ordered(t, "metadata", `launcher\trust\metadata\*`)
	// What a launcher that died has left is there to be held before the order, so that no step is too quick for the locker.
	for _, name := range []string{first + ".part", first + "/launcher.exe", installed + "/launcher.exe.tmp", "trial.tmp"} {
		x.left(t, name)
	}
	x.ordered(t, "download", `launcher\*.part`)
	x.ordered(t, "new launcher", `launcher\`+first+`\*`)
	x.ordered(t, "old launcher", `launcher\`+installed+`\*`)
	x.ordered(t, "trial", `launcher\trial*`)
	x.ordered(t, "lock", `launcher\lock`)
	x.starting(t, "new launcher", `launcher\`+first+`\*`)

	second := x.release(t, "100.2.0")
	x.ordered(t, "record", `launcher\current*`)
	x.starting(t, "trial", `launcher\trial*`)
	x.release(t, "100.3.0")
	x.starting(t, "record", `launcher\current*`)
	x.release(t, "100.4.0")
	x.starting(t, "the rest", `launcher\lock`, `launcher\trust\*`, `launcher\`+second+`\*`)

	flow(t, l, 50)
	told(t, x.Stage, "handoff")
	r := l.Stop()
	nothingLost(t, r)
	t.Logf("handoff: payload %d served all the time: %d requests: %d refused, %d failed, %d retryable", x.pid, r.Requests, r.Refused, r.Failed, r.Retryable)
}

// lockedRenewal is a service whose launcher replaces itself while the locker holds its files.
type lockedRenewal struct {
	*service
	locker string
	pid    int // of the payload
}

func (x *lockedRenewal) program(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(x.Launcher)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// release offers the launcher once more, as another one: what is behind the end of a program does not matter to it.
func (x *lockedRenewal) release(t *testing.T, version string) (digest string) {
	t.Helper()
	b := append(x.program(t), version...)
	file := filepath.Join(t.TempDir(), "launcher.exe")
	if err := os.WriteFile(file, b, 0o755); err != nil {
		t.Fatal(err)
	}
	x.offerFile(t, version, file)
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

// left is a file that a launcher which died has left in its folder.
func (x *lockedRenewal) left(t *testing.T, name string) {
	t.Helper()
	file := filepath.Join(x.State(), "launcher", name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("left"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ordered holds files of the launcher that runs, which then stays: each order comes a step further than the one before.
func (x *lockedRenewal) ordered(t *testing.T, name string, patterns ...string) {
	t.Run("ordered/"+name, func(t *testing.T) {
		before := x.image(t)
		l := lock(t, x.Stage, x.machine, x.locker, 5*lockLimit, patterns...) // every retry is over before
		ctx, cancel := context.WithTimeout(t.Context(), 5*lockLimit)
		defer cancel()
		out, code := x.Operator(ctx, "self-update", "--follow")
		files := l.free()
		if code != 13 || !names(out, files) {
			t.Errorf("exit code %d, and does not say which of %q is held:\n%s", code, files, out)
		}
		if now := x.image(t); now != before {
			t.Errorf("the manager starts %s, before it was %s", now, before)
		}
		if st := x.query(t); st.State != scmRunning {
			t.Errorf("the service is %+v", st)
		}
		x.same(t)
		t.Logf("exit code %d: %s", code, strings.TrimSpace(out))
	})
}

// names says whether a line says which of the files is held, and by whom.
func names(out string, files []string) bool {
	return (strings.Contains(out, "holder unknown") || strings.Contains(out, "held by")) &&
		slices.ContainsFunc(files, func(file string) bool { return strings.Contains(out, file) })
}

// starting holds files from before the new launcher starts, which has taken over when they are free.
func (x *lockedRenewal) starting(t *testing.T, name string, patterns ...string) {
	t.Run("starting/"+name, func(t *testing.T) {
		before := x.image(t)
		operator(t, x.Stage, 0, "self-update")
		x.untilLong(t, "the launcher does not make room for the next one", func() bool { return x.query(t).State == scmStopped })
		if x.image(t) == before {
			t.Error("no trial began")
		}
		l := lock(t, x.Stage, x.machine, x.locker, lockLimit, patterns...)
		x.start(t)
		x.same(t)
		files := l.over()
		if len(files) == 0 {
			t.Errorf("nothing was held of %q", patterns)
		}
		x.untilLong(t, "the launcher that was on trial does not run", func() bool { return x.query(t).State == scmRunning || x.start(t) })
		x.untilLong(t, "the trial is not over", func() bool {
			_, err := os.Stat(filepath.Join(x.State(), "launcher", "trial"))
			return os.IsNotExist(err)
		})
		operator(t, x.Stage, 3, "self-update") // it is the newest, and it runs
		if now := x.image(t); now == before {
			t.Errorf("the manager starts %s as before", now)
		}
		x.same(t)
		t.Logf("held: %q", files)
	})
}

// start is what the manager's recovery does on Windows. A program that is held cannot be started.
func (x *lockedRenewal) start(t *testing.T) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := x.machine.Run(ctx, "net", "start", stage.Product)
	if err != nil {
		t.Logf("net start: %v: %s", err, strings.TrimSpace(out))
	}
	return err == nil
}

// same demands that the payload of the beginning serves.
func (x *lockedRenewal) same(t *testing.T) {
	t.Helper()
	if pid := x.payload(t); pid != x.pid {
		t.Errorf("process %d serves, before it was %d", pid, x.pid)
	}
}
