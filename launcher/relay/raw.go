package relay

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// rawListener is a listening socket that this process holds and does not accept on. It stays outside of Go's
// poller: on Windows a socket can be tied to one only, and on Linux the launcher would be woken for every
// connection that a payload takes.
type rawListener struct {
	addr net.Addr

	mu     sync.RWMutex // held for reading while the handle is lent
	handle uintptr
	closed bool
}

var errNotHere = errors.New("only payloads accept on this socket")

func (l *rawListener) Accept() (net.Conn, error)             { return nil, errNotHere }
func (l *rawListener) Addr() net.Addr                        { return l.addr }
func (l *rawListener) SetDeadline(time.Time) error           { return errNotHere }
func (l *rawListener) SyscallConn() (syscall.RawConn, error) { return l, nil }

// Control lends the handle to f.
func (l *rawListener) Control(f func(fd uintptr)) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return net.ErrClosed
	}
	f(l.handle)
	return nil
}

func (l *rawListener) Read(func(uintptr) bool) error  { return errNotHere }
func (l *rawListener) Write(func(uintptr) bool) error { return errNotHere }

func (l *rawListener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.closed = true
	return closeSocket(l.handle)
}
