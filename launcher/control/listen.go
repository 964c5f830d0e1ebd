package control

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// Address is where the launcher of a product listens by default: control.sock in its state folder, or the
// pipe of the product on Windows.
func Address(stateDir, product string) string { return address(stateDir, product) }

// AddressHint is what to do about an address that CheckAddress refuses.
const AddressHint = addressHint

// CheckAddress tells whether a socket can be made there at all.
func CheckAddress(addr string) error { return checkAddress(addr) }

// Listen makes the operators' socket. Administrators and the launcher's own account may connect, and the
// members of readGroup if it is not "". A socket that a dead launcher left is replaced: the caller holds
// the lock of the state folder, so there is no living one.
func Listen(addr, readGroup string) (*Listener, error) {
	ln, err := listen(addr, readGroup)
	if err != nil {
		return nil, err
	}
	return &Listener{
		addr: addr, group: readGroup, look: lookAgain, ln: ln, places: make(chan struct{}, maxClients), done: make(chan struct{}),
	}, nil
}

func dialAddress(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, addr) }

// Bounds. Followers get fewer places than there are, so that they cannot keep an operator out.
const (
	maxClients   = 32
	maxFollowers = 24
)

// lookAgain is how often a socket that nobody comes to is looked for: somebody may have removed it, and then the launcher
// would seem not to run.
const lookAgain = 10 * time.Second

// Listener accepts at most 32 connections at a time; the others wait in the kernel's queue.
type Listener struct {
	addr, group string // others than administrators may read if there is a group
	look        time.Duration
	places      chan struct{}
	done        chan struct{}
	once        sync.Once

	mu sync.Mutex
	ln net.Listener
}

// passing is an error of accept that may be gone with the next try: no descriptors, no kernel objects, a client that
// gave up. What keeps an operator out for a moment must not end the service, so net/http is told to pause and go on.
type passing struct{ error }

func (passing) Timeout() bool   { return false }
func (passing) Temporary() bool { return true }

func (e passing) Unwrap() error { return e.error }

// Accept waits for a place and then for a client. Every error but net.ErrClosed is a temporary one.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.accept()
	if err != nil {
		<-l.places
		if !errors.Is(err, net.ErrClosed) {
			err = passing{err}
		}
		return nil, err
	}
	who, err := peer(c)
	if err != nil {
		who = caller{name: "unknown peer: " + err.Error()}
	}
	who.reader = who.admin || l.group != "" && err == nil
	return &client{Conn: c, caller: who, leave: sync.OnceFunc(func() { <-l.places })}, nil
}

func (l *Listener) accept() (net.Conn, error) {
	for {
		ln := l.current()
		limit(ln, l.look)
		c, err := ln.Accept()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return c, err
		}
		l.restore()
	}
}

func (l *Listener) current() net.Listener {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ln
}

// restore makes the socket again if its path does not lead to it any more. An error leaves that to the next look.
func (l *Listener) restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done:
		return
	default:
	}
	if !lost(l.ln) {
		return
	}
	if ln, err := listen(l.addr, l.group); err == nil {
		_ = l.ln.Close() // nobody could reach it
		l.ln = ln
	}
}

// Close ends Accept and removes the socket.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.current().Close()
}

// Addr is where clients connect.
func (l *Listener) Addr() net.Addr { return l.current().Addr() }

// caller is who is at the other end of a connection.
type caller struct {
	name   string
	admin  bool // may change things
	reader bool
}

// client is a connection that knows its caller and gives its place back when it is closed.
type client struct {
	net.Conn
	caller caller
	leave  func()
}

func (c *client) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// CloseWrite lets net/http end a refused request so that the client reads the refusal and not a reset.
func (c *client) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}
