package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience bounds what must happen; it is never waited out by a passing test.
const patience = 20 * time.Second

// backend is a version: it answers each connection with its name when it has read one byte.
type backend struct {
	name     string
	ln       net.Listener
	accepted atomic.Int64
	wg       sync.WaitGroup
	open     sync.Map // of net.Conn
}

// newBackend serves connections by serve, or by answering the name.
func newBackend(t testing.TB, name string, serve func(net.Conn)) *backend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startBackend(t, name, ln, serve)
}

func startBackend(t testing.TB, name string, ln net.Listener, serve func(net.Conn)) *backend {
	b := &backend{name: name, ln: ln}
	if serve == nil {
		serve = b.greet
	}
	b.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b.accepted.Add(1)
			b.open.Store(c, nil)
			b.wg.Go(func() {
				defer b.open.Delete(c)
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(b.stop)
	return b
}

func (b *backend) greet(c net.Conn) {
	one := make([]byte, 1)
	for {
		if _, err := io.ReadFull(c, one); err != nil {
			return
		}
		if _, err := io.WriteString(c, b.name); err != nil {
			return
		}
	}
}

func (b *backend) addr() string { return b.ln.Addr().String() }

// stop ends the version as a stopped process does: what it has open is closed, what is in its accept
// queue is reset.
func (b *backend) stop() {
	b.ln.Close()
	b.open.Range(func(c, _ any) bool {
		c.(net.Conn).Close()
		return true
	})
	b.wg.Wait()
}

// newProxy returns a running proxy; Run's end is awaited at cleanup, before the backends are stopped.
func newProxy(t testing.TB, o Options) *Proxy {
	t.Helper()
	s, err := Listen("http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	p := NewProxy(s, o)
	run(t, p)
	return p
}

// run runs p until the returned function is called, which returns after Run did.
func run(t testing.TB, p *Proxy) (stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	errStopped := errors.New("stopped by the test")
	stop = sync.OnceFunc(func() {
		cancel(errStopped)
		select {
		case err := <-done:
			if !errors.Is(err, errStopped) {
				t.Errorf("Run returned %v, not the cause of its context", err)
			}
		case <-time.After(patience):
			t.Errorf("Run did not return:\n%s", stacks())
		}
		until(t, "free of the proxy's goroutines", func() bool { // one that has reported its end may still be on its last line
			s := stacks()
			return !strings.Contains(s, "relay.(*Proxy)") && !strings.Contains(s, "relay.pump") && !strings.Contains(s, "relay.join")
		})
	})
	t.Cleanup(stop)
	return stop
}

func stacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

func dial(t testing.TB, p *Proxy) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.socket.Addr().String())
	if err != nil {
		t.Fatalf("a public dial was refused: %v", err)
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// ask sends one byte and returns the one-letter name of the version that answered.
func ask(c net.Conn) (string, error) {
	if _, err := c.Write([]byte{'?'}); err != nil {
		return "", err
	}
	name := make([]byte, 1)
	_, err := io.ReadFull(c, name)
	return string(name), err
}

func mustAsk(t testing.TB, c net.Conn, want string) {
	t.Helper()
	got, err := ask(c)
	if err != nil || got != want {
		t.Fatalf("asked for a name: got %q, %v; want %q", got, err, want)
	}
}

func mustWait(t testing.TB, target *Target) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := target.Wait(ctx); err != nil {
		t.Fatalf("Wait: %v with %d open", err, target.Open())
	}
}

// until waits for a level that another goroutine reaches and that nothing signals.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("still not: %s\n%s", what, stacks())
		}
	}
}

// wasResetFor tells whether err is a reset, which Winsock numbers by itself (WSAECONNRESET is 10054).
func wasResetFor(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.Errno(10054))
}
