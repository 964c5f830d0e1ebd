package child

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
)

// order is one order that waits for its acknowledgement. It belongs to the process and not to a
// connection: after a reconnection it is sent again with the same ID.
type order struct {
	message wire.Message
	done    chan struct{} // closed when answer is set
	answer  answer        // guarded by Process.mu
}

type answer struct {
	message wire.Message
	files   []Socket
}

// Accept makes the program take new connections; nil means that its accept loop runs. Like every order it
// returns ErrNoWire for a program without the SDK, ErrNoAck when the program does not answer in time,
// ErrRefused with the program's reason, ErrExited, ErrClosed or the cause of ctx.
func (p *Process) Accept(ctx context.Context) error {
	_, err := p.order(ctx, wire.Message{Kind: wire.Accept}, wire.AckTimeout)
	return err
}

// Park makes the program stop taking connections; nil means that it takes none any more. One that has not said Hello
// yet never began to.
func (p *Process) Park(ctx context.Context) error {
	if p.untold() {
		return nil
	}
	_, err := p.order(ctx, wire.Message{Kind: wire.Park}, wire.AckTimeout)
	if err == nil || errors.Is(err, ErrRefused) {
		p.setFence(0) // its lease has ended with it; a grant is refused until its work has
	}
	return err
}

// Drain makes the program finish and exit; nil means that it has begun. Wait for Done.
func (p *Process) Drain(ctx context.Context, g wire.Grace) error {
	_, err := p.order(ctx, wire.Message{Kind: wire.Drain, Grace: &g}, wire.AckTimeout)
	return err
}

// Grant gives the lease to the program, with the fencing number that its writes carry.
func (p *Process) Grant(ctx context.Context, fence uint64) error {
	_, err := p.order(ctx, wire.Message{Kind: wire.Grant, Fence: fence}, wire.AckTimeout)
	if err == nil {
		p.setFence(fence)
	}
	return err
}

// Yield takes the lease back; nil means that the work under it has ended. It waits for wire.YieldLimit,
// after which the caller ends the process. One that has not said Hello yet has none.
func (p *Process) Yield(ctx context.Context) error {
	if p.untold() {
		return nil
	}
	_, err := p.order(ctx, wire.Message{Kind: wire.Yield}, wire.YieldLimit)
	if err == nil {
		p.setFence(0)
	}
	return err
}

// untold says that no order can have reached the program, since it was started here and has not said Hello yet: it is as
// a program with the SDK begins, parked and without the lease. An adopted one had another launcher before.
func (p *Process) untold() bool {
	select {
	case <-p.found:
		return false
	default:
		return p.spec.Kind == SDK && !p.forked.IsZero()
	}
}

// Socket is a listening socket that a program gave back: an *os.File on Linux, in non-blocking mode, which
// Fd leaves so; on Windows a handle that is known to no poller.
type Socket interface {
	syscall.Conn
	io.Closer
}

// Sockets asks for the listening sockets back, by name, for a launcher that was started anew. They are the
// caller's to close.
func (p *Process) Sockets(ctx context.Context) (map[string]Socket, error) {
	a, err := p.order(ctx, wire.Message{Kind: wire.Sockets}, wire.AckTimeout)
	if err != nil {
		closeAll(a.files)
		return nil, err
	}
	named := make(map[string]Socket)
	for i, name := range a.message.Names {
		if i < len(a.files) && socketForm.MatchString(name) && named[name] == nil {
			named[name] = a.files[i]
		}
	}
	if len(named) != len(a.message.Names) || len(named) != len(a.files) {
		closeAll(a.files)
		return nil, fmt.Errorf("sockets of %s: %w: %d names and %d sockets in its answer",
			p.spec.Number, ErrRefused, len(a.message.Names), len(a.files))
	}
	return named, nil
}

// reconnectLimit is how long the first order waits for an adopted process to find this launcher. Payloads
// dial every 2 seconds at the latest.
const reconnectLimit = 5 * time.Second

// order sends m and waits for its acknowledgement. If the connection is broken at the moment, the order is
// sent when there is a new one, within the same limit.
func (p *Process) order(ctx context.Context, m wire.Message, limit time.Duration) (answer, error) {
	wrap := func(err error) error { return fmt.Errorf("%s %s: %w", m.Kind, p.spec.Number, err) }
	if p.spec.Kind != SDK {
		return answer{}, wrap(ErrNoWire)
	}
	if err := p.alive(); err != nil {
		return answer{}, wrap(err)
	}
	if err := p.wait(ctx, p.found, reconnectLimit); err != nil {
		return answer{}, wrap(err)
	}
	o := p.post(&m)
	defer p.withdraw(m.ID, o)
	if err := p.wait(ctx, o.done, limit); err != nil {
		return answer{}, wrap(err)
	}
	a := p.collect(o)
	if a.message.Error != "" {
		return a, wrap(fmt.Errorf("%w: %s", ErrRefused, clip(a.message.Error)))
	}
	return a, nil
}

// wait blocks until ch is closed; every other end of the wait is an error.
func (p *Process) wait(ctx context.Context, ch <-chan struct{}, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	var late error
	select {
	case <-ch:
		return nil
	case <-timer.C:
		late = fmt.Errorf("%w (%v)", ErrNoAck, limit)
	case <-p.done:
		late = p.exited()
	case <-ctx.Done():
		late = context.Cause(ctx)
	case <-p.host.ctx.Done():
		late = ErrClosed
	}
	select {
	case <-ch: // it was this launcher that was late to look
		return nil
	default:
		return late
	}
}

// post numbers an order, enters it and sends it if there is a connection.
func (p *Process) post(m *wire.Message) *order {
	p.mu.Lock()
	p.lastID++
	m.ID = p.lastID
	o := &order{message: *m, done: make(chan struct{})}
	p.orders[m.ID] = o
	l := p.link
	p.mu.Unlock()
	if l != nil {
		l.send(*m)
	}
	return o
}

// withdraw ends the wait for an order. Sockets of an answer that nobody collected are closed.
func (p *Process) withdraw(id uint64, o *order) {
	p.mu.Lock()
	delete(p.orders, id)
	p.mu.Unlock()
	closeAll(p.collect(o).files)
}

// collect takes the answer out of an order.
func (p *Process) collect(o *order) answer {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := o.answer
	o.answer = answer{}
	return a
}

// acknowledge hands an answer to its order and reports whether there is one; the files are then its.
func (p *Process) acknowledge(a answer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.orders[a.message.ID]
	if o == nil {
		return false
	}
	delete(p.orders, a.message.ID)
	o.answer = a
	close(o.done)
	return true
}

func closeAll(files []Socket) {
	for _, f := range files {
		_ = f.Close() // nothing was written to it
	}
}

// clip bounds a text that a payload sent.
func clip(s string) string {
	if len(s) > maxText {
		return s[:maxText] + "..."
	}
	return s
}
