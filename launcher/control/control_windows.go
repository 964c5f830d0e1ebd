package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"

	"github.com/turnstone-go/turnstone/internal/pipe"
)

// administrators gives the pipe to LocalSystem and to elevated administrators, and to nobody else: P keeps
// inherited entries out, GA is all rights (Security Descriptor String Format, learn.microsoft.com).
const administrators = "D:P(A;;GA;;;SY)(A;;GA;;;BA)"

func address(_, product string) string { return pipe.Prefix + product + "-control" }

const addressHint = `name a pipe: [control] socket = '\\.\pipe\acme-agent-control'`

func checkAddress(addr string) error {
	if !strings.HasPrefix(addr, pipe.Prefix) {
		return fmt.Errorf(`not the name of a pipe, which begins with \\.\pipe\`)
	}
	if n := len(pipe.Protected(addr) + readersSuffix); n > 256 {
		return fmt.Errorf("%d bytes long with what is added to it; the name of a pipe has at most 256", n)
	}
	return nil
}

// readersSuffix makes the name of a second pipe, which only exists with a group of readers. Who is at the other
// end is decided by which pipe he could open, and so by the kernel.
const readersSuffix = "-read"

// readersAccess is to read and write without FILE_CREATE_PIPE_INSTANCE, by which a reader could pose as the
// launcher: it is a part of GENERIC_WRITE ("Named Pipe Security and Access Rights", learn.microsoft.com).
const readersAccess = windows.FILE_READ_DATA | windows.FILE_WRITE_DATA | windows.FILE_READ_ATTRIBUTES | windows.FILE_WRITE_ATTRIBUTES |
	windows.FILE_READ_EA | windows.FILE_WRITE_EA | windows.READ_CONTROL | windows.SYNCHRONIZE

func listen(addr, readGroup string) (net.Listener, error) {
	if err := checkAddress(addr); err != nil {
		return nil, fmt.Errorf("open control pipe %s: %w", addr, err)
	}
	addr = pipe.Name(addr)
	ln, err := listenPipe(addr, administrators)
	if err != nil || readGroup == "" {
		return ln, err
	}
	sid, _, _, err := windows.LookupSID("", readGroup)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("control.read_group: find %s: %w", readGroup, err), ln.Close())
	}
	readers, err := listenPipe(addr+readersSuffix, fmt.Sprintf("%s(A;;%#x;;;%s)", administrators, readersAccess, sid))
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return newPair(ln, readers), nil
}

func listenPipe(addr, access string) (net.Listener, error) {
	ln, err := winio.ListenPipe(addr, &winio.PipeConfig{SecurityDescriptor: access})
	if err != nil {
		return nil, fmt.Errorf("open control pipe: %w", err)
	}
	consumeFirst(addr)
	return ln, nil
}

// pair accepts from two pipes.
type pair struct {
	net.Listener // the administrators'
	readers      net.Listener
	accepted     chan accepted
	done         chan struct{}
	once         sync.Once
	wg           sync.WaitGroup
}

type accepted struct {
	conn net.Conn
	err  error
}

// readerConn came by the readers' pipe.
type readerConn struct{ net.Conn }

// newPair accepts ahead, one connection from each: a Listener that has no place leaves it waiting there. So does an error,
// after which it accepts again: whoever calls Accept sets the pace.
func newPair(admins, readers net.Listener) *pair {
	p := &pair{Listener: admins, readers: readers, accepted: make(chan accepted), done: make(chan struct{})}
	from := func(ln net.Listener, wrap func(net.Conn) net.Conn) {
		for {
			c, err := ln.Accept()
			if err == nil {
				c = wrap(c)
			}
			select {
			case p.accepted <- accepted{c, err}:
			case <-p.done:
				if c != nil {
					_ = c.Close() // nobody will serve it
				}
				return
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
		}
	}
	p.wg.Go(func() { from(admins, func(c net.Conn) net.Conn { return c }) })
	p.wg.Go(func() { from(readers, func(c net.Conn) net.Conn { return readerConn{c} }) })
	return p
}

func (p *pair) Accept() (net.Conn, error) {
	select {
	case a := <-p.accepted:
		return a.conn, a.err
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pair) Close() error {
	p.once.Do(func() { close(p.done) })
	err := errors.Join(p.Listener.Close(), p.readers.Close())
	p.wg.Wait()
	return err
}

// consumeFirst dials once and hangs up. go-winio holds the name by a first instance of the pipe that nobody
// is to be connected to; Windows 7 and Wine connect the first client to it all the same, which then waits for
// ever (github.com/microsoft/go-winio issues 173 and 313). Elsewhere the dial finds no free instance, and the
// wait for one is short.
func consumeFirst(addr string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if c, err := winio.DialPipeContext(ctx, addr); err == nil {
		_ = c.Close() // nobody hears of it
	}
}

// lost is false and limit does nothing: nobody can remove a pipe.
func lost(net.Listener) bool            { return false }
func limit(net.Listener, time.Duration) {}

// dial looks for the pipe of a launcher that is an administrator's, and then for that of one that is not: anybody can
// make the latter, so an administrator does not dial it.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := dialName(ctx, pipe.Protected(addr))
	if errors.Is(err, fs.ErrNotExist) && !pipe.Administrator() {
		return dialName(ctx, addr)
	}
	return c, err
}

// dialName takes the readers' pipe if the administrators' is closed to us.
func dialName(ctx context.Context, addr string) (net.Conn, error) {
	c, err := winio.DialPipeContext(ctx, addr)
	if !errors.Is(err, fs.ErrPermission) {
		return c, err
	}
	if c, rerr := winio.DialPipeAccess(ctx, addr+readersSuffix, readersAccess); rerr == nil {
		return c, nil
	}
	return nil, err
}

// peer needs no look at the client: each pipe's descriptor has let in whom it is for.
func peer(c net.Conn) (caller, error) {
	if _, reader := c.(readerConn); reader {
		return caller{name: "a member of control.read_group"}, nil
	}
	return caller{name: "administrator", admin: true}, nil
}
