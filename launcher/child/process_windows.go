package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// handle keeps a process from being forgotten by the system: while it is open nobody else has the pid.
type handle struct {
	pid   int
	start uint64 // creation time in 100 ns since 1601
	proc  windows.Handle
	job   windows.Handle // the job of a payload, 0 for a member of its tree
}

// Of a payload also its handles are wanted: the listening sockets that it gives back. Wine asks for full
// query rights to tell whether a process is in a job.
const processAccess = windows.PROCESS_QUERY_INFORMATION | windows.PROCESS_TERMINATE |
	windows.PROCESS_DUP_HANDLE | windows.SYNCHRONIZE

// bootID needs to tell nothing here: creation times count from 1601 and not from the boot.
func bootID() (string, error) { return "windows", nil }

// canRun finds what can be found out before anything is made.
func canRun(s Spec) error {
	fi, err := os.Stat(s.Path)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrSpec, err)
	case !fi.Mode().IsRegular():
		return fmt.Errorf("%w: %s is not a file", ErrSpec, s.Path)
	}
	return checkKind(s.Kind)
}

func checkKind(k Kind) error {
	if k == Activation {
		return fmt.Errorf("%w: LISTEN_FDS is for Unix programs; use kind %q, or %q in proxy mode", ErrUnsupported, SDK, Plain)
	}
	return nil
}

// foreign: ERROR_EXE_MACHINE_TYPE_MISMATCH is said of a program for another processor.
func foreign(err error) bool {
	return errors.Is(err, windows.ERROR_BAD_EXE_FORMAT) || errors.Is(err, windows.ERROR_EXE_MACHINE_TYPE_MISMATCH)
}

// spawn makes the process of p in a job of its own and with a hidden console, so that nothing it starts can be outside,
// and lets it go when we know it.
func spawn(p *Process, secret token, out *os.File) (*handle, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	job, err := createJob(p.rec.path)
	if err != nil {
		return nil, err
	}
	inherited, tokenAt := []windows.Handle{job}, ""
	if p.spec.Kind == SDK {
		r, err := tokenPipe(secret)
		if err != nil {
			_ = windows.CloseHandle(job) // unused
			return nil, err
		}
		defer windows.CloseHandle(r)
		inherited, tokenAt = append(inherited, r), strconv.FormatUint(uint64(r), 10)
	}
	if u := p.spec.User; u != nil {
		if err := u.renew(); err != nil {
			p.host.o.Log.Warn("the account of payloads is not logged on anew; its logon before goes on", "err", err)
		}
	}
	std := [3]windows.Handle{windows.Handle(null.Fd()), windows.Handle(out.Fd()), windows.Handle(out.Fd())}
	var made *windows.ProcessInformation
	err = lendSockets(p.spec.Listeners, nil, func(sockets []windows.Handle) (err error) {
		env := p.environment(tokenAt, handleValues(p.spec.Listeners, sockets))
		made, err = create(p, env, std, append(inherited, sockets...), job)
		return err
	})
	if err != nil {
		_ = windows.CloseHandle(job) // empty
		return nil, err
	}
	defer windows.CloseHandle(made.Thread)
	h := &handle{pid: int(made.ProcessId), proc: made.Process, job: job}
	if h.start, err = creationTime(h.proc); err == nil {
		_, err = windows.ResumeThread(made.Thread)
	}
	if err != nil {
		h.kill()
		h.close()
		return nil, err
	}
	return h, nil
}

// lendSockets calls do with the handles of all listeners, none of which can be closed meanwhile.
func lendSockets(ls []Listener, sockets []windows.Handle, do func([]windows.Handle) error) error {
	if len(ls) == 0 {
		return do(sockets)
	}
	var err error
	cerr := ls[0].Conn.Control(func(fd uintptr) {
		err = lendSockets(ls[1:], append(sockets, windows.Handle(fd)), do)
	})
	return errors.Join(cerr, err)
}

// handleValues prints inherited listeners as in wire.EnvListen. A handle has the same value in the child.
func handleValues(ls []Listener, sockets []windows.Handle) string {
	var parts []string
	for i, l := range ls {
		parts = append(parts, l.Name+"="+strconv.FormatUint(uint64(sockets[i]), 10))
	}
	return strings.Join(parts, ",")
}

// jobName belongs to the record, so that the next launcher finds the job.
func jobName(recordPath string) *uint16 {
	name, _ := windows.UTF16PtrFromString("turnstone-" + filepath.Base(recordPath)) // hex digits: no zero inside
	return name
}

// createJob makes the job of a process. It is not ended with its last handle, since a payload outlives its
// launcher; the payload inherits a handle of it, so that its name lives as long as the payload.
func createJob(recordPath string) (windows.Handle, error) {
	sa := &windows.SecurityAttributes{InheritHandle: 1}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	job, err := windows.CreateJobObject(sa, jobName(recordPath))
	if err != nil {
		return 0, os.NewSyscallError("CreateJobObject", err)
	}
	return job, nil
}

// tokenPipe returns the inheritable end of a pipe that holds the token and is at its end after it.
func tokenPipe(secret token) (windows.Handle, error) {
	var r, w windows.Handle
	if err := windows.CreatePipe(&r, &w, nil, 4096); err != nil {
		return 0, os.NewSyscallError("CreatePipe", err)
	}
	var n uint32
	err := windows.WriteFile(w, []byte(secret), &n, nil) // fits the pipe's buffer
	err = errors.Join(err, windows.CloseHandle(w), windows.SetHandleInformation(r, windows.HANDLE_FLAG_INHERIT, windows.HANDLE_FLAG_INHERIT))
	if err != nil {
		_ = windows.CloseHandle(r) // unused
		return 0, err
	}
	return r, nil
}

func creationTime(proc windows.Handle) (uint64, error) {
	var creation, exit, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(proc, &creation, &exit, &kernel, &user); err != nil {
		return 0, os.NewSyscallError("GetProcessTimes", err)
	}
	return uint64(creation.HighDateTime)<<32 | uint64(creation.LowDateTime), nil
}

// openProcess returns the process with this pid and start time, nil if it is dead or the pid is another's.
// A start time of 0 takes any.
func openProcess(pid int, start uint64) (*handle, error) {
	proc, err := windows.OpenProcess(processAccess, false, uint32(pid))
	if errors.Is(err, windows.ERROR_INVALID_PARAMETER) {
		return nil, nil // there is none
	}
	if err != nil {
		return nil, os.NewSyscallError("OpenProcess", err)
	}
	h := &handle{pid: pid, proc: proc}
	h.start, err = creationTime(proc)
	event, werr := windows.WaitForSingleObject(proc, 0)
	if err != nil || werr != nil || event == windows.WAIT_OBJECT_0 || start != 0 && h.start != start {
		h.close()
		return nil, errors.Join(err, werr)
	}
	return h, nil
}

// wait blocks until the process has ended (nil) or ctx has.
func (h *handle) wait(ctx context.Context) error {
	wake, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return os.NewSyscallError("CreateEvent", err)
	}
	defer windows.CloseHandle(wake)
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_ = windows.SetEvent(wake) // cannot fail on an open event
	})
	defer func() {
		if !stop() {
			<-woken
		}
	}()
	event, err := windows.WaitForMultipleObjects([]windows.Handle{h.proc, wake}, false, windows.INFINITE)
	if err == nil && event != windows.WAIT_OBJECT_0 {
		err = context.Cause(ctx)
	}
	return err
}

// waitFor is wait with a bound.
func (h *handle) waitFor(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	_ = h.wait(ctx) // the caller looks again
}

// status returns how the process ended. Its code is known to whoever holds a handle.
func (h *handle) status() Exit {
	var code uint32
	if err := windows.GetExitCodeProcess(h.proc, &code); err != nil {
		return Exit{Adopted: true}
	}
	return Exit{Code: int(code)}
}

// rejoin finds the job of an adopted process again. The job's name lives as long as the process, which has a
// handle of it; ours keeps it from here on.
func (h *handle) rejoin(recordPath string) { h.job = openJob(recordPath) }

// reap has nothing to do: there are no zombies.
func (h *handle) reap() {}

func (h *handle) kill() {
	_ = windows.TerminateProcess(h.proc, 1) // fails when it has ended
}

func (h *handle) close() {
	_ = windows.CloseHandle(h.proc) // nothing was written to it
	if h.job != 0 {
		_ = windows.CloseHandle(h.job) // as above
	}
}

func ownCommand() (string, error) { return os.Executable() }

func execProgram(args, env []string) error {
	return fmt.Errorf("%w: LISTEN_FDS is for Unix programs", ErrUnsupported)
}
