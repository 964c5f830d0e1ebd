package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// handle is a pidfd: it means one process for ever, also when its number has gone to another one. Needs
// Linux 5.4. The descriptor is non-blocking, so that waiting for an exit costs no thread.
type handle struct {
	pid   int
	group int    // process group when it was opened; its own pid for a payload
	start uint64 // clock ticks since boot, field 22 of /proc/PID/stat
	file  *os.File
	child bool // this process is its parent: until reap nobody else can have its pid
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b)), err
}

// canRun finds what can be found out before anything is made.
func canRun(s Spec) error {
	fi, err := os.Stat(s.Path)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrSpec, err)
	case !fi.Mode().IsRegular() || fi.Mode()&0o111 == 0:
		return fmt.Errorf("%w: %s is not an executable file; chmod +x it", ErrSpec, s.Path)
	}
	return nil
}

func checkKind(Kind) error { return nil }

func foreign(err error) bool { return errors.Is(err, syscall.ENOEXEC) }

// spawn makes the process of p in a session of its own. Descriptors are taken by Control and handed to the
// system call as they are; os/exec would call File.Fd, which turns a shared listener to blocking mode.
func spawn(p *Process, secret token, out *os.File) (*handle, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	files := []*os.File{null, out, out}
	if p.spec.Kind == SDK {
		r, err := tokenPipe(secret)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		files = append(files, r)
	}
	var conns []syscall.RawConn
	for _, f := range files {
		c, err := f.SyscallConn()
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
	}
	for _, l := range p.spec.Listeners {
		conns = append(conns, l.Conn)
	}
	var hd *handle
	err = withDescriptors(conns, nil, func(fds []uintptr) error {
		hd, err = forkExec(p, fds)
		return err
	})
	return hd, err
}

// withDescriptors calls do with the descriptors of all conns, none of which can be closed meanwhile.
func withDescriptors(conns []syscall.RawConn, fds []uintptr, do func([]uintptr) error) error {
	if len(conns) == 0 {
		return do(fds)
	}
	var err error
	cerr := conns[0].Control(func(fd uintptr) {
		err = withDescriptors(conns[1:], append(fds, fd), do)
	})
	return errors.Join(cerr, err)
}

// tokenPipe returns the end of a pipe that holds the token and is at its end after it.
func tokenPipe(secret token) (*os.File, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	r, w := os.NewFile(uintptr(fds[0]), "token"), os.NewFile(uintptr(fds[1]), "token")
	_, err := w.WriteString(string(secret)) // fits the pipe's buffer, so it does not wait for a reader
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = r.Close() // unused
		return nil, err
	}
	return r, nil
}

func forkExec(p *Process, fds []uintptr) (*handle, error) {
	argv := append([]string{p.spec.Path}, p.spec.Args...)
	if p.spec.Kind == Activation {
		argv = append(append([]string{}, p.host.o.ExecChild...), argv...)
	}
	tokenAt, next := "", firstFD
	if p.spec.Kind == SDK {
		tokenAt, next = strconv.Itoa(firstFD), firstFD+1
	}
	pidfd := -1
	sys := &syscall.SysProcAttr{Setsid: true, PidFD: &pidfd}
	if u := p.spec.User; u != nil {
		sys.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	}
	pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
		Dir: p.spec.Dir, Env: p.environment(tokenAt, descriptors(p.spec.Listeners, next)), Files: fds, Sys: sys,
	})
	if err != nil {
		return nil, err
	}
	hd, err := newHandle(pid, pidfd)
	if err != nil { // it is our child and not reaped, so the pid is still its own
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
		return nil, err
	}
	return hd, nil
}

func newHandle(pid, pidfd int) (*handle, error) {
	if pidfd < 0 {
		return nil, fmt.Errorf("no pidfd: %w; Linux 5.4 or newer is needed", ErrUnsupported)
	}
	if err := unix.SetNonblock(pidfd, true); err != nil {
		_ = unix.Close(pidfd) // unused
		return nil, err
	}
	file := os.NewFile(uintptr(pidfd), "pidfd")
	st, err := readStat(pid)
	if err != nil {
		_ = file.Close() // unused
		return nil, err
	}
	return &handle{pid: pid, group: st.group, start: st.start, file: file, child: st.parent == os.Getpid()}, nil
}

// openProcess returns the process with this pid and start time, nil if it is dead or the pid is another's.
// The start time is read after the pidfd is open: if it matches and the pidfd has not ended, they are one.
func openProcess(pid int, start uint64) (*handle, error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	switch {
	case err == nil:
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return nil, nil // dead, or the number of a mere thread by now: EINVAL before Linux 6.15, ENOENT since
	default:
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	hd, err := newHandle(pid, pidfd)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if hd.start != start || ended(uintptr(pidfd)) {
		hd.close()
		return nil, nil
	}
	return hd, nil
}

// wait blocks until the process has ended (nil) or ctx has.
func (h *handle) wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := h.file.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_ = h.file.SetReadDeadline(time.Unix(1, 0)) // fails only when closed; then the read ends by itself
	})
	defer func() {
		if !stop() {
			<-woken
		}
	}()
	conn, err := h.file.SyscallConn()
	if err != nil {
		return err
	}
	if err := conn.Read(ended); err != nil {
		return errors.Join(err, ctx.Err())
	}
	return nil
}

// waitFor is wait with a bound.
func (h *handle) waitFor(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	_ = h.wait(ctx) // the caller looks again
}

// ended reports whether the process of a pidfd has ended; a zombie has.
func ended(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0
}

// childInfo is siginfo_t as waitid fills it.
type childInfo struct {
	signo, errno, code int32
	_                  [unsafe.Sizeof(uintptr(0))/4 - 1]int32
	pid                int32
	uid                uint32
	status             int32
	_                  [128]byte
}

// status returns how the process ended without reaping it.
func (h *handle) status() Exit {
	info, err := h.waitid(unix.WNOWAIT)
	if err != nil || info.pid == 0 {
		return Exit{Adopted: true}
	}
	if info.code == 1 { // CLD_EXITED
		return Exit{Code: int(info.status)}
	}
	return Exit{Code: -1, Signal: syscall.Signal(info.status).String()}
}

// reap removes the zombie if it is ours.
func (h *handle) reap() {
	_, _ = h.waitid(0) // ECHILD: somebody else's to reap
}

func (h *handle) waitid(options int) (info childInfo, err error) {
	conn, err := h.file.SyscallConn()
	if err != nil {
		return info, err
	}
	cerr := conn.Control(func(fd uintptr) {
		for {
			err = unix.Waitid(unix.P_PIDFD, int(fd), (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOHANG|options, nil)
			if err != unix.EINTR {
				return
			}
		}
	})
	return info, errors.Join(cerr, err)
}

func (h *handle) signal(sig unix.Signal) {
	conn, err := h.file.SyscallConn()
	if err != nil {
		return // closed
	}
	_ = conn.Control(func(fd uintptr) {
		_ = unix.PidfdSendSignal(int(fd), sig, nil, 0) // ESRCH: it has ended
	})
}

func (h *handle) kill() { h.signal(unix.SIGKILL) }

// rejoin has nothing to do: the members of its tree are found by their mark.
func (h *handle) rejoin(string) {}

func (h *handle) close() { _ = h.file.Close() } // nothing was written to it

// ownCommand names the running executable, whatever happened to its file since it was started.
func ownCommand() (string, error) { return "/proc/self/exe", nil }

// sendCtrlC is for Windows: here a process group gets a signal.
func sendCtrlC(uint32) error { return ErrUnsupported }

// execProgram replaces this process.
func execProgram(args, env []string) error {
	return syscall.Exec(args[0], args, env)
}

// descriptors prints inherited listeners as in wire.EnvListen, the first one being descriptor next.
func descriptors(ls []Listener, next int) string {
	var parts []string
	for i, l := range ls {
		parts = append(parts, l.Name+"="+strconv.Itoa(next+i))
	}
	return strings.Join(parts, ",")
}
