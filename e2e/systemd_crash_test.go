package e2e

import (
	"strconv"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/launcher/control"
)

// adopted demands that the launcher that runs now has taken over the payload that served before.
func (m *machine) adopted(t *testing.T, version string, pid int) {
	t.Helper()
	st := m.is(t, "the payload is adopted", func(st control.Status) bool { return len(st.Processes) == 1 && st.Health == control.Healthy })
	if p := st.Processes[0]; p.PID != pid || p.Number != version {
		t.Errorf("%s runs as process %d, want %s as process %d", p.Number, p.PID, version, pid)
	}
	if v, now := m.served(t); v != version || now != pid {
		t.Errorf("%s answers as process %d, want %s as process %d", v, now, version, pid)
	}
}

// The death of the launcher costs clients nothing: its payload goes on, and the next launcher takes it over
// together with the sockets that systemd kept. An update afterwards works as ever.
func TestSystemdCrash(t *testing.T) {
	m := installed(t, quick(nil))
	_, pid := m.served(t)
	r := m.loaded(t, func() {
		for range 3 {
			before := m.mainPID(t)
			m.kill(t, "KILL", before)
			m.restarted(t, before)
			m.adopted(t, "1.0.0", pid)
		}
		publish(t, m.stage, "1.1.0", example(t, "1.1.0", ""))
		m.launcher(t, 0, "update", "--now", "--follow")
	})
	nothingLost(t, r)
	if got := m.property(t, "NRestarts"); got != "3" {
		t.Errorf("%s restarts, want 3", got)
	}
	if got := m.property(t, "NFileDescriptorStore"); got != "1" {
		t.Errorf("systemd keeps %s sockets, want 1", got)
	}
	if v, _ := m.served(t); v != "1.1.0" {
		t.Errorf("%s serves after the update", v)
	}
}

// When everything that serves dies at once, clients wait in the queue of the socket that systemd keeps: they
// are answered late and not refused.
func TestSystemdKeepsTheSocket(t *testing.T) {
	for _, mode := range []string{"handoff", "proxy"} {
		t.Run(mode, func(t *testing.T) {
			m := installed(t, quick(map[string]string{"traffic": "mode = \"" + mode + "\"\n"}))
			_, pid := m.served(t)
			begun := make(chan struct{})
			r := m.loaded(t, func() {
				before := m.mainPID(t)
				close(begun)
				m.kill(t, "KILL", before, strconv.Itoa(pid))
				m.restarted(t, before)
				m.serving(t, "1.0.0")
			})
			if r.Refused > 0 {
				t.Errorf("%d connections were refused", r.Refused)
			}
			if _, now := m.served(t); now == pid {
				t.Error("the dead process answers")
			}
			before := m.mainPID(t)
			m.kill(t, "KILL", before) // the sockets of the second life are kept too
			m.restarted(t, before)
			m.serving(t, "1.0.0")
		})
	}
}

// Another address in the configuration is served at the next start, and the old one is held by nobody.
func TestSystemdLetsGoOfAnOldAddress(t *testing.T) {
	m := installed(t, quick(nil))
	old := m.stage.Listen
	next, err := stage.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	m.run(t, 0, "sed", "-i", "s/"+old+"/"+next+"/", hostConfig)
	_, pid := m.served(t)
	before := m.mainPID(t)
	m.kill(t, "KILL", before, strconv.Itoa(pid))
	m.restarted(t, before)
	m.serving(t, "1.0.0")
	if _, err := answer(t.Context(), m.stage); err == nil {
		t.Errorf("somebody still answers at %s", old)
	}
	m.stage.Listen = next
	if v, _ := m.served(t); v != "1.0.0" {
		t.Errorf("version %s answers at %s", v, next)
	}
	if got := m.property(t, "NFileDescriptorStore"); got != "1" {
		t.Errorf("systemd keeps %s sockets, want 1", got)
	}
}

// A launcher that hangs is ended by systemd's watchdog; clients notice nothing.
func TestSystemdWatchdog(t *testing.T) {
	m := booted(t, quick(nil))
	m.launcher(t, 0, "install")
	m.dropIn(t, "WatchdogSec=6\n")
	m.launcher(t, 0, "start")
	m.serving(t, "1.0.0")
	_, pid := m.served(t)
	r := m.loaded(t, func() {
		stage.Wait(t.Context(), 8*time.Second) // a launcher that is well outlives the time of the watchdog
		before := m.mainPID(t)
		if got := m.property(t, "NRestarts"); got != "0" {
			t.Errorf("%s restarts before anything hung", got)
		}
		m.kill(t, "STOP", before)
		m.restarted(t, before)
		m.adopted(t, "1.0.0", pid)
	})
	nothingLost(t, r)
	says(t, m.journal(t), "Watchdog timeout")
}

// A launcher that dies while it drains does not come back, so ExecStopPost ends what it left.
func TestSystemdReap(t *testing.T) {
	m := installed(t, quick(nil))
	if left := m.inUnit(t); len(left) != 1 {
		t.Fatalf("there run %v, want one payload", left)
	}
	m.slow(t, 8*time.Second) // holds up the drain; nobody waits for its answer
	launcher := m.mainPID(t)
	m.run(t, 0, "systemctl", "stop", "--no-block", hostUnit)
	eventually(t, "the stop is under way", func() bool { return m.property(t, "ActiveState") == "deactivating" })
	m.kill(t, "KILL", launcher)
	eventually(t, "the unit has stopped", func() bool {
		state := m.property(t, "ActiveState")
		return state == "inactive" || state == "failed"
	})
	if left := m.inUnit(t); len(left) > 0 {
		t.Errorf("after the stop there run %v", left)
	}
	if m.mainPID(t) != "0" {
		t.Error("a launcher runs after the stop")
	}
}
