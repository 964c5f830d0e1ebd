package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Options of a Proxy; the zero value is right for most.
type Options struct {
	// DialTimeout bounds one attempt to reach a version. A living one answers in microseconds; a full accept
	// queue costs the kernel's SYN retries (1 s, 3 s). Default 5 s.
	DialTimeout time.Duration
	// MaxOpen bounds the connections forwarded at once; more wait in the kernel's queue. Each costs two
	// sockets and, spliced, two pipes: six descriptors. Without the bound a flood would leave the launcher
	// none to save its journal with. Default 10000.
	MaxOpen int
	// Notice is how long a client waits, once, for another target after every one has refused it. What refuses has
	// mostly just ended, and whoever notices that turns the proxy away from it in a moment. Default 1 s.
	Notice time.Duration
}

// Proxy accepts the connections of a Socket and forwards each to the Target of the moment. It is safe for
// concurrent use.
type Proxy struct {
	socket *Socket
	ln     listener // accepts what comes to the socket
	lnErr  error    // why it does not
	o      Options
	slots  chan struct{} // one element for each connection that may still be opened

	mu       sync.Mutex
	target   *Target
	fallback *Target
	held     bool
	since    time.Time     // of the hold
	changed  chan struct{} // closed and replaced when those who wait in pick shall look again
	waiting  int           // connections in hand that wait in pick
	first    time.Time     // when the longest waiting of them began to
	counts   Counts
}

// Counts are totals since the Proxy was made, except Open and Trouble.
type Counts struct {
	Accepted uint64 // connections taken from the socket
	Moved    uint64 // of these, served by another version because the picked one did not answer the dial
	Failed   uint64 // of these, closed because no version answered the dial
	Cut      uint64 // of these, ended by Cut or by the end of Run
	Open     int    // of these, not ended yet
	Trouble  string // the last error of accept or dial, "" if there was none
}

// Waited is what a hold cost the clients.
type Waited struct {
	Held    int           // connections that waited, in hand or in the kernel's queue
	Longest time.Duration // of their waits
}

// Nowhere is an address that refuses every connection, for a target that stands for no version: what is sent
// there is reset at once.
const Nowhere = "127.0.0.1:0"

// errNoTarget ends a connection that every version refused.
var errNoTarget = errors.New("no version answers")

// NewProxy makes a proxy without a target: connections wait until the first Switch.
func NewProxy(s *Socket, o Options) *Proxy {
	if o.DialTimeout <= 0 {
		o.DialTimeout = 5 * time.Second
	}
	if o.MaxOpen <= 0 {
		o.MaxOpen = 10000
	}
	if o.Notice <= 0 {
		o.Notice = time.Second
	}
	p := &Proxy{socket: s, o: o, slots: make(chan struct{}, o.MaxOpen), changed: make(chan struct{})}
	p.ln, p.lnErr = acceptor(s)
	return p
}

// Name returns the name of the socket.
func (p *Proxy) Name() string { return p.socket.Name() }

// NewTarget makes a target of the private address of a version, "host:port" or "unix:" and a path.
func (p *Proxy) NewTarget(name, address string) *Target {
	network, address := split(address)
	return &Target{name: name, network: network, address: address, pairs: make(map[*pair]struct{})}
}

// Switch makes next take every new connection and returns the target that it displaced, nil at first. Once
// it has returned, no connection that was not yet counted at old will reach it (except as the fallback).
// A nil next makes new connections wait.
func (p *Proxy) Switch(next *Target) (old *Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, p.target = p.target, next
	p.wake()
	return old
}

// SetFallback names the version that is tried when a dial to the picked one fails, which is before any
// byte went, so nothing is lost or sent twice. It returns the one displaced; nil means no fallback.
func (p *Proxy) SetFallback(other *Target) (old *Target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, p.fallback = p.fallback, other
	return old
}

// Hold makes new connections wait until Release. They wait in the kernel's queue, except one that the
// proxy has in hand already; the client is connected all the while and only its answer is late. On return
// no connection that was not yet counted will reach any target.
func (p *Proxy) Hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.held {
		p.held, p.since = true, time.Now()
	}
}

// Release ends a hold and says what it cost; without a hold nothing happens.
func (p *Proxy) Release() Waited {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.held {
		return Waited{}
	}
	w := Waited{Held: p.waiting + p.socket.Backlog()}
	switch {
	case p.waiting > 0:
		w.Longest = time.Since(p.first) // first in, so nobody behind it waited longer
	case w.Held > 0:
		w.Longest = time.Since(p.since) // nobody was in hand to date the queue by: the bound
	}
	p.held = false
	p.wake()
	return w
}

// Counts returns the totals so far.
func (p *Proxy) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// Run accepts and forwards until ctx ends and then returns its cause; what is still open is cut. It
// leaves the socket listening and no goroutine behind. An error before that means that the socket does
// not listen any more. Run may be called again after it returned.
//
// To shut down without loss: Hold, Wait on each target, Cut what is left, then end ctx.
func (p *Proxy) Run(ctx context.Context) error {
	if p.lnErr != nil {
		return p.lnErr
	}
	ctx, cancel := context.WithCancel(ctx)
	var open sync.WaitGroup
	defer open.Wait()
	defer cancel()

	// Closing the socket is the usual way to end an accept loop, and the one thing that must not happen
	// here: it would reset what waits in the queue. A deadline in the past wakes Accept as well.
	awake := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(awake)
		_ = p.ln.SetDeadline(time.Unix(1, 0)) // fails only on a closed socket, which wakes Accept too
	})
	defer func() {
		if !stop() {
			<-awake
			_ = p.ln.SetDeadline(time.Time{}) // as above
		}
	}()

	for {
		c, err := p.accept(ctx)
		if err != nil {
			return err
		}
		x := &pair{client: c}
		x.ctx, x.cancel = context.WithCancel(ctx)
		// The pick is made here and not in the goroutine: while it waits nothing more is accepted, so a held
		// crowd stays in the kernel, where it costs nothing and survives this process.
		t, err := p.pick(x)
		open.Go(func() {
			p.end(x, p.forward(x, t, err))
			<-p.slots
		})
	}
}

// accept takes the next connection, trying again for as long as the socket listens. Accept fails for many
// reasons that pass: no descriptors, no memory, a client that gave up, a firewall, a network going down.
func (p *Proxy) accept(ctx context.Context) (stream, error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	const shortest, longest = 5 * time.Millisecond, time.Second
	for delay := shortest; ; delay = min(2*delay, longest) {
		c, err := p.ln.Accept()
		if err == nil {
			p.note(func(n *Counts) { n.Accepted++; n.Open++ })
			return c.(stream), nil // the listener is TCP or unix
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		} else if !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.EINVAL) {
			p.trouble(err)
			select {
			case <-time.After(delay):
				continue
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
		<-p.slots
		return nil, err
	}
}

// pick waits while new connections are held, chooses a target that x has not tried yet and counts x
// there. All of it happens under one lock, and Switch takes the same one: a connection is counted at the
// old target before Switch returns, or it goes to the new one. This is the whole guarantee of the package.
func (p *Proxy) pick(x *pair) (*Target, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.held || p.target == nil {
			if err := p.wait(x.ctx); err != nil {
				return nil, err
			}
		}
		// Two places, at most three targets for one connection: the one picked, the one that replaced it while it
		// was dialled, and the fallback. One more for who has waited.
		for _, t := range []*Target{p.target, p.fallback} {
			if t != nil && !slices.Contains(x.tried, t) && (len(x.tried) < 3 || x.waited && len(x.tried) < 4) {
				if len(x.tried) > 0 {
					p.counts.Moved++
				}
				x.tried = append(x.tried, t)
				t.add(x)
				return t, nil
			}
		}
		if x.waited || p.target.address == Nowhere {
			return nil, errNoTarget
		}
		x.waited = true
		if err := p.notice(x.ctx); err != nil {
			return nil, err
		}
	}
}

// notice blocks until the target changes, but not for long. It is called and returns with the lock held.
func (p *Proxy) notice(ctx context.Context) error {
	changed := p.changed
	p.mu.Unlock()
	defer p.mu.Lock()
	select {
	case <-changed:
	case <-time.After(p.o.Notice):
	case <-ctx.Done():
	}
	return context.Cause(ctx)
}

// wait blocks until new connections are let through. It is called and returns with the lock held.
func (p *Proxy) wait(ctx context.Context) error {
	if p.waiting == 0 {
		p.first = time.Now()
	}
	p.waiting++
	defer func() { p.waiting-- }()
	for p.held || p.target == nil {
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		p.mu.Lock()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return nil
}

// wake makes those who wait in pick look again. It is called with the lock held.
func (p *Proxy) wake() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// forward dials t, or what pick offers next, carries the bytes of x until both sides are done, and returns
// why it ended, nil if by itself.
func (p *Proxy) forward(x *pair, t *Target, err error) error {
	for ; err == nil; t, err = p.pick(x) {
		server, derr := t.dial(x.ctx, p.o.DialTimeout)
		if derr == nil {
			defer t.remove(x) // last of all, after join has closed both sides
			return join(x.ctx, x.client, server)
		}
		// Not counted there any more before pick may wait again: during an exclusive switch somebody waits for
		// this target to become empty and only then starts the one that will take this connection.
		t.remove(x)
		if x.ctx.Err() != nil {
			err = context.Cause(x.ctx)
			break
		}
		p.trouble(fmt.Errorf("dial %s: %w", t.name, derr))
	}
	abort(x.client) // nothing was answered: a reset says so, an end of stream would look like an empty answer
	return err
}

func (p *Proxy) end(x *pair, err error) {
	x.cancel()
	p.note(func(n *Counts) {
		n.Open--
		switch {
		case errors.Is(err, errNoTarget):
			n.Failed++
		case err != nil:
			n.Cut++
		}
	})
}

func (p *Proxy) trouble(err error) {
	p.note(func(n *Counts) { n.Trouble = err.Error() })
}

func (p *Proxy) note(change func(*Counts)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.counts)
}
