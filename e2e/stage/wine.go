package stage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/launcher/control"
)

// BuildWindows compiles the launcher for Windows, and the release tool and scripts/wine for this computer.
func BuildWindows(ctx context.Context, dir string) (Programs, error) {
	p := Programs{Dir: dir, Launcher: filepath.Join(dir, "launcher.exe"), Release: exe(dir, "release"), Wine: exe(dir, "wine"), bridge: filepath.Join(dir, "bridge.exe")}
	err := errors.Join(
		compile(ctx, p.Launcher, "./launcher", "", "windows"),
		compile(ctx, p.Release, "./release", "", "linux"),
		compile(ctx, p.Wine, "./scripts/wine", "", "linux"),
		compile(ctx, p.bridge, "./e2e/bridge", "", "windows"),
	)
	return p, err
}

// Machine is a Windows on this computer in which several programs run: see scripts/wine. It sees the files
// of this computer on drive Z: and shares its network.
type Machine struct {
	tool, state string
	cmd         *exec.Cmd
	stdin       io.Closer
}

// Boot starts a machine, getting Wine first if need be.
func (p Programs) Boot(ctx context.Context) (*Machine, error) {
	state, err := os.MkdirTemp("", "tswine")
	if err != nil {
		return nil, err
	}
	m := &Machine{tool: p.Wine, state: state, cmd: exec.Command(p.Wine, "boot", state)}
	m.cmd.Stderr = os.Stderr
	if m.stdin, err = m.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		return nil, errors.Join(fmt.Errorf("no Windows: %q, %w", line, err), m.Close())
	}
	return m, nil
}

// Close ends the machine and everything in it.
func (m *Machine) Close() error {
	_ = m.stdin.Close() // it may have ended by itself
	return errors.Join(m.cmd.Wait(), os.RemoveAll(m.state))
}

// Reset ends every program at once, as a power cut does, except that the registry is written first, and starts Windows
// again, which starts its services.
func (m *Machine) Reset(ctx context.Context) error {
	_, err := output(exec.CommandContext(ctx, m.tool, "reset", m.state))
	return err
}

// Run runs a program in the machine and returns what it printed.
func (m *Machine) Run(ctx context.Context, program string, args ...string) (string, error) {
	return output(m.Command(ctx, program, args...))
}

// Command is a program in the machine.
func (m *Machine) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, m.tool, append([]string{"exec", "-machine", m.state, "-timeout", "30m", "--", program}, args...)...)
}

// seen is a path of this computer as the launcher sees it.
func (s *Stage) seen(path string) string {
	if s.machine == nil {
		return path
	}
	return "Z:" + strings.ReplaceAll(path, "/", `\`)
}

// startService registers the launcher and starts it as everybody starts a service.
func (s *Stage) startService(ctx context.Context) error {
	// The folders are Linux's, and Wine's service control manager does not have every setting.
	if out, code := s.Operator(ctx, "install", "--unprotected"); code != int(control.NotPrepared) {
		return fmt.Errorf("install: exit code %d: %s", code, out)
	}
	if _, err := s.machine.Run(ctx, "net", "start", Product); err != nil {
		return fmt.Errorf("%w\n%s", err, s.Log())
	}
	return s.until(ctx, func() (bool, error) { return s.answers(ctx), nil })
}

// endService stops the service in order and takes its registration out.
func (s *Stage) endService() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if out, code := s.Operator(ctx, "uninstall"); code != 0 {
		return fmt.Errorf("uninstall: exit code %d: %s", code, out)
	}
	return nil
}

// Share lets the machine reach a folder of this computer as \\HOST\SHARE. Wine has no network of Windows: what it
// opens for such a name is what lies below unc in its folder of devices.
func (m *Machine) Share(host, share, folder string) error {
	pid, err := os.ReadFile(filepath.Join(m.state, "pid"))
	if err != nil {
		return err
	}
	dir := filepath.Join("/proc", string(pid), "root/wine/dosdevices/unc", host)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Symlink(folder, filepath.Join(dir, share))
}
