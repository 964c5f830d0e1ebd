package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
)

// point changes the ImagePath of the service, of which only the program is ours to change.
func point(name, target string) error {
	return with(name, func(e *entry) error {
		b, err := e.basics()
		if err != nil {
			return fmt.Errorf("read service %s: %w", name, err)
		}
		_, rest := cutProgram(b.Command)
		b.Command = `"` + target + `"` + rest
		return e.change(b)
	})
}

func pointed(name string) (file string, err error) {
	err = with(name, func(e *entry) error {
		b, err := e.basics()
		if err != nil {
			return fmt.Errorf("read service %s: %w", name, err)
		}
		file, _ = cutProgram(b.Command)
		file, err = filepath.EvalSymlinks(file)
		return err
	})
	return file, err
}

// cutProgram splits a registered command. Install quotes the program.
func cutProgram(command string) (file, rest string) {
	if after, quoted := strings.CutPrefix(command, `"`); quoted {
		file, rest, _ = strings.Cut(after, `"`)
		return file, rest
	}
	file, rest, _ = strings.Cut(command, " ")
	return file, " " + rest
}

func registered(service string) (string, error) { return service, nil }

const becomes = false

func registerGuard(ctx context.Context, service, file string, args []string) (func() error, error) {
	return realSCM().guard(ctx, Spec{
		Name: GuardName(service), Display: service + ": guard of a new launcher", Exe: file, Args: args, Start: Automatic,
	})
}

func unguard(service string) error { return realSCM().forget(GuardName(service)) }

func awaken(ctx context.Context, service string) error {
	return with(service, func(e *entry) error { return e.awaken(ctx) })
}

func revive(ctx context.Context, service string) error {
	return with(service, func(e *entry) error { return e.revive(ctx) })
}

func servicePID(service string) (pid int) {
	_ = with(service, func(e *entry) error { // of one that cannot be asked none is known
		st, err := e.status()
		pid = int(st.PID)
		return err
	})
	return pid
}

func become(string, []string) error { return errors.ErrUnsupported }

// managed goes by the registered command: IsWindowsService asks for session 0, which containers and Wine have not.
func managed() bool { return len(os.Args) > 1 && os.Args[1] == Verb }

func restarts(service string) error { return realSCM().restarts(service) }

func spawn(file string, argv []string) error {
	p, err := os.StartProcess(file, argv, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{nil, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP | windows.DETACHED_PROCESS},
	})
	if err != nil {
		return err
	}
	return p.Release()
}

// other is a handle, which holds the process's number for as long as it is open.
type other struct{ handle windows.Handle }

func openParent(pid int) (*Other, error) {
	if os.Getppid() != pid {
		return nil, nil
	}
	return openPID(pid)
}

func openProgram(pid int, file string) (*Other, error) {
	o, err := openPID(pid)
	if o == nil {
		return nil, err
	}
	var name [windows.MAX_LONG_PATH]uint16
	size := uint32(len(name))
	err = windows.QueryFullProcessImageName(o.handle, 0, &name[0], &size)
	if err != nil || !strings.EqualFold(windows.UTF16ToString(name[:size]), file) {
		_ = windows.CloseHandle(o.handle) // unused
		return nil, nil
	}
	return o, nil
}

func openPID(pid int) (*Other, error) {
	const rights = windows.SYNCHRONIZE | windows.PROCESS_TERMINATE | windows.PROCESS_QUERY_LIMITED_INFORMATION
	h, err := windows.OpenProcess(rights, false, uint32(pid))
	if errors.Is(err, windows.ERROR_INVALID_PARAMETER) {
		return nil, nil // dead
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return &Other{other{h}}, nil
}

func (o other) ended(within time.Duration) bool {
	event, err := windows.WaitForSingleObject(o.handle, uint32(within.Milliseconds()))
	return err == nil && event == windows.WAIT_OBJECT_0
}

func (o other) kill() { _ = windows.TerminateProcess(o.handle, 1) } // it has ended
