package child

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"

	"github.com/turnstone-go/turnstone/internal/pipe"
	"github.com/turnstone-go/turnstone/internal/wire"
)

// pipeAccess lets the system and administrators do everything and every logged-on account connect, also with a
// restricted token (S-1-5-33): pid and token decide who may speak. The protected list (P) takes nothing from above.
// 0x12019b is to read and to write without FILE_CREATE_PIPE_INSTANCE (4), by which another process could put
// itself in the launcher's place: it is a part of GENERIC_WRITE ("Named Pipe Security and Access Rights").
const pipeAccess = "D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;GA;;;OW)(A;;0x12019b;;;AU)(A;;0x12019b;;;S-1-5-33)"

// listenWire makes the named pipe. It fails if there is one by this name already, so nobody who was first
// can pose as the launcher.
//
// go-winio keeps a first instance of the pipe that never answers, so that the name is taken. Windows lets no
// client have it (ERROR_PIPE_BUSY); Wine, and Windows 7 (github.com/microsoft/go-winio issues 173 and 313),
// give it to the first one, which then waits for ever. The first client is therefore this one.
func listenWire(path string) (net.Listener, error) {
	ln, err := winio.ListenPipe(path, &winio.PipeConfig{SecurityDescriptor: pipeAccess})
	if err != nil {
		return nil, err
	}
	if f, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
		_ = f.Close() // nothing was said
	}
	return ln, nil
}

// wireLost is false: nobody can remove a pipe.
func wireLost(net.Listener) bool { return false }

// wireAddress is a pipe whose name belongs to the state folder, and which nobody without the launcher's rights can make
// before it: payloads would dial him and obey.
func wireAddress(stateDir string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(filepath.Clean(stateDir))))
	return pipe.Name(pipe.Prefix + "turnstone-wire-" + hex.EncodeToString(sum[:8]))
}

// peerPID is the process that connected, as the kernel noted it.
func peerPID(c net.Conn) (int, error) {
	f, ok := c.(interface{ Fd() uintptr })
	if !ok {
		return 0, errors.New("not a named pipe")
	}
	var pid uint32
	if err := windows.GetNamedPipeClientProcessId(windows.Handle(f.Fd()), &pid); err != nil {
		return 0, os.NewSyscallError("GetNamedPipeClientProcessId", err)
	}
	return int(pid), nil
}

// readWire reads bytes; nothing travels beside them.
func readWire(c net.Conn, b []byte) (int, []Socket, error) {
	n, err := c.Read(b)
	return n, nil, err
}

// given takes the sockets whose handle values an answer names out of the payload. What they are is checked
// by who uses them: a payload may name any handle of its own.
func given(l *link, m wire.Message) ([]Socket, error) {
	if len(m.Handles) > maxListeners {
		return nil, fmt.Errorf("%w: %d handles", errGarbage, len(m.Handles))
	}
	var sockets []Socket
	for _, value := range m.Handles {
		var dup windows.Handle
		err := windows.DuplicateHandle(l.p.handle.proc, windows.Handle(value), windows.CurrentProcess(), &dup, 0, true, windows.DUPLICATE_SAME_ACCESS)
		if err != nil {
			closeAll(sockets)
			return nil, fmt.Errorf("%w: handle %d: %w", errGarbage, value, err)
		}
		sockets = append(sockets, &returned{handle: dup})
	}
	return sockets, nil
}

// returned is a Socket.
type returned struct {
	mu     sync.RWMutex // held for reading while the handle is lent
	handle windows.Handle
}

func (r *returned) SyscallConn() (syscall.RawConn, error) { return r, nil }

// Control lends the handle to f.
func (r *returned) Control(f func(uintptr)) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.handle == 0 {
		return net.ErrClosed
	}
	f(uintptr(r.handle))
	return nil
}

func (r *returned) Read(func(uintptr) bool) error  { return errors.ErrUnsupported }
func (r *returned) Write(func(uintptr) bool) error { return errors.ErrUnsupported }

// Close closes it as a handle: Winsock has not heard of it.
func (r *returned) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.handle == 0 {
		return net.ErrClosed
	}
	err := windows.CloseHandle(r.handle)
	r.handle = 0
	return err
}

// There is no sd_notify here.

// checkWire has nothing to refuse: the pipe's name is a digest.
func checkWire(string) error { return nil }

func notifyAddress(wirePath, id string) string { return "" }

func listenNotify(path string, u *User) (net.PacketConn, error) { return nil, nil }

func relistenNotify(path string) (net.PacketConn, error) { return nil, nil }

func removeNotify(path string) {}

func readNotify(p *Process, buf []byte) (int, error) { return 0, net.ErrClosed }
