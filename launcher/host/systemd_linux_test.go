package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The words of the protocol, in the order of a life.
func TestWordsForSystemd(t *testing.T) {
	for _, tc := range []struct {
		st   state
		want string
	}{
		{state{phase: starting, check: 1, hint: hint}, "STATUS=starting\nEXTEND_TIMEOUT_USEC=10000000"},
		{state{phase: running}, "READY=1\nSTATUS=running"},
		{state{phase: running, reloading: true}, "RELOADING=1\nMONOTONIC_USEC=5000000"},
		{state{phase: stopping, check: 1, hint: hint}, "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=10000000"},
		{state{phase: stopping, check: 2, hint: hint}, "EXTEND_TIMEOUT_USEC=10000000"},
	} {
		if got := words(tc.st, 5*time.Second); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.st, got, tc.want)
		}
	}
}

// A real socket in systemd's place hears a life: ready, watchdog, reload by SIGHUP, stop.
func TestLifeUnderSystemd(t *testing.T) {
	dir, err := os.MkdirTemp("", "ts")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	t.Setenv("WATCHDOG_USEC", "100000")
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	heard := func(want string) {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		for b := make([]byte, 4096); ; {
			n, err := conn.Read(b)
			if err != nil {
				t.Fatalf("never heard %s: %v", want, err)
			}
			if strings.Contains(string(b[:n]), want) {
				return
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	reloaded := make(chan struct{}, 1)
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Service{Name: "test", Run: func(ctx context.Context, ready func(Controls)) error {
			ready(Controls{Reload: func() error { reloaded <- struct{}{}; return nil }})
			<-ctx.Done()
			return nil
		}})
	}()
	heard("READY=1")
	heard("WATCHDOG=1")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	heard("RELOADING=1")
	<-reloaded
	heard("READY=1")
	cancel()
	heard("STOPPING=1")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// systemd's own parser accepts the unit, where it is at hand.
func TestUnit(t *testing.T) {
	s := spec()
	s.Exe, s.Args = "/usr/bin/env", []string{Verb, "--config", "/etc/acme/launcher.toml"} // verify looks for the program
	text := Unit(s)
	for _, line := range []string{
		"Type=notify", "KillMode=process", "RestartSec=100ms", "StartLimitIntervalSec=0", "RuntimeDirectoryPreserve=yes",
		"OOMPolicy=continue", "FileDescriptorStoreMax=64", "WatchdogSec=30", `ExecStopPost="/usr/bin/env" "reap" "--config" "/etc/acme/launcher.toml"`,
		`ExecStart="/usr/bin/env" "run-service" "--config" "/etc/acme/launcher.toml"`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the unit lacks %s:\n%s", line, text)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd-analyze is not here: the unit was not verified by systemd")
		return
	}
	file := filepath.Join(t.TempDir(), "acme-agent.service")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "Requires=Tcpip.service", "")), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(analyze, "verify", file).CombinedOutput(); err != nil || strings.Contains(string(out), "acme-agent.service:") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// Install writes the unit once, mends it, and uninstall leaves nothing.
func TestRegisterWithSystemd(t *testing.T) {
	var calls []string
	dir, enabled := t.TempDir(), "disabled"
	d := systemd{folder: dir, root: true, ctl: func(_ context.Context, args ...string) (string, error) {
		switch calls = append(calls, strings.Join(args, " ")); args[0] {
		case "is-enabled":
			if enabled != "enabled" {
				return enabled, errors.New("exit status 1")
			}
			return enabled, nil
		case "enable", "disable":
			enabled = args[0] + "d"
		}
		return "", nil
	}}
	s := spec()
	s.State = filepath.Join(dir, "state")
	if _, err := d.register(t.Context(), s, true); !errors.Is(err, ErrNoService) {
		t.Errorf("a look before install: %v", err)
	}
	steps, err := d.register(t.Context(), s, false)
	if err != nil || steps[0].Result != Created {
		t.Fatalf("%v: %v", err, steps)
	}
	if got := strings.Join(calls, "; "); got != "daemon-reload; is-enabled acme-agent.service; enable acme-agent.service" {
		t.Errorf("systemctl was called with %s", got)
	}
	right := func(what string, look bool) {
		t.Helper()
		steps, err := d.register(t.Context(), s, look)
		if err != nil || len(steps) != 3 {
			t.Errorf("%s: %v: %v", what, err, steps)
		}
		for _, step := range steps {
			if step.Result != Right {
				t.Errorf("%s: %s", what, step)
			}
		}
	}
	right("a second install", false)
	right("a look at it", true)
	enabled = "disabled"
	if steps, err = d.register(t.Context(), s, true); err != nil || steps[2].Result != Differs || !steps[2].Bad() || enabled != "disabled" {
		t.Errorf("a look at a unit that somebody disabled: %v: %v", err, steps)
	}
	if steps, err = d.register(t.Context(), s, false); err != nil || steps[2].Result != Changed || enabled != "enabled" {
		t.Errorf("an install of it: %v: %v", err, steps)
	}
	s.Start = Manual
	if steps, err = d.register(t.Context(), s, false); err != nil || steps[2].Result != Changed || enabled != "disabled" {
		t.Errorf("not with the machine: %v: %v", err, steps)
	}
	right("a second time", false)
	enabled = "Failed to connect to bus"
	if steps, err = d.register(t.Context(), s, false); err != nil || steps[2].Result != Failed || !strings.Contains(steps[2].Err, "exit status 1") {
		t.Errorf("systemd does not answer: %v: %v", err, steps)
	}
	enabled = "disabled"
	s.Description = "Serves more."
	if steps, err = d.register(t.Context(), s, false); err != nil || steps[0].Result != Changed {
		t.Errorf("a repair: %v: %v", err, steps)
	}
	if _, err := d.unregister(t.Context(), s.Name); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(dir + "/*.service"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	d.root = false
	if steps, err := d.unregister(t.Context(), s.Name); err != nil || len(steps) != 1 || steps[0].Result != Absent {
		t.Errorf("nothing to take out, without the right: %v: %v", err, steps)
	}
	if err := d.do(t.Context(), "start", s.Name); !errors.Is(err, ErrNoService) {
		t.Errorf("nothing to start, without the right: %v", err)
	}
	if err := os.WriteFile(d.unit(s.Name), []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := d.unregister(t.Context(), s.Name); !errors.Is(err, ErrPrivilege) {
		t.Errorf("uninstall without the right: %v", err)
	}
	if err := d.do(t.Context(), "start", s.Name); !errors.Is(err, ErrPrivilege) {
		t.Errorf("start without the right: %v", err)
	}
	if _, err := d.register(t.Context(), s, false); !errors.Is(err, ErrPrivilege) {
		t.Errorf("without the right: %v", err)
	}
}

// What cannot be taken out is said, and the rest is done.
func TestUnregisterGoesOnAfterAFailure(t *testing.T) {
	var calls []string
	d := systemd{folder: t.TempDir(), root: true, ctl: func(_ context.Context, args ...string) (string, error) {
		calls = append(calls, args[0])
		return "", errors.New("no bus")
	}}
	if err := os.MkdirAll(filepath.Join(d.unit("acme"), "in the way"), 0o755); err != nil {
		t.Fatal(err)
	}
	steps, err := d.unregister(t.Context(), "acme")
	if err != nil || len(steps) != 3 || strings.Join(calls, " ") != "disable daemon-reload reset-failed" {
		t.Fatalf("%v: %v; systemctl %v", err, steps, calls)
	}
	for _, step := range steps {
		if step.Result != Failed || step.Err == "" {
			t.Errorf("%s", step)
		}
	}
}

// After a self-update the launcher is a link into the state folder, perhaps behind a link of the operator's. Where
// it is uninstalled the file takes the place of that link and of no other, so that the folder can be removed.
func TestUninstallLeavesTheLauncherItself(t *testing.T) {
	dir := t.TempDir()
	state, elsewhere := filepath.Join(dir, "state"), filepath.Join(dir, "elsewhere")
	kept := filepath.Join(state, "launcher", "86ea", "launcher")
	installed, short := filepath.Join(dir, "acme"), filepath.Join(dir, "short")
	for _, err := range []error{
		os.MkdirAll(filepath.Dir(kept), 0o755), os.WriteFile(kept, []byte("launcher"), 0o755), os.WriteFile(elsewhere, []byte("other"), 0o755),
		os.Symlink(kept, installed), os.Symlink("acme", short),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{elsewhere, kept, filepath.Join(dir, "none"), ""} {
		if step := unlinkStep(name, state); step != (Step{}) {
			t.Errorf("%q: %s", name, step)
		}
	}
	if step := unlinkStep(short, state); step.Result != Changed || !strings.Contains(step.Name, installed) {
		t.Errorf("%s", step)
	}
	if err := os.RemoveAll(state); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(installed); err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != 0o755 {
		t.Errorf("%v: %v", err, info)
	}
	if b, err := os.ReadFile(short); err != nil || string(b) != "launcher" {
		t.Errorf("%v: %q", err, b)
	}
	if step := unlinkStep(short, state); step != (Step{}) {
		t.Errorf("a second time: %s", step)
	}
}

// The unit says which program to look at, whoever calls uninstall.
func TestProgramOfTheUnit(t *testing.T) {
	d, s := systemd{folder: t.TempDir()}, spec()
	if got := d.program(s.Name); got != "" {
		t.Errorf("without a unit: %q", got)
	}
	if err := os.WriteFile(d.unit(s.Name), []byte(Unit(s)), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := d.program(s.Name); got != s.Exe {
		t.Errorf("%q, want %q", got, s.Exe)
	}
}
