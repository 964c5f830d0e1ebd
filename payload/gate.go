package payload

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// errBlocked is a park that could not get its accept loop out of the kernel.
var errBlocked = errors.New("accept does not return")

// gate is a listener whose Accept can be stopped and started again while others go on accepting from the
// same socket. What the kernel handed over before a stop is always returned by Accept, never dropped.
type gate struct {
	name string
	addr net.Addr
	sock *socket // nil for a listener of this process alone, which is never shut before its end

	onLoop func()    // called once, when an accept loop has come
	first  sync.Once // for onLoop
	looped atomic.Bool

	turn sync.Mutex // one park, unpark or close at a time; taken before mu

	mu        sync.Mutex
	inner     net.Listener // nil while shut
	closed    bool
	change    chan struct{} // made by watch, closed by signal
	waiting   int           // Accept calls that wait for the gate to open
	inside    int           // Accept calls that the kernel may hand a connection to
	delivered uint64        // connections returned by Accept
}

func (g *gate) Addr() net.Addr { return g.addr }

func (g *gate) Accept() (net.Conn, error) {
	g.first.Do(func() {
		g.looped.Store(true)
		g.onLoop()
	})
	for {
		ln, err := g.enter()
		if err != nil {
			return nil, err
		}
		c, err := ln.Accept()
		if open := g.leave(ln, err == nil); open || err == nil {
			return c, err
		}
	}
}

// enter waits until the gate is open.
func (g *gate) enter() (net.Listener, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting++
	for g.inner == nil && !g.closed {
		change := g.watch()
		g.mu.Unlock()
		<-change
		g.mu.Lock()
	}
	g.waiting--
	if g.closed {
		return nil, &net.OpError{Op: "accept", Net: g.addr.Network(), Addr: g.addr, Err: net.ErrClosed}
	}
	g.inside++
	g.signal()
	return g.inner, nil
}

// leave reports whether ln is still the open listener, so that an error of it is one of the gate.
func (g *gate) leave(ln net.Listener, delivered bool) (open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if delivered {
		g.delivered++
	}
	return g.inner == ln
}

// watch returns a channel that the next signal closes. g.mu is held.
func (g *gate) watch() <-chan struct{} {
	if g.change == nil {
		g.change = make(chan struct{})
	}
	return g.change
}

// signal wakes who watches. g.mu is held.
func (g *gate) signal() {
	if g.change != nil {
		close(g.change)
		g.change = nil
	}
}

// unpark opens the gate. It is no error if it is open.
func (g *gate) unpark() error {
	g.turn.Lock()
	defer g.turn.Unlock()
	if g.sock == nil || g.isOpen() {
		return nil
	}
	ln, err := g.sock.open()
	if err != nil {
		return fmt.Errorf("open listener %s: %w", g.name, err)
	}
	g.mu.Lock()
	g.inner = ln
	g.signal()
	g.mu.Unlock()
	return nil
}

// park shuts the gate. When it returns nil no later connection comes to this process. It is no error if
// the gate is shut.
func (g *gate) park(limit time.Duration) error {
	if g.sock == nil {
		return nil
	}
	return g.shut(limit)
}

func (g *gate) shut(limit time.Duration) error {
	g.turn.Lock()
	defer g.turn.Unlock()
	g.mu.Lock()
	ln := g.inner
	g.inner = nil
	g.mu.Unlock()
	if ln == nil {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- ln.Close() }()
	if !g.pry(done, limit) {
		return fmt.Errorf("shut listener %s: %w", g.name, errBlocked)
	}
	return nil
}

// pry waits for a close to finish. A close waits for the accepts inside, and one of them blocks in the
// kernel if another holder of the socket has cleared O_NONBLOCK. Only a connection gets it out, so pry
// makes some to the own address; whoever accepts one sees it end without a request.
func (g *gate) pry(done <-chan error, limit time.Duration) bool {
	const period = 20 * time.Millisecond
	for end := time.Now().Add(limit); ; {
		select {
		case <-done: // the duplicate is gone, whatever close said
			return true
		case <-time.After(period):
		}
		if time.Now().After(end) {
			return false
		}
		if g.sock != nil {
			_ = g.sock.heal() // the next period tries again
		}
		if c, err := net.DialTimeout(g.addr.Network(), g.addr.String(), period); err == nil {
			_ = c.Close()
		}
	}
}

// awaitLoop waits until an accept loop has come to the open gate, now or before: one that is elsewhere waits at a limit of
// the program's own, and comes when that lets it.
func (g *gate) awaitLoop(limit time.Duration) error {
	timeout := time.After(limit)
	for {
		g.mu.Lock()
		ready, change := g.looped.Load(), g.watch()
		g.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-change:
		case <-timeout:
			return fmt.Errorf("open listener %s: no accept loop runs on it", g.name)
		}
	}
}

// settled reports whether every connection that the kernel handed over before a park is known to its
// server: its accept loop has come back, or all that were delivered anywhere were seen.
func (g *gate) settled(allSeen bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inner != nil || g.inside == 0 && (g.waiting > 0 || allSeen)
}

func (g *gate) hasLoop() bool { return g.looped.Load() || g.isClosed() }

func (g *gate) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inner != nil
}

// Close ends the listener for good. The inherited socket itself stays open, for the launcher may ask for it.
func (g *gate) Close() error {
	g.mu.Lock()
	g.closed = true
	g.signal()
	g.mu.Unlock()
	return g.shut(time.Second)
}

func (g *gate) count() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.delivered
}
