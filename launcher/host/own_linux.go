package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// point makes a link beside name, syncs it, and gives it the name: rename(2) replaces a file or a link at once.
func point(name, target string) error {
	disk, fresh, dir := durable.OS(), name+".next", filepath.Dir(name)
	if err := disk.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := os.Symlink(target, fresh)
	if err == nil {
		err = disk.SyncDir(dir)
	}
	if err == nil {
		err = disk.Rename(fresh, name)
	}
	if err == nil {
		err = disk.SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("point %s to %s: %w", name, target, err)
	}
	return nil
}

func pointed(name string) (string, error) { return filepath.EvalSymlinks(name) }

func registered(string) (string, error) {
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

const becomes = true

func registerGuard(context.Context, string, string, []string) (func() error, error) {
	return nil, errors.ErrUnsupported
}

func unguard(string) error { return nil }

func awaken(context.Context, string) error { return nil }

// revive has nothing to do: systemd starts again what ended by itself.
func revive(context.Context, string) error { return nil }

func servicePID(string) int { return 0 }

func become(file string, argv []string) error { return syscall.Exec(file, argv, os.Environ()) }

func managed() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// restarts knows nothing against it: Restart=always holds for a disabled unit too.
func restarts(string) error { return nil }

// spawn hands on where we write, and nothing by which a manager would take the program for us.
func spawn(file string, argv []string) error {
	p, err := os.StartProcess(file, argv, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{nil, os.Stdout, os.Stderr}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return err
	}
	return p.Release()
}

// other is a pidfd.
type other struct{ fd int }

func openParent(pid int) (*Other, error) {
	o, err := openPID(pid)
	if o != nil && os.Getppid() != pid { // it has ended, and the number may be another's
		_ = unix.Close(o.fd) // unused
		o = nil
	}
	return o, err
}

func openProgram(pid int, file string) (*Other, error) {
	o, err := openPID(pid)
	if o == nil {
		return nil, err
	}
	runs, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
	if err != nil || runs != file || o.ended(0) {
		_ = unix.Close(o.fd) // unused
		return nil, nil      // it has ended, or is another's
	}
	return o, nil
}

func openPID(pid int) (*Other, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case err == nil:
		return &Other{other{fd}}, nil
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return nil, nil // dead, or the number of a mere thread by now: EINVAL before Linux 6.15, ENOENT since
	}
	return nil, os.NewSyscallError("pidfd_open", err)
}

func (o other) ended(within time.Duration) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(o.fd), Events: unix.POLLIN}}, int(within.Milliseconds()))
	return err == nil && n > 0
}

func (o other) kill() { _ = unix.PidfdSendSignal(o.fd, unix.SIGKILL, nil, 0) } // ESRCH: it has ended
