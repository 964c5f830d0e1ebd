package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/launcher/control"
)

// Under systemd the launcher replaces itself, and a launcher that cannot take over is replaced by the one before it:
// one that ends over and over, before or after its first act, and one that hangs and never reports in. Each time the
// same payload goes on, and no client loses a request. The good one stays, over a reboot too.
func TestSystemdSelfUpdate(t *testing.T) {
	p := programs
	p.Launcher = launcherBinary(t, "100.0.0", "")
	o := quick(map[string]string{"launcher": "channel = \"launcher\"\ntrial = \"3s\"\n"})
	o.Channels = []string{"launcher"}
	m := bootedWith(t, p, o)
	m.launcher(t, 0, "install")
	m.launcher(t, 0, "start")
	m.serving(t, "1.0.0")
	_, pid := m.served(t)
	for _, next := range []struct {
		version, fault, after string
		code                  int
	}{
		{"100.1.0", "exit-late", "100.0.0", 20},
		{"100.2.0", "exit", "100.0.0", 20},
		{"100.3.0", "hang", "100.0.0", 20},
		{"100.4.0", "", "100.4.0", 0},
	} {
		offer(t, m.stage, next.version, next.fault)
		r := m.loaded(t, func() {
			m.launcher(t, next.code, "self-update", "--follow")
			m.is(t, "the service is well", func(st control.Status) bool { return st.Health == control.Healthy && st.Phase == "idle" })
		})
		nothingLost(t, r)
		if now := m.registered(t); now != next.after {
			t.Errorf("after %s, whose fault is %q, %s is registered", next.version, next.fault, now)
		}
		if _, now := m.served(t); now != pid {
			t.Errorf("after %s process %d serves, before it was %d", next.version, now, pid)
		}
		if next.code != 0 {
			says(t, m.launcher(t, 10, "self-update"), "did not report in here before")
		}
	}
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.serving(t, "1.0.0")
	if now := m.registered(t); now != "100.4.0" {
		t.Errorf("after the reboot %s is registered", now)
	}
	exe := m.run(t, 0, "readlink", "/proc/"+m.mainPID(t)+"/exe")
	if !strings.HasPrefix(exe, hostState+"/launcher/") {
		t.Errorf("systemd runs %s", exe)
	}
	publish(t, m.stage, "1.1.0", example(t, "1.1.0", ""))
	m.launcher(t, 0, "update", "--now", "--follow")
	m.launcher(t, 0, "uninstall")
	m.run(t, 0, "rm", "-r", hostState)
	if now := m.registered(t); now != "100.4.0" {
		t.Errorf("without the state folder %s is left", now)
	}
}

// When power fails in the middle of a trial, the guard is gone. A launcher that hangs is then ended by systemd's own
// bound for a start, and the one before it comes back at the next, since the new one counts its starts before
// anything else. A good one takes over.
func TestSystemdPowerCutInATrial(t *testing.T) {
	p := programs
	p.Launcher = launcherBinary(t, "100.0.0", "")
	o := quick(map[string]string{"launcher": "channel = \"launcher\"\ntrial = \"10m\"\n"})
	o.Channels = []string{"launcher"}
	m := bootedWith(t, p, o)
	m.launcher(t, 0, "install")
	m.dropIn(t, "TimeoutStartSec=5\n")
	m.launcher(t, 0, "start")
	m.serving(t, "1.0.0")
	for _, next := range []struct {
		version, fault, after string
		code                  int
	}{
		{"100.1.0", "hang-late", "100.0.0", 10},
		{"100.2.0", "", "100.2.0", 3},
	} {
		offer(t, m.stage, next.version, next.fault)
		m.launcher(t, 0, "self-update")
		eventually(t, next.version+" is registered", func() bool { return m.registered(t) == next.version })
		if err := m.PowerCut(); err != nil {
			t.Fatal(err)
		}
		if next.fault != "" {
			left, err := os.ReadFile(filepath.Join(m.Root(), hostState, "launcher", "trial"))
			if err != nil {
				t.Fatal(err)
			}
			says(t, string(left), next.version)
		}
		if err := m.Boot(t.Context()); err != nil {
			t.Fatal(err)
		}
		m.serving(t, "1.0.0")
		eventually(t, "the trial is over", func() bool { return m.registered(t) == next.after && m.trialIsOver() })
		m.launcher(t, next.code, "self-update")
	}
}

// trialIsOver says whether there is no record of one.
func (m *machine) trialIsOver() bool {
	_, err := os.Stat(filepath.Join(m.Root(), hostState, "launcher", "trial"))
	return errors.Is(err, fs.ErrNotExist)
}

// registered is the version of what systemd starts.
func (m *machine) registered(t *testing.T) string {
	t.Helper()
	return strings.TrimPrefix(m.run(t, 0, hostLauncher, "--version"), "turnstone launcher ")
}
