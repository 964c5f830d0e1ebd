package child

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
)

const (
	extendLimit = 30 * time.Minute      // from the start: EXTEND_TIMEOUT_USEC moves no deadline further
	killLimit   = 5 * time.Second       // how long Stop waits for the kernel after SIGKILL
	lastWords   = 50 * time.Millisecond // for reading what a dead process still had on the wire
	maxText     = 1 << 10               // bytes kept of a text that a payload sends
)

// Process is one payload process with its descendants. It is safe for concurrent use.
type Process struct {
	host   *Host
	spec   Spec
	rec    record
	handle *handle
	note   net.PacketConn // its notify socket, nil where there are none
	began  time.Time
	forked time.Time // just before it was made; zero for an adopted one

	ready chan struct{} // closed when it is ready
	found chan struct{} // closed when it has said Hello to this Host
	done  chan struct{} // closed when it has ended; exit is set
	gone  chan struct{} // closed when nothing of it is left: descendants, zombie, record
	kill  chan struct{} // closed when its descendants may be killed
	wants chan struct{}

	mu       sync.Mutex
	asked    bool // somebody called Stop or Kill, so somebody closes kill
	isReady  bool
	linked   bool
	killing  bool
	tree     []*handle // its descendants when somebody asked for its end
	health   string
	status   string
	stats    wire.Stats
	busy     *wire.Busy
	busyEnd  time.Time
	deadline time.Time     // of Ready; zero is none
	moved    chan struct{} // closed and replaced when deadline changes
	protocol int
	fence    uint64
	links    map[*link]bool
	link     *link // the one that said Hello last
	orders   map[uint64]*order
	lastID   uint64
	refusals int
	exit     Exit
}

func (h *Host) process(s Spec, r record) *Process {
	p := &Process{
		host: h, spec: s, rec: r, began: time.Now(),
		ready: make(chan struct{}), found: make(chan struct{}), done: make(chan struct{}), gone: make(chan struct{}),
		kill: make(chan struct{}), wants: make(chan struct{}, 1), moved: make(chan struct{}),
		links: make(map[*link]bool), orders: make(map[uint64]*order),
	}
	if s.ReadyTimeout > 0 {
		p.deadline = p.began.Add(s.ReadyTimeout)
	}
	return p
}

// PID is the process id of the program itself.
func (p *Process) PID() int { return p.handle.pid }

// Spec is what the process was started from. Of an adopted one Args, Env, User and the sockets of
// Listeners are not known any more.
func (p *Process) Spec() Spec { return p.spec }

// Forked is the moment before the process was made, after its record was written; zero for an adopted one.
func (p *Process) Forked() time.Time { return p.forked }

// Began is when the process was made.
func (p *Process) Began() time.Time { return p.began }

// Memory is what the program and its descendants have taken of the machine's memory, in bytes, without what they
// share with files; 0 if it cannot be known.
func (p *Process) Memory() int64 { return p.handle.memory(p.rec.path) }

// Done is closed when the program has ended; its descendants may have a moment left.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit says how it ended; its String is "still running" before Done.
func (p *Process) Exit() Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exit
}

// Ready blocks until the program says that it can serve, and returns the address of its private health
// listener if it has one. A program that says nothing (neither SDK nor sd_notify) is never ready in this
// sense: probe it instead. Errors: ErrExited, ErrNotReady, ErrClosed, or the cause of ctx.
func (p *Process) Ready(ctx context.Context) (string, error) {
	for {
		timeout, moved := p.readyWait()
		select {
		case <-p.done:
			return "", p.exited()
		case <-p.ready:
			if err := p.alive(); err != nil {
				return "", err
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.health, nil
		case <-timeout:
			return "", fmt.Errorf("%w (%v)", ErrNotReady, p.spec.ReadyTimeout)
		case <-moved:
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-p.host.ctx.Done():
			return "", ErrClosed
		}
	}
}

// readyWait returns a channel for the deadline as it is now and one that is closed when it moves.
func (p *Process) readyWait() (timeout <-chan time.Time, moved <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.deadline.IsZero() {
		timeout = time.After(time.Until(p.deadline))
	}
	return timeout, p.moved
}

// extend makes Ready wait for at least d from now, within extendLimit.
func (p *Process) extend(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next, last := time.Now().Add(d), p.began.Add(extendLimit)
	if next.After(last) {
		next = last
	}
	if p.deadline.IsZero() || !next.After(p.deadline) {
		return
	}
	p.deadline = next
	close(p.moved)
	p.moved = make(chan struct{})
}

// becomeReady reports whether it is the first time.
func (p *Process) becomeReady(health string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := !p.isReady
	if first {
		p.isReady, p.deadline = true, time.Time{} // who asks later than ready_timeout gets the same answer
		close(p.ready)
	}
	p.health = health
	return first
}

func (p *Process) exited() error {
	return fmt.Errorf("%w: %s", ErrExited, p.Exit())
}

func (p *Process) alive() error {
	select {
	case <-p.done:
		return p.exited()
	default:
		return nil
	}
}

// Health is the address of the private health listener as the program last told it, "" before it has, or
// if it has none. After an adoption it is known a moment after the program has found this launcher.
func (p *Process) Health() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.health
}

// Stats are the last counters that the program reported.
func (p *Process) Stats() wire.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stats
}

// Busy is the program's wish not to be switched now, with the time that is left of it; nil if it has none.
func (p *Process) Busy() *wire.Busy {
	p.mu.Lock()
	defer p.mu.Unlock()
	left := time.Until(p.busyEnd)
	if p.busy == nil || left <= 0 {
		return nil
	}
	return &wire.Busy{Reason: p.busy.Reason, For: left}
}

// Wants receives each time the program begins to wait for the lease.
func (p *Process) Wants() <-chan struct{} { return p.wants }

// Protocol is what the program said that it speaks when it connected, 0 before that and of one that is not on the wire.
func (p *Process) Protocol() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.protocol
}

// Fence is the fencing number of the lease that the program holds: as it said when it connected (an adopted
// one keeps its lease while no launcher runs), or as granted since; 0 if it holds none.
func (p *Process) Fence() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fence
}

// ended takes in that the grant with this fence is over: nobody may have heard the answer to the order that ended it.
func (p *Process) ended(fence uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if fence == p.fence {
		p.fence = 0
	}
}

func (p *Process) setFence(fence uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fence = fence
}

// Status is the last STATUS text that the program gave by sd_notify, "stopping" after STOPPING=1.
func (p *Process) Status() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// Tail returns at most the last maxBytes of what the program wrote to stdout and stderr.
func (p *Process) Tail(maxBytes int) string {
	return tailOutput(p.rec.Output, maxBytes)
}

// OwnsPort returns nil if every socket that listens at the TCP address belongs to this process or a
// descendant, and there is one; ErrNotOwner otherwise.
func (p *Process) OwnsPort(addr string) error {
	if err := p.alive(); err != nil {
		return err
	}
	if err := ownsPort(p, addr); err != nil {
		return fmt.Errorf("%s owns %s: %w", p.spec.Number, addr, err)
	}
	return nil
}
