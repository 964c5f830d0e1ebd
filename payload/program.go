package payload

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
)

// ErrDraining is returned by calls that make no sense any more once the process drains.
var ErrDraining = errors.New("this process is draining")

// phase tells how far a process is; it only grows, except that accepting and parked alternate.
type phase int

const (
	parked    phase = iota // takes no connection, sends its clients elsewhere
	accepting              // takes connections
	draining               // finishes what it has
	drained                // main may return
)

// maxToken bounds the token pipe.
const maxToken = 1 << 10

// How long an order may take here: less than the launcher waits, so that the answer, good or bad, is there
// before it gives up on this process.
const (
	orderLimit = wire.AckTimeout * 3 / 4
	yieldLimit = wire.YieldLimit * 9 / 10
)

// defaultGrace is used when no launcher says how to drain (SIGTERM, alone, orphaned).
var defaultGrace = wire.Grace{Deadline: 30 * time.Second, Idle: 5 * time.Second, Stream: 30 * time.Second}

// program is this process as the launcher sees it. There is one, made by the first call of the package.
type program struct {
	env    environment
	envErr error
	link   *link
	lease  *lease
	busy   *busy
	health health

	orders  sync.Mutex  // one accept, park or drain at a time
	leaving atomic.Bool // answers tell clients to go elsewhere
	tracked atomic.Uint64
	done    chan struct{}
	catch   sync.Once // signals
	ticking sync.Once

	mu        sync.Mutex
	phase     phase
	gates     []*gate
	servers   []*server
	isReady   bool // the program has said so
	told      phase
	telling   bool
	parkHooks []func(bool)
	drainHook []func(context.Context)
	streams   map[*stream]struct{}
}

// self makes the one program of this process.
var self = sync.OnceValue(func() *program {
	env, err := readEnvironment()
	p := newProgram(env, err)
	if env.wire != "" {
		ignoreLogoff()
		go p.link.run()
		p.startTicking()
	}
	return p
})

func newProgram(env environment, err error) *program {
	p := &program{env: env, envErr: err, done: make(chan struct{}), streams: make(map[*stream]struct{})}
	p.phase, p.told = accepting, accepting
	if env.wire != "" {
		p.phase, p.told = parked, parked
		p.leaving.Store(true)
	}
	p.link = newLink(p)
	p.lease = newLease(env.wire == "", p.want)
	p.busy = newBusy(func(b *wire.Busy) { _ = p.link.send(wire.Message{Kind: wire.Hold, Busy: b}) })
	return p
}

// want tells the launcher that the program waits for the lease.
func (p *program) want(fence uint64) {
	_ = p.link.send(wire.Message{Kind: wire.Want, Fence: fence}) // sent again when the wire is back
}

// obey does what an order says and returns once it is true.
func (p *program) obey(m wire.Message) error {
	switch m.Kind {
	case wire.Accept:
		return p.accept()
	case wire.Park:
		return p.park()
	case wire.Grant:
		return p.lease.grant(m.Fence)
	case wire.Yield:
		return p.lease.yield(yieldLimit)
	}
	return fmt.Errorf("order %q is not known to this version", m.Kind)
}

// accept opens every gate and returns when each has an accept loop.
func (p *program) accept() error {
	p.orders.Lock()
	defer p.orders.Unlock()
	if !p.enter(accepting) {
		return ErrDraining
	}
	p.leaving.Store(false)
	end := time.Now().Add(orderLimit)
	for _, g := range p.openGates() {
		if err := errors.Join(g.unpark(), g.awaitLoop(time.Until(end))); err != nil {
			return errors.Join(err, p.shutGates())
		}
	}
	p.tellPark()
	return nil
}

// shutGates goes back to parked after an accept that did not work.
func (p *program) shutGates() error {
	p.enter(parked)
	p.leaving.Store(true)
	return p.parkGates()
}

// park tells clients to leave and shuts every gate. A lease ends with it.
func (p *program) park() error {
	p.orders.Lock()
	defer p.orders.Unlock()
	if !p.enter(parked) {
		return nil // a draining process accepts nothing
	}
	p.leave()
	p.lease.end()
	err := p.parkGates()
	p.tellPark()
	return err
}

func (p *program) parkGates() error {
	var errs []error
	end := time.Now().Add(orderLimit)
	for _, g := range p.openGates() {
		errs = append(errs, g.park(time.Until(end)))
	}
	return errors.Join(errs...)
}

// leave begins to send clients elsewhere: HTTP/1 with the next answer, HTTP/2 at once.
func (p *program) leave() {
	p.leaving.Store(true)
	for _, s := range p.allServers() {
		s.goAway()
	}
}

// enter changes the phase, if that is still possible.
func (p *program) enter(to phase) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase >= draining && to <= p.phase {
		return false
	}
	p.phase = to
	return true
}

func (p *program) openGates() []*gate {
	p.mu.Lock()
	defer p.mu.Unlock()
	var open []*gate
	for _, g := range p.gates {
		if !g.isClosed() {
			open = append(open, g)
		}
	}
	return open
}

func (p *program) allServers() []*server {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.servers)
}

func (p *program) onPark(f func(bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parkHooks = append(p.parkHooks, f)
}

// tellPark calls the hooks of OnPark from one goroutine, so that the last call tells the last state.
func (p *program) tellPark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.telling {
		return
	}
	p.telling = true
	go func() {
		for f := p.nextTold(); f != nil; f = p.nextTold() {
			f()
		}
	}()
}

// nextTold returns what remains to be called, nil if the hooks know the present state.
func (p *program) nextTold() func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase == p.told || p.phase >= draining {
		p.telling = false
		return nil
	}
	p.told = p.phase
	now, hooks := p.phase == parked, slices.Clone(p.parkHooks)
	return func() {
		for _, f := range hooks {
			f(now)
		}
	}
}

func (p *program) onDrain(f func(context.Context)) {
	p.catchSignals()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drainHook = append(p.drainHook, f)
}

func (p *program) ready() error {
	if p.envErr != nil {
		return fmt.Errorf("be ready: %w", p.envErr)
	}
	p.catchSignals()
	if p.env.wire == "" {
		return nil
	}
	if err := p.health.open(nil); err != nil {
		return fmt.Errorf("be ready: %w", err)
	}
	p.mu.Lock()
	p.isReady = true
	p.mu.Unlock()
	p.maybeReady()
	return nil
}

// maybeReady tells the launcher that the program is ready, if it is.
func (p *program) maybeReady() {
	if m, ok := p.readyMessage(); ok {
		_ = p.link.send(m) // sent again when the wire is back
	}
}

// readyMessage is what the launcher may hear now. A program that has taken a listener is ready once a loop
// accepts on it: else the first health question and the first accept order would come too early.
func (p *program) readyMessage() (wire.Message, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ok := p.isReady
	for _, g := range p.gates {
		ok = ok && g.hasLoop()
	}
	return wire.Message{Kind: wire.Ready, Health: p.health.address()}, ok
}

// catchSignals makes SIGTERM and Ctrl-C a drain; the second one ends the process as it would have.
func (p *program) catchSignals() {
	p.catch.Do(func() {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM, os.Interrupt)
		go func() {
			select {
			case <-c:
				signal.Stop(c)
				p.drain(p.ownGrace())
			case <-p.done:
				signal.Stop(c)
			}
		}()
	})
}

// ownGrace is the grace of a drain that no launcher ordered. Alone nobody takes the clients over, and a
// person at the keyboard waits.
func (p *program) ownGrace() wire.Grace {
	grace := defaultGrace
	if p.env.wire == "" {
		grace.Idle = time.Second
	}
	return grace
}

func (p *program) startTicking() { p.ticking.Do(func() { go p.tick() }) }

// tick counts and reports, which also forgets upgraded connections that have ended, and watches over the
// shared flag of the inherited sockets.
func (p *program) tick() {
	ticker := time.NewTicker(statsPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-ticker.C:
		}
		for _, s := range p.env.sockets {
			_ = s.heal() // the next tick tries again
		}
		p.link.report(p.stats())
	}
}
