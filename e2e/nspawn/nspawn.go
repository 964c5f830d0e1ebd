// Package nspawn boots a real systemd for a test: a small Debian in a container of its own, with the
// network of this machine, so that a service in it is reached over loopback from outside.
//
// A Machine is a folder and a process. Everything in it is the test's own: its root is a copy, its
// processes live in a control group and a process namespace of their own, and Close ends and removes
// these and nothing else. The machine ends with the process that booted it, however that ends.
//
// It needs root, debootstrap and systemd-nspawn; where one is missing, and inside containers that may not
// make others, New says so by ErrUnavailable. It is no sandbox: what runs in it is trusted.
package nspawn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ErrUnavailable says that this machine cannot boot others, and why.
var ErrUnavailable = errors.New("no systemd can be booted here")

// bootLimit bounds the time from power on to a system that takes commands; a second is usual.
const bootLimit = 60 * time.Second

// Machine is one container. It is not safe for concurrent use, except Run.
type Machine struct {
	dir    string // holds all of it
	name   string
	group  group
	cmd    *exec.Cmd     // systemd-nspawn, nil while the power is off
	ended  chan struct{} // closed when cmd has ended
	err    error         // of cmd, once ended is closed
	leader int           // process 1 of the container, as this machine numbers it
}

// New makes a machine of a fresh copy of the base system. Its power is off, so that files can be put
// below Root. The base is made once and kept in the user's cache folder.
func New(ctx context.Context) (*Machine, error) {
	base, err := ensureBase(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "tsvm")
	if err != nil {
		return nil, err
	}
	m := &Machine{dir: dir, name: filepath.Base(dir)}
	if m.group, err = newGroup(m.name); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrUnavailable, err), m.Close())
	}
	if err := command(ctx, "cp", "-a", "--reflink=auto", base, m.Root()); err != nil {
		return nil, errors.Join(fmt.Errorf("copy the base system: %w", err), m.Close())
	}
	return m, nil
}

// Root is the machine's root folder, as seen from outside.
func (m *Machine) Root() string { return filepath.Join(m.dir, "root") }

// Boot turns the power on and waits until systemd has finished starting.
func (m *Machine) Boot(ctx context.Context) error {
	if m.cmd != nil {
		return errors.New("boot: the power is on")
	}
	if err := m.powerOn(); err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	return m.up(ctx)
}

// nspawn is how the container is started. It is registered nowhere, since no manager runs outside it.
func (m *Machine) nspawn() []string {
	return []string{
		"systemd-nspawn", "--quiet", "--boot", "--directory=" + m.Root(), "--machine=" + m.name,
		"--register=no", "--keep-unit", "--link-journal=no", "--resolv-conf=off", "--timezone=off", "--console=pipe",
	}
}

// powerOn starts the container in its control group. A shell enters the group before anything else is
// started; setpriv has the kernel end the container when the thread that started it ends.
func (m *Machine) powerOn() error {
	console, err := os.OpenFile(filepath.Join(m.dir, "console"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer console.Close()
	argv := append(m.group.enter(), append([]string{"setpriv", "--pdeathsig", "KILL"}, m.nspawn()...)...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = console, console
	started, ended := make(chan error), make(chan struct{})
	go m.keep(cmd, started, ended)
	if err := <-started; err != nil {
		return err
	}
	m.cmd, m.ended = cmd, ended
	return nil
}

// up waits until the container has a process 1 and it says that the system has started.
func (m *Machine) up(ctx context.Context) error {
	var state string
	err := m.until(ctx, bootLimit, func() bool {
		if m.leader = m.findLeader(); m.leader == 0 {
			return false
		}
		out, _, err := m.Run(ctx, "systemctl", "is-system-running")
		state = strings.TrimSpace(out)
		return err == nil && (state == "running" || state == "degraded")
	})
	if err != nil {
		return fmt.Errorf("boot: %w: the system is %q\n%s", err, state, m.Console())
	}
	return nil
}

// Reboot asks systemd to stop everything in order and to start again, and waits until it has. A container
// that belongs to a unit ends with a code that tells its manager to start it again, and we are the manager.
func (m *Machine) Reboot(ctx context.Context) error {
	if err := m.down(ctx, "reboot"); err != nil {
		return err
	}
	const again = 133
	var ee *exec.ExitError
	if !errors.As(m.err, &ee) || ee.ExitCode() != again {
		return fmt.Errorf("reboot: the machine ended by %v", m.err)
	}
	return m.Boot(ctx)
}

// PowerOff asks systemd to stop everything in order, and waits for the end.
func (m *Machine) PowerOff(ctx context.Context) error { return m.down(ctx, "poweroff") }

func (m *Machine) down(ctx context.Context, how string) error {
	if m.cmd == nil {
		return fmt.Errorf("%s: the power is off", how)
	}
	if out, code, err := m.Run(ctx, "systemctl", how); err != nil || code != 0 {
		return fmt.Errorf("%s: %w: exit code %d: %s", how, err, code, out)
	}
	return m.await(2 * time.Minute) // longer than any unit of a test may take to stop
}

// PowerCut ends every process of the machine at once, without a warning. What was written stays written.
func (m *Machine) PowerCut() error {
	if m.cmd == nil {
		return nil
	}
	if p, err := os.FindProcess(m.leader); err == nil && m.leader != 0 && m.findLeader() == m.leader {
		_ = p.Kill() // the kernel ends the rest of the namespace with it
	}
	return m.await(10 * time.Second)
}

// Close ends the machine without ceremony and removes what it was made of.
func (m *Machine) Close() error {
	err := m.PowerCut()
	if err == nil {
		err = m.group.remove()
	}
	_ = os.RemoveAll(filepath.Join("/run/systemd/nspawn/propagate", m.name)) // nspawn leaves it where /run is no tmpfs
	return errors.Join(err, removeTree(m.dir))
}

// Console is the last of what the machine's console showed.
func (m *Machine) Console() string {
	b, err := os.ReadFile(filepath.Join(m.dir, "console"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-8<<10):])
}
