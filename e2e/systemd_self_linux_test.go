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
// one that ends over and over, and one that hangs. Each time the
// same payload goes on, and no client loses a request. The good one stays, over a reboot too.
func TestSystemdSelfUpdate(t *testing.T) {
	p := programs
	p.Launcher = launcherBinary(t, "100.0.0", "")
	o := quick(map[string]string{"launcher": "channel = \"launcher\"\ntrial = \"6s\"\n"})
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

// Power fails in the middle of a trial. A launcher that hangs before it has done anything is replaced by the one before
// it after the next boot: by the guard that the old one leaves at each start, and where the time of the trial is longer
// than systemd's patience, by the old one itself, which counts the starts. A good one takes over.
func TestSystemdPowerCutInATrial(t *testing.T) {
	for name, c := range map[string]struct{ trial, patience, reason string }{
		"guard": {"10s", "600", "did not report in within 15s"}, "count": {"10m", "5", "did not report in after 2 starts"},
	} {
		t.Run(name, func(t *testing.T) {
			p := programs
			p.Launcher = launcherBinary(t, "100.0.0", "")
			o := quick(map[string]string{"launcher": "channel = \"launcher\"\ntrial = \"" + c.trial + "\"\n"})
			o.Channels = []string{"launcher"}
			m := bootedWith(t, p, o)
			m.launcher(t, 0, "install")
			m.dropIn(t, "TimeoutStartSec="+c.patience+"\n")
			m.launcher(t, 0, "start")
			m.serving(t, "1.0.0")

			m.cutInTrial(t, "100.1.0", "hang")
			m.serving(t, "1.0.0")
			eventually(t, "the trial is over", m.trialIsOver)
			if now := m.registered(t); now != "100.0.0" {
				t.Errorf("%s is registered", now)
			}
			says(t, m.record(t, "current"), c.reason)
			says(t, m.launcher(t, 10, "self-update"), "did not report in here before")

			m.cutInTrial(t, "100.2.0", "")
			m.serving(t, "1.0.0")
			eventually(t, "the new launcher is registered", func() bool { return m.trialIsOver() && m.registered(t) == "100.2.0" })
			m.launcher(t, 3, "self-update")
		})
	}
}

// cutInTrial cuts the power when the trial of a launcher has begun, and boots again.
func (m *machine) cutInTrial(t *testing.T, version, fault string) {
	t.Helper()
	offer(t, m.stage, version, fault)
	m.launcher(t, 0, "self-update")
	eventually(t, "the trial of "+version, func() bool { return !m.trialIsOver() })
	if err := m.PowerCut(); err != nil {
		t.Fatal(err)
	}
	if !m.trialIsOver() {
		says(t, m.record(t, "trial"), version)
	} else if fault != "" {
		t.Error("the trial was over before power failed")
	}
	if err := m.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// record is a record of the launcher's self-updates.
func (m *machine) record(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(m.Root(), hostState, "launcher", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
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
