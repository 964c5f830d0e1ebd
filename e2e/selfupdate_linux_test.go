package e2e

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/updater/journal"
)

var launchers struct {
	sync.Mutex
	files map[string]string
}

// launcherBinary is a launcher of that version, with a fault inside or none, compiled once.
func launcherBinary(t *testing.T, version, fault string) string {
	t.Helper()
	launchers.Lock()
	defer launchers.Unlock()
	key := "launcher-" + version + "-" + fault
	if f := launchers.files[key]; f != "" {
		return f
	}
	out := filepath.Join(programs.Dir, key)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", "trialfault",
		"-ldflags", "-s -w -X main.version="+version+" -X main.trialFault="+fault, "-o", out, "../launcher")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if launchers.files == nil {
		launchers.files = make(map[string]string)
	}
	launchers.files[key] = out
	return out
}

// renewable is a stage whose launcher, of version 100.0.0, follows a channel of launchers and serves 1.0.0.
func renewable(t *testing.T, poll, trial string, more ...func(*stage.Options)) *stage.Stage {
	t.Helper()
	p := programs
	b, err := os.ReadFile(launcherBinary(t, "100.0.0", ""))
	if err != nil {
		t.Fatal(err)
	}
	p.Launcher = filepath.Join(t.TempDir(), "launcher") // it becomes a link
	if err := os.WriteFile(p.Launcher, b, 0o755); err != nil {
		t.Fatal(err)
	}
	o := quick(nil)
	o.Channels = []string{"launcher"}
	if o.Config == nil {
		o.Config = map[string]string{}
	}
	o.Config["launcher"] = "channel = \"launcher\"\ntrial = \"" + trial + "\"\n"
	for _, f := range more {
		f(&o)
	}
	s, err := stage.New(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the launcher's log:\n%s", s.Log())
		}
		_ = s.Close() // a launcher that the guard started is ended by its own test
	})
	edit(t, s, `poll = "1m"`, `poll = "`+poll+`"`)
	publish(t, s, "1.0.0", example(t, "1.0.0", ""))
	return s
}

// offer publishes a launcher.
func offer(t *testing.T, s *stage.Stage, version, fault string) {
	t.Helper()
	platform := runtime.GOOS + "/" + runtime.GOARCH
	if err := s.Change(t.Context(), "add", version, "--platform", platform+"="+launcherBinary(t, version, fault), "--channel", "launcher", "--patches", "0", "--pack=false"); err != nil {
		t.Fatal(err)
	}
}

// owner is the process of the launcher that runs now.
func owner(t *testing.T, s *stage.Stage) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.State(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// registered is the version that the registered path starts.
func registered(t *testing.T, s *stage.Stage) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), s.Launcher, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(strings.TrimPrefix(string(out), "turnstone launcher "))
}

// The launcher replaces itself under load and nobody notices: the same pid, the same payload, no lost request;
// and the new one can update the payload, and itself.
func TestSelfUpdate(t *testing.T) {
	s := renewable(t, "1m", "20s")
	launch(t, s)
	serving(t, s, "1.0.0")
	payload, pid := pids(t, s)["1.0.0"], s.PID()
	offer(t, s, "100.1.0", "")
	r := underLoad(t, s, some, func(l *load.Load) {
		operator(t, s, 0, "self-update", "--check")
		if got := registered(t, s); got != "100.0.0" {
			t.Errorf("a check changed the launcher to %s", got)
		}
		operator(t, s, 0, "self-update", "--follow")
		flow(t, l, 100)
		offer(t, s, "100.2.0", "")
		operator(t, s, 0, "self-update", "--follow")
	})
	nothingLost(t, r)
	if got := registered(t, s); got != "100.2.0" {
		t.Errorf("registered is %s", got)
	}
	if now := owner(t, s); now != pid {
		t.Errorf("the launcher is process %d, it was %d", now, pid)
	}
	if now := pids(t, s)["1.0.0"]; now != payload {
		t.Errorf("process %d serves, before it was %d", now, payload)
	}
	operator(t, s, 3, "self-update")
	change(t, s, "yank", "100.2.0", "--reason", "test") // what is offered now lies behind
	operator(t, s, 3, "self-update")
	if got := registered(t, s); got != "100.2.0" {
		t.Errorf("went back to %s", got)
	}
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	operator(t, s, 0, "update", "--now", "--follow")
	if err := s.Quit(); err != nil {
		t.Fatal(err)
	}
	says(t, operator(t, s, 0, "uninstall", "--purge"), "that file")
	if got := registered(t, s); got != "100.2.0" { // and not a link to what was removed
		t.Errorf("after the state folder is gone %s is registered", got)
	}
}

// Without an order, in idle, the launcher follows its channel.
func TestSelfUpdateByItself(t *testing.T) {
	s := renewable(t, "1s", "20s")
	launch(t, s)
	serving(t, s, "1.0.0")
	offer(t, s, "100.1.0", "")
	eventually(t, "100.1.0 is registered", func() bool { return registered(t, s) == "100.1.0" })
	eventually(t, "the trial is over", func() bool {
		_, err := os.Stat(filepath.Join(s.State(), "launcher", "trial"))
		return os.IsNotExist(err)
	})
	serving(t, s, "1.0.0")
}

// A launcher that ends at once, or that hangs, is replaced by the one before it,
// which comes back by itself; no request is lost, and it is not tried again.
func TestSelfUpdateGoesBack(t *testing.T) {
	for _, fault := range []string{"exit", "hang"} {
		t.Run(fault, func(t *testing.T) {
			s := renewable(t, "1m", "2s")
			launch(t, s)
			serving(t, s, "1.0.0")
			payload := pids(t, s)["1.0.0"]
			offer(t, s, "100.1.0", fault)
			r := underLoad(t, s, some, func(l *load.Load) {
				out := operator(t, s, 20, "self-update", "--follow")
				says(t, out, "100.0.0 runs again")
				flow(t, l, 100)
			})
			back := owner(t, s)
			t.Cleanup(func() { end(t, s, back) })
			nothingLost(t, r)
			if got := registered(t, s); got != "100.0.0" {
				t.Errorf("registered is %s", got)
			}
			if now := pids(t, s)["1.0.0"]; now != payload {
				t.Errorf("process %d serves, before it was %d", now, payload)
			}
			says(t, operator(t, s, 10, "self-update"), "did not report in here before")
		})
	}
}

// Bytes that are not the vendor's, and a program that is no launcher, are refused, and nothing changes.
func TestSelfUpdateRefuses(t *testing.T) {
	s := renewable(t, "1m", "20s")
	launch(t, s)
	serving(t, s, "1.0.0")
	stays := func(code int) {
		t.Helper()
		operator(t, s, code, "self-update", "--follow")
		if info, err := os.Lstat(s.Launcher); err != nil || !info.Mode().IsRegular() {
			t.Errorf("the registered file was touched: %v", err)
		}
		if _, err := os.Stat(filepath.Join(s.State(), "launcher", "trial")); !os.IsNotExist(err) {
			t.Errorf("a trial began: %v", err)
		}
	}
	change(t, s, "add", "100.1.0", "--platform", runtime.GOOS+"/"+runtime.GOARCH+"="+example(t, "1.0.0", ""), "--channel", "launcher")
	stays(11)
	before, err := filepath.Glob(filepath.Join(s.Repo(), "artifacts", "*"))
	if err != nil {
		t.Fatal(err)
	}
	offer(t, s, "100.2.0", "")
	after, err := filepath.Glob(filepath.Join(s.Repo(), "artifacts", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range after {
		if slices.Contains(before, name) || strings.HasSuffix(name, ".minisig") {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := errors.Join(os.Chmod(name, 0o644), os.WriteFile(name, b, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	stays(11)
}

// A launcher that has come while the payload is being updated waits for the end of that, which is no failed download.
func TestSelfUpdateWaitsForAnUpdate(t *testing.T) {
	s := renewable(t, "1m", "20s")
	edit(t, s, `time = "300ms"`, `time = "1h"`)
	m := behind(t, s)
	launch(t, s)
	serving(t, s, "1.0.0")
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	offer(t, s, "100.1.0", "")
	size, asked, release := fileSize(t, launcherBinary(t, "100.1.0", "")), make(chan struct{}, 100), make(chan struct{})
	m.is(func(w http.ResponseWriter, whole []byte) {
		if int64(len(whole)) == size {
			asked <- struct{}{}
			<-release
		}
		_, _ = w.Write(whole) // the reader may have gone
	})
	renewal := background(t, s, "self-update", "--follow")
	<-asked
	operator(t, s, 0, "update", "1.1.0", "--now")
	phase(t, s, journal.Probation)
	close(release)
	says(t, renewal.ends(t, 10), "waits: an update is under way")
}

// end stops a launcher that the test did not start itself.
func end(t *testing.T, s *stage.Stage, pid int) {
	_ = syscall.Kill(pid, syscall.SIGTERM)
	for range 300 {
		if syscall.Kill(pid, 0) != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("launcher %d goes on:\n%s", pid, s.Log())
}

// supervise is a service manager: it starts what is registered whenever it ends, until ctx does.
func supervise(ctx context.Context, t *testing.T, s *stage.Stage) (wait func()) {
	t.Helper()
	log, err := os.Create(filepath.Join(s.Home, "managed.log")) // a file: the guard has it too, and a pipe would be waited for
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			cmd := exec.Command(s.Launcher, "run", "--config", s.Config)
			cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(s.Home, "nobody"))
			cmd.Stdout, cmd.Stderr = log, log
			if err := cmd.Start(); err != nil {
				t.Error(err)
				return
			}
			stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
			_ = cmd.Wait() // its end is what matters
			stop()
		}
	}()
	return func() {
		<-done
		if b, err := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("under the manager: %v\n%s", err, b)
		}
		_ = log.Close() // it was read
	}
}

// Under a service manager the launcher ends, and what is registered is started: a good one stays, one that keeps
// ending goes back after two tries, and one that hangs is ended by the guard.
func TestSelfUpdateUnderManager(t *testing.T) {
	for fault, reason := range map[string]string{
		"": "has taken over", "exit": "did not report in after 2 starts", "hang": "did not report in within 7s",
	} {
		t.Run("fault "+fault, func(t *testing.T) {
			trial := "2s"
			if fault == "" {
				trial = "20s"
			}
			s := renewable(t, "1m", trial)
			ctx, stop := context.WithCancel(t.Context())
			wait := supervise(ctx, t, s)
			defer func() { stop(); wait() }()
			serving(t, s, "1.0.0")
			payload := pids(t, s)["1.0.0"]
			offer(t, s, "100.1.0", fault)
			want, code := "100.0.0", 20
			if fault == "" {
				want, code = "100.1.0", 0
			}
			r := underLoad(t, s, some, func(l *load.Load) {
				out := operator(t, s, code, "self-update", "--follow")
				says(t, out, reason)
				flow(t, l, 100)
			})
			nothingLost(t, r)
			if got := registered(t, s); got != want {
				t.Errorf("registered is %s", got)
			}
			if now := pids(t, s)["1.0.0"]; now != payload {
				t.Errorf("process %d serves, before it was %d", now, payload)
			}
		})
	}
}
