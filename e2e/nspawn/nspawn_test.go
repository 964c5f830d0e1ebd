package nspawn

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Every test here boots: without systemd there is nothing to test.
func machine(t *testing.T) *Machine {
	t.Helper()
	m, err := New(t.Context())
	if errors.Is(err, ErrUnavailable) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close the machine: %v", err)
		}
	})
	return m
}

func run(t *testing.T, m *Machine, argv ...string) string {
	t.Helper()
	out, code, err := m.Run(t.Context(), argv...)
	if err != nil || code != 0 {
		t.Fatalf("%v: exit code %d, %v\n%s", argv, code, err, out)
	}
	return strings.TrimSpace(out)
}

// A machine boots, keeps its files over a reboot and a power cut, and leaves nothing behind.
func TestMachine(t *testing.T) {
	m := machine(t)
	if err := m.Write("/etc/mark", []byte("here"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := m.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := run(t, m, "cat", "/etc/mark"); got != "here" {
		t.Errorf("the file says %q", got)
	}
	if _, code, err := m.Run(t.Context(), "sh", "-c", "exit 7"); err != nil || code != 7 {
		t.Errorf("exit code %d, %v", code, err)
	}
	boot := run(t, m, "cat", "/proc/sys/kernel/random/boot_id")
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := run(t, m, "cat", "/proc/sys/kernel/random/boot_id"); again == boot {
		t.Error("the boot id stayed the same over a reboot")
	}
	if err := m.PowerCut(); err != nil {
		t.Fatal(err)
	}
	if err := m.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	for _, left := range append([]string{m.dir, filepath.Join("/run/systemd/nspawn/propagate", m.name)}, m.group...) {
		if _, err := os.Stat(left); err == nil {
			t.Errorf("%s is left", left)
		}
	}
}

// Two machines at once do not know of each other.
func TestMachinesAreApart(t *testing.T) {
	a, b := machine(t), machine(t)
	for _, m := range []*Machine{a, b} {
		if err := m.Boot(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	run(t, a, "systemd-run", "--unit=only-here", "sleep", "infinity")
	if _, code, err := b.Run(t.Context(), "systemctl", "is-active", "only-here"); err != nil || code == 0 {
		t.Errorf("the unit of one machine is active in the other: %d, %v", code, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, a, "systemctl", "is-active", "only-here")
}
