package payload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/windows"
)

// socket is an inherited listening socket, which the launcher made outside of Go's poller: Go would tie it to
// the completion port of one process (golang.org/issue/9503), and every version accepts on it. Its handle is
// kept for the life of the process; parking only stops the waiting.
type socket struct {
	handle windows.Handle
	family int32
	addr   net.Addr
}

// adoptSocket takes over the handle whose number is value. That it listens shows at the first accept: Wine
// does not tell SO_ACCEPTCONN of an inherited socket.
func adoptSocket(value string) (*socket, error) {
	number, err := strconv.ParseUint(value, 10, 64)
	if err != nil || number == 0 {
		return nil, fmt.Errorf("%q is not a handle", value)
	}
	handle := windows.Handle(number)
	sa, err := windows.Getsockname(handle)
	if err != nil {
		return nil, os.NewSyscallError("getsockname", err)
	}
	// A process that this one starts must not hold the port.
	if err := windows.SetHandleInformation(handle, windows.HANDLE_FLAG_INHERIT, 0); err != nil {
		return nil, os.NewSyscallError("SetHandleInformation", err)
	}
	s := &socket{handle: handle, addr: addrOf(sa), family: windows.AF_INET}
	if _, ok := sa.(*windows.SockaddrInet6); ok {
		s.family = windows.AF_INET6
	}
	return s, nil
}

// open returns a listener on the socket; closing it leaves the socket open.
func (s *socket) open() (net.Listener, error) { return newEventListener(s) }

// heal has nothing to do: there is no mode that another process could change.
func (s *socket) heal() error { return nil }

// handleValues are what the launcher needs to take the sockets out of this process by DuplicateHandle.
func handleValues(sockets []*socket) []uint64 {
	values := make([]uint64, 0, len(sockets))
	for _, s := range sockets {
		values = append(values, uint64(s.handle))
	}
	return values
}

// sendSockets writes line, which names the handles: nothing travels beside it.
func sendSockets(conn net.Conn, line []byte, _ []*socket) error {
	_, err := conn.Write(line)
	return err
}

// readToken reads the pipe whose handle is value to its end and closes it.
func readToken(value string) (string, error) {
	if value == "" {
		return "", nil
	}
	handle, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return "", fmt.Errorf("%q is not a handle", value)
	}
	f := os.NewFile(uintptr(handle), "token")
	defer f.Close()
	token, err := io.ReadAll(io.LimitReader(f, maxToken))
	return string(token), err
}

// wireAccess is what a client of the pipe needs and no more: GENERIC_WRITE would ask for the right to make another
// instance of it as well (FILE_CREATE_PIPE_INSTANCE), which the launcher gives to nobody.
const wireAccess = windows.FILE_READ_DATA | windows.FILE_WRITE_DATA | windows.FILE_READ_ATTRIBUTES | windows.FILE_WRITE_ATTRIBUTES |
	windows.READ_CONTROL | windows.SYNCHRONIZE

// dialWire opens the launcher's named pipe. All instances of a pipe may be taken for a moment; the file
// must be overlapped, or a pending read would hold up every write. Whoever is at the other end may not act in our
// name (SECURITY_ANONYMOUS is 0).
func dialWire(ctx context.Context, addr string) (net.Conn, error) {
	name, err := windows.UTF16PtrFromString(addr)
	if err != nil {
		return nil, err
	}
	for {
		h, err := windows.CreateFile(name, wireAccess, 0, nil, windows.OPEN_EXISTING, windows.FILE_FLAG_OVERLAPPED|windows.SECURITY_SQOS_PRESENT, 0)
		if err == nil {
			return pipeConn{os.NewFile(uintptr(h), addr)}, nil
		}
		if !errors.Is(err, windows.ERROR_PIPE_BUSY) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// pipeConn is a named pipe as a net.Conn.
type pipeConn struct{ *os.File }

type pipeAddr string

func (a pipeAddr) Network() string { return "pipe" }
func (a pipeAddr) String() string  { return string(a) }

func (c pipeConn) LocalAddr() net.Addr  { return pipeAddr("") }
func (c pipeConn) RemoteAddr() net.Addr { return pipeAddr(c.Name()) }
