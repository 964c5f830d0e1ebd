package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/nspawn"
	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/launcher/control"
)

// Where an installation has its parts, in the machine.
const (
	hostLauncher = "/opt/acme-agent/launcher"
	hostConfig   = "/etc/acme-agent/launcher.toml"
	hostRoot     = "/etc/acme-agent/root.json"
	hostState    = "/var/lib/acme-agent"
	hostUnit     = stage.Product + ".service"
)

// machine is a booted system with the launcher as its service. The pipeline, the repository and the clients
// are outside; they share the machine's loopback network.
type machine struct {
	*nspawn.Machine
	stage *stage.Stage // its own launcher never runs
}

// booted is a machine with the launcher in its place and version 1.0.0 published, and nothing installed yet.
func booted(t *testing.T, o stage.Options) *machine {
	t.Helper()
	return bootedWith(t, programs, o)
}

func bootedWith(t *testing.T, p stage.Programs, o stage.Options) *machine {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("systemd is for Linux")
	}
	box, err := nspawn.New(t.Context())
	if errors.Is(err, nspawn.ErrUnavailable) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{Machine: box, stage: stagedWith(t, p, o)}
	t.Cleanup(func() { m.end(t) })
	publish(t, m.stage, "1.0.0", example(t, "1.0.0", ""))
	m.furnish(t)
	if err := m.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

// furnish puts in place what an administrator would: the launcher, its configuration, the trusted root.
func (m *machine) furnish(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile(m.stage.Config)
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(m.stage.Home, "product", "repo", "metadata", "1.root.json")
	text := strings.NewReplacer(m.stage.State(), hostState, root, hostRoot, `user = "same"`, `user = "`+nspawn.Account+`"`).Replace(string(b))
	for _, err := range []error{
		m.Write(hostConfig, []byte(text), 0o644),
		m.Put(root, hostRoot, 0o644),
		m.Put(m.stage.Launcher, hostLauncher, 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (m *machine) end(t *testing.T) {
	if t.Failed() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // the test's own has ended
		defer cancel()
		out, _, err := m.Run(ctx, "journalctl", "--no-pager", "--lines=400", "--output=short-precise", "_PID=1", "+", "_SYSTEMD_UNIT="+hostUnit)
		t.Logf("the machine's journal: %v\n%s", err, out)
	}
	if err := m.Close(); err != nil {
		t.Errorf("close the machine: %v", err)
	}
}

// installed is a machine whose launcher was installed and started, and serves 1.0.0.
func installed(t *testing.T, o stage.Options) *machine {
	t.Helper()
	m := booted(t, o)
	m.launcher(t, 0, "install")
	m.launcher(t, 0, "start")
	m.serving(t, "1.0.0")
	return m
}

// run runs a command in the machine, demands its exit code and returns what it printed.
func (m *machine) run(t *testing.T, code int, argv ...string) string {
	t.Helper()
	out, got, err := m.Run(t.Context(), argv...)
	if err != nil || got != code {
		t.Fatalf("%s: exit code %d, want %d: %v\n%s", strings.Join(argv, " "), got, code, err, out)
	}
	return strings.TrimSpace(out)
}

func (m *machine) launcher(t *testing.T, code int, args ...string) string {
	t.Helper()
	return m.run(t, code, append([]string{hostLauncher, "--config", hostConfig}, args...)...)
}

// kill sends a signal to processes of the machine. The shell has kill built in; the program need not be there.
func (m *machine) kill(t *testing.T, signal string, pids ...string) {
	t.Helper()
	m.run(t, 0, "sh", "-c", "kill -"+signal+" "+strings.Join(pids, " "))
}

// property is what systemd knows of the unit.
func (m *machine) property(t *testing.T, name string) string {
	t.Helper()
	return m.run(t, 0, "systemctl", "show", "--value", "--property="+name, hostUnit)
}

func (m *machine) mainPID(t *testing.T) string { t.Helper(); return m.property(t, "MainPID") }

// dropIn changes the unit as an administrator would.
func (m *machine) dropIn(t *testing.T, lines string) {
	t.Helper()
	if err := m.Write("/etc/systemd/system/"+hostUnit+".d/test.conf", []byte("[Service]\n"+lines), 0o644); err != nil {
		t.Fatal(err)
	}
	m.run(t, 0, "systemctl", "daemon-reload")
}

// status is what the launcher says of itself; false if it does not answer.
func (m *machine) status(t *testing.T) (control.Status, bool) {
	t.Helper()
	out, _, err := m.Run(t.Context(), hostLauncher, "--config", hostConfig, "status", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var r reply
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("status: %v\n%s", err, out)
	}
	st := into[control.Status](t, r)
	return st, st.Running
}

// is waits until the running launcher's status is as wanted, and returns it.
func (m *machine) is(t *testing.T, what string, want func(control.Status) bool) (st control.Status) {
	t.Helper()
	eventually(t, what, func() bool {
		var up bool
		st, up = m.status(t)
		return up && want(st)
	})
	return st
}

func (m *machine) serving(t *testing.T, version string) {
	t.Helper()
	m.is(t, version+" is active", func(st control.Status) bool {
		return st.Active != nil && st.Active.Number == version && st.Phase == "idle"
	})
}

// served is the version and the process, as the machine numbers it, that answer a client at this moment.
func (m *machine) served(t *testing.T) (version string, pid int) {
	t.Helper()
	text, err := answer(t.Context(), m.stage)
	if err != nil {
		t.Fatal(err)
	}
	var who struct {
		Version string
		PID     int
	}
	if _, body, _ := strings.Cut(text, " OK "); json.Unmarshal([]byte(body), &who) != nil {
		t.Fatalf("the service said %q", text)
	}
	return who.Version, who.PID
}

// inUnit is the command of every process in the unit's control group but the launcher's own, by pid.
func (m *machine) inUnit(t *testing.T) map[int]string {
	t.Helper()
	const script = `for p in /proc/[0-9]*; do grep -qs "/system.slice/$0$" $p/cgroup && echo "${p#/proc/} $(tr '\0' ' ' < $p/cmdline)"; done; true`
	all := make(map[int]string)
	for line := range strings.Lines(m.run(t, 0, "sh", "-c", script, hostUnit)) {
		pid, command, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatalf("not a process: %q", line)
		}
		if !strings.HasPrefix(command, hostLauncher) {
			all[n] = command
		}
	}
	return all
}

// loaded runs f while clients are at work, and returns what they saw.
func (m *machine) loaded(t *testing.T, f func()) load.Report {
	t.Helper()
	l := load.Start(load.Options{Address: m.stage.Listen, Workers: map[load.Class]int{load.KeepAlive: 8, load.Fresh: 8, load.H2: 4}})
	defer l.Stop()
	flow(t, l, 100)
	f()
	flow(t, l, 100)
	r := l.Stop()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	return r
}

// restarted waits until systemd has started another launcher and it answers.
func (m *machine) restarted(t *testing.T, before string) {
	t.Helper()
	eventually(t, "another launcher runs", func() bool {
		pid := m.mainPID(t)
		return pid != "0" && pid != before && m.property(t, "ActiveState") == "active"
	})
	m.is(t, "the launcher answers", func(control.Status) bool { return true })
}

var exposure = regexp.MustCompile(`Overall exposure level for \S+: (\d+\.\d+ \S+)`)

// soon waits no longer than d for something that must happen about now.
func soon(t *testing.T, what string, d time.Duration, begun time.Time) {
	t.Helper()
	if took := time.Since(begun); took > d {
		t.Errorf("%s took %s, at most %s was promised", what, took.Round(time.Millisecond), d)
	}
}
