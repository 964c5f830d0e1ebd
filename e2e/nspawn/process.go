package nspawn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// keep starts cmd and waits for it on a thread of its own: the end of the thread that started a process
// is what the kernel takes for the end of its parent.
func (m *Machine) keep(cmd *exec.Cmd, started chan<- error, ended chan<- struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	started <- err
	if err != nil {
		return
	}
	m.err = cmd.Wait()
	close(ended)
}

// await waits for the end of systemd-nspawn, and ends it after the limit.
func (m *Machine) await(limit time.Duration) error {
	var err error
	select {
	case <-m.ended:
	case <-time.After(limit):
		err = fmt.Errorf("the machine did not end within %s\n%s", limit, m.Console())
		_ = m.cmd.Process.Kill() // takes the container with it
		<-m.ended
	}
	m.cmd, m.leader = nil, 0
	return err
}

// until asks again and again until cond is true, the machine ends, or the limit is over.
func (m *Machine) until(ctx context.Context, limit time.Duration, cond func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !cond() {
		select {
		case <-m.ended:
			return fmt.Errorf("the machine ended: %v", m.err)
		case <-ctx.Done():
			return fmt.Errorf("waited in vain: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// findLeader is the child of systemd-nspawn that is process 1 of a namespace of its own; 0 if there is none.
func (m *Machine) findLeader() int {
	pid := strconv.Itoa(m.cmd.Process.Pid)
	b, err := os.ReadFile(filepath.Join("/proc", pid, "task", pid, "children"))
	if err != nil {
		return 0
	}
	for _, child := range strings.Fields(string(b)) {
		if numbers := statusLine(child, "NSpid:"); len(numbers) > 1 && numbers[len(numbers)-1] == "1" {
			n, _ := strconv.Atoi(child) // the kernel's own number
			return n
		}
	}
	return 0
}

// statusLine is the words of one line of /proc/PID/status.
func statusLine(pid, name string) []string {
	b, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.Fields(rest)
		}
	}
	return nil
}

// Run runs a command inside, as root, and returns what it printed and its exit code. It belongs to no unit
// of the machine. An error means that it could not be run or that ctx ended.
func (m *Machine) Run(ctx context.Context, argv ...string) (string, int, error) {
	enter := []string{"--target", strconv.Itoa(m.leader), "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, argv...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "HOME=/root", "LANG=C.UTF-8", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0"}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second // a child of it may hold its output
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var ee *exec.ExitError
	if errors.As(err, &ee) && ctx.Err() == nil {
		return out.String(), ee.ExitCode(), nil
	}
	return out.String(), 0, err
}

// Put copies a file of this machine into the container's root and makes the folders on the way.
func (m *Machine) Put(file, inside string, mode os.FileMode) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return m.Write(inside, b, mode)
}

// Write makes a file in the container's root and the folders on the way.
func (m *Machine) Write(inside string, data []byte, mode os.FileMode) error {
	name := filepath.Join(m.Root(), inside)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name, data, mode); err != nil {
		return err
	}
	return os.Chmod(name, mode) // whatever the mask is
}

func command(ctx context.Context, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", argv[0], err, out[max(0, len(out)-2<<10):])
	}
	return nil
}
