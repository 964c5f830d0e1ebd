package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/launcher/control"
)

// What install writes is a unit that systemd has nothing to say against, and that starts with the machine.
// Installing again changes nothing; uninstalling leaves no unit and no process.
func TestSystemdInstall(t *testing.T) {
	m := booted(t, quick(nil))
	says(t, m.launcher(t, 0, "install"), "/etc/systemd/system/"+hostUnit, "created")
	if out := m.run(t, 0, "systemd-analyze", "verify", "--man=no", "/etc/systemd/system/"+hostUnit); out != "" {
		t.Errorf("systemd-analyze verify:\n%s", out)
	}
	says(t, m.run(t, 0, "systemctl", "is-enabled", hostUnit), "enabled")
	again := m.launcher(t, 0, "install")
	if says(t, again, "right"); strings.Contains(again, "created") || strings.Contains(again, "changed") {
		t.Errorf("a second install:\n%s", again)
	}
	m.run(t, 0, "chmod", "o+w", hostState)
	says(t, m.launcher(t, 13, "install"), "! state folder: failed", "the service is registered; not done: state folder;")
	m.run(t, 0, "chmod", "o-w", hostState)
	m.launcher(t, 0, "start")
	m.serving(t, "1.0.0")
	says(t, m.run(t, 0, "systemctl", "is-active", hostUnit), "active")
	m.launcher(t, 0, "doctor")
	m.run(t, 0, "systemctl", "disable", hostUnit)
	says(t, m.launcher(t, 13, "doctor"), `start with the machine: differs: is "disabled", should be "enabled"`)
	m.launcher(t, 0, "uninstall")
	if left := m.inUnit(t); len(left) > 0 {
		t.Errorf("after uninstall there run %v", left)
	}
	m.run(t, 4, "systemctl", "status", hostUnit) // no such unit
}

// The exposure that the documentation states is the one that systemd computes, and a program that makes code
// while it runs, as node, Java and .NET do, can do so in the unit.
func TestSystemdSecurity(t *testing.T) {
	m := installed(t, quick(nil))
	out := m.run(t, 0, "systemd-analyze", "security", "--no-pager", hostUnit)
	found := exposure.FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("no exposure in\n%s", out)
	}
	t.Logf("%s\n%s", found[0], out)
	doc, err := os.ReadFile("../docs/SYSTEMD.md")
	if err != nil {
		t.Fatal(err)
	}
	if version := m.run(t, 0, "systemctl", "--version"); strings.HasPrefix(version, "systemd 252 ") { // others count otherwise
		says(t, string(doc), "exposure level "+strings.Fields(found[1])[0])
	}
	// In the same sandbox: writable and executable memory, and one file mapped both ways.
	const jit = `use strict;
my $rwx = syscall(9, 0, 4096, 7, 0x22, -1, 0); die "mmap rwx: $!" if $rwx == -1;
my $name = "jit"; my $fd = syscall(319, $name, 0); die "memfd_create: $!" if $fd == -1;
open(my $f, "+<&=", $fd) or die; truncate($f, 4096) or die;
my $w = syscall(9, 0, 4096, 3, 1, $fd, 0); die "map to write: $!" if $w == -1;
my $x = syscall(9, 0, 4096, 5, 1, $fd, 0); die "map to run: $!" if $x == -1;
print "can compile\n";`
	says(t, m.sandboxed(t, "perl", "-e", jit), "can compile")
}

// sandboxed runs a command as the payload's account in a sandbox like the unit's.
func (m *machine) sandboxed(t *testing.T, argv ...string) string {
	t.Helper()
	unit, err := os.ReadFile(m.Root() + "/etc/systemd/system/" + hostUnit)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"systemd-run", "--quiet", "--pipe", "--wait", "--property=User=acme"}
	for line := range strings.Lines(string(unit)) {
		name, _, _ := strings.Cut(line, "=")
		for _, prefix := range []string{"Protect", "Restrict", "Private", "Lock", "SystemCall", "NoNew", "Capability", "MemoryDeny"} {
			if strings.HasPrefix(name, prefix) && name != "RestartPreventExitStatus" {
				args = append(args, "--property="+strings.TrimSpace(line))
			}
		}
	}
	return m.run(t, 0, append(args, argv...)...)
}

// systemd calls the service started when a client is answered, not before. A launcher that has no version
// yet does not hold the machine's start up.
func TestSystemdStart(t *testing.T) {
	m := booted(t, quick(nil))
	m.launcher(t, 0, "install")
	m.stage.Change(t.Context(), "yank", "1.0.0", "--reason", "nothing to install yet")
	begun := time.Now()
	m.run(t, 0, "systemctl", "start", hostUnit)
	soon(t, "the first start", 30*time.Second, begun)
	const late = 5 * time.Second
	publish(t, m.stage, "1.1.0", example(t, "1.1.0", "slow-start:"+late.String()))
	m.launcher(t, 0, "update", "--now", "--follow")
	m.serving(t, "1.1.0")
	m.run(t, 0, "systemctl", "stop", hostUnit)
	begun = time.Now()
	m.run(t, 0, "systemctl", "start", hostUnit)
	if took := time.Since(begun); took < late {
		t.Errorf("started after %s, but the version needs %s before it can serve", took, late)
	}
	begun = time.Now()
	if version, _ := m.served(t); version != "1.1.0" {
		t.Errorf("version %s answers", version)
	}
	soon(t, "the first answer", 3*time.Second, begun)
	says(t, m.property(t, "StatusText"), "running")
}

// An address that cannot be had is tried again, by systemd, until it can.
func TestSystemdTriesTheAddressAgain(t *testing.T) {
	m := booted(t, quick(nil))
	ln, err := net.Listen("tcp", m.stage.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	m.launcher(t, 0, "install")
	m.run(t, 0, "systemctl", "start", "--no-block", hostUnit)
	eventually(t, "the launcher is started again and again", func() bool {
		n, err := strconv.Atoi(m.property(t, "NRestarts"))
		return err == nil && n >= 3
	})
	says(t, m.journal(t), "address in use", "status=13")
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the unit has started", func() bool { return m.property(t, "ActiveState") == "active" })
	m.serving(t, "1.0.0")
	if got := m.property(t, "OOMPolicy"); got != "continue" {
		t.Errorf("when a payload is killed for its memory, systemd's policy is %s", got)
	}
}

// With a socket unit systemd opens the address, and the launcher takes it from there; what connects while the service
// is stopped starts it and is answered.
func TestSystemdSocketUnit(t *testing.T) {
	m := booted(t, quick(nil))
	socket := stage.Product + ".socket"
	text := "[Socket]\nListenStream=" + m.stage.Listen + "\nFileDescriptorName=http\n"
	if err := m.Write("/etc/systemd/system/"+socket, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	m.launcher(t, 0, "install")
	m.dropIn(t, "NonBlocking=yes\n")
	m.run(t, 0, "systemctl", "start", socket)
	m.launcher(t, 0, "start")
	m.serving(t, "1.0.0")
	r := m.loaded(t, func() {
		publish(t, m.stage, "1.1.0", example(t, "1.1.0", ""))
		m.launcher(t, 0, "update", "--now", "--follow")
	})
	nothingLost(t, r)
	m.run(t, 0, "systemctl", "stop", hostUnit)
	if v, _ := m.served(t); v != "1.1.0" {
		t.Errorf("%s answers who connected while the service was stopped", v)
	}
}

// A reload reads the configuration again without a stop of anything; one with a mistake changes nothing.
func TestSystemdReload(t *testing.T) {
	m := installed(t, quick(nil))
	_, pid := m.served(t)
	before := m.mainPID(t)
	r := m.loaded(t, func() {
		m.run(t, 0, "sed", "-i", `s/^poll = .*/poll = "7m"/`, hostConfig)
		m.run(t, 0, "systemctl", "reload", hostUnit)
		eventually(t, "the reload is told", func() bool { return strings.Contains(m.journal(t), "repository.poll") })
		m.run(t, 0, "sed", "-i", `s/^poll = .*/pool = "7m"/`, hostConfig)
		m.run(t, 0, "systemctl", "reload", hostUnit)
		eventually(t, "the mistake is told", func() bool { return strings.Contains(m.journal(t), "pool") })
		m.run(t, 0, "sed", "-i", `s/^pool = .*/poll = "7m"/`, hostConfig)
	})
	nothingLost(t, r)
	eventually(t, "active again", func() bool { return m.property(t, "ActiveState") == "active" })
	if _, now := m.served(t); now != pid || m.mainPID(t) != before {
		t.Errorf("payload %d and launcher %s, before they were %d and %s", now, m.mainPID(t), pid, before)
	}
}

func (m *machine) journal(t *testing.T) string {
	t.Helper()
	return m.run(t, 0, "journalctl", "--no-pager", "--unit="+hostUnit)
}

// A wrong configuration waits for a person: systemd does not start the launcher again and again, and what
// serves goes on.
func TestSystemdWrongConfiguration(t *testing.T) {
	m := installed(t, quick(nil))
	_, pid := m.served(t)
	r := m.loaded(t, func() {
		m.run(t, 0, "sed", "-i", `s/^poll = /pool = /`, hostConfig)
		m.kill(t, "KILL", m.mainPID(t))
		eventually(t, "the unit has failed", func() bool { return m.property(t, "ActiveState") == "failed" })
		m.run(t, 0, "sed", "-i", `s/^pool = /poll = /`, hostConfig)
		m.run(t, 0, "systemctl", "start", hostUnit)
		m.is(t, "the launcher answers", func(st control.Status) bool { return st.Health == control.Healthy })
	})
	nothingLost(t, r)
	if _, now := m.served(t); now != pid {
		t.Errorf("process %d serves, before it was %d", now, pid)
	}
}

// A stop lets requests in flight end, and leaves no process of the unit behind.
func TestSystemdStop(t *testing.T) {
	m := installed(t, quick(nil))
	code := m.slow(t, 6*time.Second)
	m.run(t, 0, "systemctl", "stop", hostUnit)
	if got := <-code; got != http.StatusOK {
		t.Errorf("the request in flight ended with %d", got)
	}
	if left := m.inUnit(t); len(left) > 0 {
		t.Errorf("after the stop there run %v", left)
	}
	says(t, m.property(t, "Result"), "success")
	m.run(t, 0, "systemctl", "start", hostUnit)
	m.serving(t, "1.0.0")
}

// slow asks for an answer that takes that long, returns when the request is in flight, and later sends the
// status of its answer, 0 if it got none.
func (m *machine) slow(t *testing.T, takes time.Duration) <-chan int {
	t.Helper()
	code := make(chan int, 1)
	go func() {
		resp, err := http.Get(fmt.Sprintf("http://%s/slow?ms=%d", m.stage.Listen, takes.Milliseconds()))
		if err != nil {
			code <- 0
			return
		}
		defer resp.Body.Close()
		code <- resp.StatusCode
	}()
	eventually(t, "the request is in flight", func() bool {
		st, _ := m.status(t)
		return len(st.Processes) == 1 && st.Processes[0].Open > 0
	})
	return code
}
