package payload

import (
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// keepAlive is what package net uses.
const keepAlive = 15 * time.Second

// accepted is a connection that an eventListener took. Go cannot make a net.Conn of a socket that it did not
// open, but an os.File of any overlapped handle does I/O by Go's poller, with deadlines, since Go 1.25. So
// there are two handles: the SOCKET is for what only Winsock can do and is closed by closesocket; a
// duplicate of it belongs to the file and is closed by CloseHandle.
type accepted struct {
	file          *os.File
	local, remote net.Addr

	mu     sync.RWMutex // held for reading while the SOCKET is used
	sock   windows.Handle
	closed bool
}

// newAccepted takes sock over, except when it fails.
func newAccepted(sock windows.Handle, local net.Addr) (*accepted, error) {
	remote, err := windows.Getpeername(sock)
	if err != nil {
		return nil, os.NewSyscallError("getpeername", err)
	}
	if here, err := windows.Getsockname(sock); err == nil {
		local = addrOf(here) // the listener may be bound to every interface
	}
	self := windows.CurrentProcess()
	var dup windows.Handle
	if err := windows.DuplicateHandle(self, sock, self, &dup, 0, false, windows.DUPLICATE_SAME_ACCESS); err != nil {
		return nil, os.NewSyscallError("DuplicateHandle", err)
	}
	setDefaults(sock)
	return &accepted{file: os.NewFile(uintptr(dup), "connection"), sock: sock, local: local, remote: addrOf(remote)}, nil
}

// setDefaults sets what package net sets on a connection: no delay, and keep-alive. Neither is worth losing
// a client for.
func setDefaults(sock windows.Handle) {
	_ = windows.SetsockoptInt(sock, windows.IPPROTO_TCP, windows.TCP_NODELAY, 1)
	ms := uint32(keepAlive.Milliseconds())
	ka := windows.TCPKeepalive{OnOff: 1, Time: ms, Interval: ms}
	var n uint32
	_ = windows.WSAIoctl(sock, windows.SIO_KEEPALIVE_VALS, (*byte)(unsafe.Pointer(&ka)), uint32(unsafe.Sizeof(ka)), nil, 0, &n, nil, 0)
}

func addrOf(sa windows.Sockaddr) net.Addr {
	switch sa := sa.(type) {
	case *windows.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *windows.SockaddrInet6:
		a := &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
		if sa.ZoneId != 0 {
			a.Zone = strconv.FormatUint(uint64(sa.ZoneId), 10)
		}
		return a
	}
	return &net.TCPAddr{}
}

func (c *accepted) LocalAddr() net.Addr  { return c.local }
func (c *accepted) RemoteAddr() net.Addr { return c.remote }

func (c *accepted) Read(b []byte) (int, error) {
	n, err := c.file.Read(b)
	return n, c.mapped("read", err)
}

func (c *accepted) Write(b []byte) (int, error) {
	n, err := c.file.Write(b)
	return n, c.mapped("write", err)
}

func (c *accepted) SetDeadline(t time.Time) error {
	return c.mapped("set", c.file.SetDeadline(t))
}

func (c *accepted) SetReadDeadline(t time.Time) error {
	return c.mapped("set", c.file.SetReadDeadline(t))
}

func (c *accepted) SetWriteDeadline(t time.Time) error {
	return c.mapped("set", c.file.SetWriteDeadline(t))
}

// CloseWrite tells the client that nothing more comes.
func (c *accepted) CloseWrite() error {
	var err error
	cerr := c.Control(func(sock uintptr) {
		err = os.NewSyscallError("shutdown", windows.Shutdown(windows.Handle(sock), windows.SHUT_WR))
	})
	return c.mapped("close", errors.Join(cerr, err))
}

// Close closes both handles; the connection ends with the second one. A Read or Write under way ends first.
func (c *accepted) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.mapped("close", net.ErrClosed)
	}
	c.closed = true
	err := c.file.Close()
	return c.mapped("close", errors.Join(err, os.NewSyscallError("closesocket", windows.Closesocket(c.sock))))
}

// SyscallConn lends the SOCKET, for options.
func (c *accepted) SyscallConn() (syscall.RawConn, error) { return lending{c}, nil }

// Control lends the SOCKET to f.
func (c *accepted) Control(f func(sock uintptr)) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return net.ErrClosed
	}
	f(uintptr(c.sock))
	return nil
}

// lending is an accepted connection as a syscall.RawConn, whose Read and Write are other things.
type lending struct{ c *accepted }

func (l lending) Control(f func(uintptr)) error { return l.c.Control(f) }
func (l lending) Read(func(uintptr) bool) error { return errors.ErrUnsupported }

func (l lending) Write(func(uintptr) bool) error { return errors.ErrUnsupported }

// mapped makes of err what package net would have returned. Servers look at it: net/http answers a request
// that timed out between two with "400 Bad Request" if the timeout is not a net.Error, and prints what is
// not net.ErrClosed.
func (c *accepted) mapped(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case err == io.EOF:
		return io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = os.ErrDeadlineExceeded
	case errors.Is(err, os.ErrClosed), errors.Is(err, net.ErrClosed):
		err = net.ErrClosed
	case errors.Is(err, windows.ERROR_NETNAME_DELETED): // what ReadFile calls a reset
		err = os.NewSyscallError(op, windows.WSAECONNRESET)
	case errors.Is(err, windows.ERROR_CONNECTION_ABORTED):
		err = os.NewSyscallError(op, windows.WSAECONNABORTED)
	default:
		var path *os.PathError
		if errors.As(err, &path) {
			err = os.NewSyscallError(path.Op, path.Err) // the name of the file says nothing
		}
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}
