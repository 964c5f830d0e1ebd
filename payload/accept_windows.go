package payload

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
)

// An accept loop on Windows that many processes may run on the same socket at once. AcceptEx hands a
// connection over by signalling an event, so neither a completion port nor any other thing that belongs to
// one process is tied to the socket. Each waiting Accept costs a thread, and at most two wait: a loop
// needs one.
const maxPending = 2

// addrSpace is what AcceptEx wants for each address: its size and 16 bytes
// (learn.microsoft.com/windows/win32/api/mswsock/nf-mswsock-acceptex).
const addrSpace = uint32(unsafe.Sizeof(windows.RawSockaddrAny{}) + 16)

// shortOfMemory is how long to wait, in milliseconds, when Windows has no socket or buffer to give.
const shortOfMemory = 20

// eventListener accepts on a socket until it is closed. What the kernel handed over while it was being
// closed is returned by Accept and never dropped.
type eventListener struct {
	sock  *socket
	stop  windows.Handle // event, set by Close
	slots chan struct{}

	mu     sync.Mutex
	closed bool
	inside sync.WaitGroup // Accept calls; joined under mu while not closed
}

func newEventListener(s *socket) (*eventListener, error) {
	stop, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return nil, os.NewSyscallError("CreateEvent", err)
	}
	return &eventListener{sock: s, stop: stop, slots: make(chan struct{}, maxPending)}, nil
}

func (l *eventListener) Addr() net.Addr { return l.sock.addr }

func (l *eventListener) Accept() (net.Conn, error) {
	if !l.enter() {
		return nil, l.failed(net.ErrClosed)
	}
	defer l.inside.Done()
	l.slots <- struct{}{}
	defer func() { <-l.slots }()
	for {
		c, err := l.accept()
		switch {
		case err == nil:
			return c, nil
		case clientLeft(err):
		case outOfMemory(err) && l.pause():
		default:
			return nil, l.failed(err)
		}
	}
}

func (l *eventListener) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.inside.Add(1)
	return true
}

func (l *eventListener) failed(err error) error {
	return &net.OpError{Op: "accept", Net: l.sock.addr.Network(), Addr: l.sock.addr, Err: err}
}

// Close ends every Accept and returns when they have. The socket stays open.
func (l *eventListener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return net.ErrClosed
	}
	l.closed = true
	l.mu.Unlock()
	err := windows.SetEvent(l.stop)
	l.inside.Wait()
	return errors.Join(os.NewSyscallError("SetEvent", err), windows.CloseHandle(l.stop))
}

// clientLeft is a connection that ended before it was handed over.
func clientLeft(err error) bool {
	return errors.Is(err, windows.WSAECONNRESET) || errors.Is(err, windows.ERROR_NETNAME_DELETED) ||
		errors.Is(err, windows.WSAECONNABORTED) || errors.Is(err, windows.WSAENOTCONN)
}

func outOfMemory(err error) bool {
	return errors.Is(err, windows.WSAENOBUFS) || errors.Is(err, windows.WSAEMFILE) ||
		errors.Is(err, windows.ERROR_NO_SYSTEM_RESOURCES) || errors.Is(err, windows.ERROR_NOT_ENOUGH_MEMORY)
}

// pause reports whether there is a reason to try again.
func (l *eventListener) pause() bool {
	event, err := windows.WaitForSingleObject(l.stop, shortOfMemory)
	return err == nil && event != windows.WAIT_OBJECT_0
}

// pending is one AcceptEx. The kernel writes into it until it has completed.
type pending struct {
	o        windows.Overlapped
	received uint32
	addrs    [2 * addrSpace]byte
}

// accept waits for one connection.
func (l *eventListener) accept() (*accepted, error) {
	sock, err := windows.WSASocket(l.sock.family, windows.SOCK_STREAM, windows.IPPROTO_TCP, nil, 0,
		windows.WSA_FLAG_OVERLAPPED|windows.WSA_FLAG_NO_HANDLE_INHERIT)
	if err != nil {
		return nil, os.NewSyscallError("WSASocket", err)
	}
	c, err := l.acceptInto(sock)
	if err != nil {
		_ = windows.Closesocket(sock) // nothing was received on it
	}
	return c, err
}

func (l *eventListener) acceptInto(sock windows.Handle) (*accepted, error) {
	done, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return nil, os.NewSyscallError("CreateEvent", err)
	}
	defer windows.CloseHandle(done)
	p := &pending{o: windows.Overlapped{HEvent: done}}
	var pin runtime.Pinner // a stack would move under the kernel's hand
	pin.Pin(p)
	defer pin.Unpin()
	err = windows.AcceptEx(l.sock.handle, sock, &p.addrs[0], 0, addrSpace, addrSpace, &p.received, &p.o)
	if errors.Is(err, windows.ERROR_IO_PENDING) {
		err = l.await(p)
	}
	if err != nil {
		return nil, os.NewSyscallError("AcceptEx", err)
	}
	// Without it the socket does not know its addresses and cannot be shut down.
	listening := l.sock.handle
	if err := windows.Setsockopt(sock, windows.SOL_SOCKET, windows.SO_UPDATE_ACCEPT_CONTEXT,
		(*byte)(unsafe.Pointer(&listening)), int32(unsafe.Sizeof(listening))); err != nil {
		return nil, os.NewSyscallError("setsockopt", err)
	}
	return newAccepted(sock, l.sock.addr)
}

// await waits for the accept or for Close, whichever is first. After a Close the operation is cancelled,
// which may come too late: then it has a connection, and that counts.
func (l *eventListener) await(p *pending) error {
	event, err := windows.WaitForMultipleObjects([]windows.Handle{p.o.HEvent, l.stop}, false, windows.INFINITE)
	stopped := err == nil && event == windows.WAIT_OBJECT_0+1
	if err != nil || stopped {
		_ = windows.CancelIoEx(l.sock.handle, &p.o) // fails when it has completed
	}
	var n uint32
	result := windows.GetOverlappedResult(l.sock.handle, &p.o, &n, true) // the memory is the kernel's until then
	switch {
	case result == nil:
		return nil
	case stopped && errors.Is(result, windows.ERROR_OPERATION_ABORTED):
		return net.ErrClosed
	default:
		return errors.Join(err, result)
	}
}
