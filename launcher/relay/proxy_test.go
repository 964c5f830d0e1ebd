package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The guarantee of the package, as its user relies on it: Switch, Wait, stop the old process at once. If one
// connection could be picked for the old version after Switch and before it was counted, some client would
// meet a closed port or a reset.
func TestSwitchWaitStopLosesNothing(t *testing.T) {
	const clients, switches = 12, 60
	p := newProxy(t, Options{})
	current := newBackend(t, "0", nil)
	target := p.NewTarget("0", current.addr())
	p.Switch(target)

	var wg sync.WaitGroup
	var asked atomic.Int64
	ended := make(chan struct{})
	for range clients {
		wg.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				c, err := net.Dial("tcp", p.socket.Addr().String())
				if err == nil {
					_, err = ask(c)
					c.Close()
				}
				if err != nil {
					t.Errorf("a client lost its connection: %v", err)
					return
				}
				asked.Add(1)
			}
		})
	}
	for i := range switches {
		before := asked.Load()
		next := newBackend(t, fmt.Sprint((i+1)%10), nil)
		nextTarget := p.NewTarget(next.name, next.addr())
		if old := p.Switch(nextTarget); old != target {
			t.Fatalf("Switch returned %v, not what it displaced", old)
		}
		mustWait(t, target)
		total, accepted := target.Total(), current.accepted.Load()
		current.stop()
		if now := target.Total(); now != total || target.Open() != 0 {
			t.Errorf("switch %d: the old version got %d more connections after Wait", i, now-total)
		}
		if uint64(accepted) != total {
			t.Errorf("switch %d: %d counted, %d accepted", i, total, accepted)
		}
		current, target = next, nextTarget
		until(t, "clients go on", func() bool { return asked.Load() > before+clients || t.Failed() })
	}
	close(ended)
	wg.Wait()
	if n := p.Counts(); n.Failed != 0 || n.Moved != 0 || n.Cut != 0 || n.Accepted < uint64(asked.Load()) {
		t.Errorf("counts: %+v, %d answers", n, asked.Load())
	}
}

func TestWaitReturnsOnlyAtZero(t *testing.T) {
	p := newProxy(t, Options{})
	a := newBackend(t, "a", nil)
	target := p.NewTarget("a", a.addr())
	p.Switch(target)
	c1, c2 := dial(t, p), dial(t, p)
	mustAsk(t, c1, "a")
	mustAsk(t, c2, "a")
	p.Switch(nil)

	told := errors.New("told to stop waiting")
	ctx, cancel := context.WithCancelCause(context.Background())
	waited := make(chan error, 1)
	go func() { waited <- target.Wait(ctx) }()
	c1.Close()
	until(t, "one left", func() bool { return target.Open() == 1 })
	select {
	case err := <-waited:
		t.Fatalf("Wait returned %v with a connection open", err)
	default:
	}
	mustAsk(t, c2, "a") // it is left alone
	cancel(told)
	if err := <-waited; !errors.Is(err, told) {
		t.Errorf("Wait returned %v, not the cause", err)
	}
	c2.Close()
	mustWait(t, target)
}

// Between the end of a version and its notice a client waits for the next one, which it gets. Nowhere is no version
// that could have ended: what is sent there is reset at once.
func TestDialFailureWaitsForTheNextTarget(t *testing.T) {
	p := newProxy(t, Options{Notice: time.Hour})
	dead, next := newBackend(t, "d", nil), newBackend(t, "n", nil)
	dead.stop()
	deadTarget := p.NewTarget("d", dead.addr())
	p.Switch(deadTarget)
	c := dial(t, p)
	until(t, "refused", func() bool { return deadTarget.Failed() == 1 && deadTarget.Open() == 0 })
	p.Switch(nil) // noticed, and not started again yet
	p.Switch(p.NewTarget("n", next.addr()))
	mustAsk(t, c, "n")
	p.Switch(p.NewTarget("nobody", Nowhere))
	if c, err := net.Dial("tcp", p.socket.Addr().String()); err == nil { // else the reset was faster
		c.SetDeadline(time.Now().Add(patience))
		if _, err = c.Read(make([]byte, 1)); !wasResetFor(err) {
			t.Errorf("sent nowhere the client saw %v, not a reset", err)
		}
		c.Close()
	}
	if n := p.Counts(); n.Failed > 1 || n.Moved != 1 {
		t.Errorf("counts: %+v", n)
	}
}

func TestDialFailureFallsBack(t *testing.T) {
	p := newProxy(t, Options{Notice: time.Millisecond})
	dead, alive := newBackend(t, "d", nil), newBackend(t, "a", nil)
	dead.stop()
	deadTarget, aliveTarget := p.NewTarget("d", dead.addr()), p.NewTarget("a", alive.addr())
	p.Switch(deadTarget)
	p.SetFallback(aliveTarget)
	mustAsk(t, dial(t, p), "a")
	if deadTarget.Open() != 0 || deadTarget.Failed() != 1 || aliveTarget.Open() != 1 {
		t.Errorf("dead %d open %d failed, alive %d open", deadTarget.Open(), deadTarget.Failed(), aliveTarget.Open())
	}
	if old := p.SetFallback(nil); old != aliveTarget {
		t.Errorf("SetFallback returned %v", old)
	}
	c, err := net.Dial("tcp", p.socket.Addr().String())
	if err == nil { // else the reset was faster than our side of the dial
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	if !wasResetFor(err) {
		t.Errorf("with no version left the client saw %v, not a reset", err)
	}
	until(t, "counted", func() bool { return p.Counts().Failed == 1 })
	if n := p.Counts(); n.Moved != 1 || n.Trouble == "" {
		t.Errorf("counts: %+v", n)
	}
}

// A connection whose version died goes to the one that has replaced it, and while connections are held it
// waits for that one without being counted at the dead one.
func TestDialFailureWaitsOutAHold(t *testing.T) {
	p := newProxy(t, Options{})
	dead, next := newBackend(t, "d", nil), newBackend(t, "n", nil)
	dead.stop()
	deadTarget := p.NewTarget("d", dead.addr())
	// The hold must begin between pick and dial: pick by hand.
	p.Switch(deadTarget)
	x, client := testPair(t)
	picked, err := p.pick(x)
	if err != nil || picked != deadTarget {
		t.Fatalf("picked %v, %v", picked, err)
	}
	p.Hold()
	done := make(chan error, 1)
	go func() { done <- p.forward(x, picked, nil) }()
	mustWait(t, deadTarget)
	p.Switch(p.NewTarget("n", next.addr()))
	until(t, "waiting", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.waiting == 1 })
	if w := p.Release(); w.Held != 1 {
		t.Errorf("released %+v", w)
	}
	mustAsk(t, client, "n")
	client.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// testPair is a connection in hand of the proxy and its client's end.
func testPair(t *testing.T) (*pair, *net.TCPConn) {
	client, server := tcpPair(t)
	x := &pair{client: server}
	x.ctx, x.cancel = context.WithCancel(context.Background())
	t.Cleanup(x.cancel)
	return x, client
}

func tcpPair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{c, s} {
		c.SetDeadline(time.Now().Add(patience))
		t.Cleanup(func() { c.Close() })
	}
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func TestHoldKeepsEveryoneWaiting(t *testing.T) {
	const crowd = 20
	p := newProxy(t, Options{})
	a, b := newBackend(t, "a", nil), newBackend(t, "b", nil)
	p.Switch(p.NewTarget("a", a.addr()))
	mustAsk(t, dial(t, p), "a")

	p.Hold()
	p.Hold() // once is enough
	begun := time.Now()
	var crowded []net.Conn
	for range crowd {
		crowded = append(crowded, dial(t, p)) // none is refused
	}
	until(t, "one in hand", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.waiting == 1 })
	p.Switch(p.NewTarget("b", b.addr()))
	if got := a.accepted.Load() + b.accepted.Load(); got != 1 {
		t.Errorf("%d connections reached a version during the hold", got-1)
	}
	w := p.Release()
	// Only Linux tells how many wait in the kernel.
	if want := 1 + p.socket.Backlog(); w.Held != crowd && (backlogKnown || w.Held < want) {
		t.Errorf("held %d of %d", w.Held, crowd)
	}
	if w.Longest <= 0 || w.Longest > time.Since(begun) {
		t.Errorf("longest wait %s", w.Longest)
	}
	for _, c := range crowded {
		mustAsk(t, c, "b")
	}
	if w := p.Release(); w != (Waited{}) {
		t.Errorf("a second release cost %+v", w)
	}
}

func TestConnectionsWaitForTheFirstVersion(t *testing.T) {
	p := newProxy(t, Options{})
	c := dial(t, p)
	a := newBackend(t, "a", nil)
	if old := p.Switch(p.NewTarget("a", a.addr())); old != nil {
		t.Errorf("displaced %v", old)
	}
	mustAsk(t, c, "a")
}

func TestCutResetsAndCounts(t *testing.T) {
	p := newProxy(t, Options{})
	a := newBackend(t, "a", nil)
	target := p.NewTarget("a", a.addr())
	p.Switch(target)
	var open []net.Conn
	for range 3 {
		c := dial(t, p)
		mustAsk(t, c, "a")
		open = append(open, c)
	}
	b := newBackend(t, "b", nil)
	p.Switch(p.NewTarget("b", b.addr()))
	kept := dial(t, p)
	mustAsk(t, kept, "b")
	if n := target.Cut(); n != 3 {
		t.Errorf("cut %d", n)
	}
	mustWait(t, target)
	for _, c := range open {
		if _, err := c.Read(make([]byte, 1)); !wasResetFor(err) {
			t.Errorf("a cut connection saw %v, not a reset", err)
		}
	}
	mustAsk(t, kept, "b")
	until(t, "counted", func() bool { return p.Counts().Cut == 3 })
	if n := p.Counts(); n.Open != 1 || n.Accepted != 4 {
		t.Errorf("counts: %+v", n)
	}
	if n := target.Cut(); n != 0 {
		t.Errorf("cut %d of nothing", n)
	}
}

// Cut reaches a connection that is still being dialled, and it is not taken for the version's failure.
func TestCutEndsADial(t *testing.T) {
	p := newProxy(t, Options{DialTimeout: time.Hour})
	target := p.NewTarget("full", fullListener(t))
	p.Switch(target)
	p.SetFallback(p.NewTarget("never", "127.0.0.1:1"))
	c := dial(t, p)
	until(t, "picked", func() bool { return target.Open() == 1 })
	target.Cut()
	mustWait(t, target)
	if _, err := c.Read(make([]byte, 1)); !wasResetFor(err) {
		t.Errorf("the client saw %v", err)
	}
	if target.Failed() != 0 {
		t.Error("a cut dial counted as the version's failure")
	}
}

// fullListener returns the address of a port that neither accepts nor refuses: its queue is full.
func fullListener(t *testing.T) string {
	t.Helper()
	s, err := Listen("full", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	s.RawConn().Control(func(fd uintptr) { shrinkQueue(t, fd) })
	for range 2 { // a queue of 0 holds one; the second is there to be sure
		go func() {
			if c, err := net.DialTimeout("tcp", s.Addr().String(), patience); err == nil {
				t.Cleanup(func() { c.Close() })
			}
		}()
	}
	until(t, "queue is full", func() bool { return s.Backlog() == 1 })
	return s.Addr().String()
}

func TestMaxOpenLeavesTheRestInTheKernel(t *testing.T) {
	p := newProxy(t, Options{MaxOpen: 1})
	a := newBackend(t, "a", nil)
	p.Switch(p.NewTarget("a", a.addr()))
	first, second := dial(t, p), dial(t, p)
	mustAsk(t, first, "a")
	if n := p.Counts(); n.Accepted != 1 {
		t.Errorf("accepted %d", n.Accepted)
	}
	first.Close()
	mustAsk(t, second, "a")
}

func TestRunEndsCleanAndAgain(t *testing.T) {
	s, err := Listen("http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	p := NewProxy(s, Options{})
	a := newBackend(t, "a", nil)
	p.Switch(p.NewTarget("a", a.addr()))
	stop := run(t, p)
	c := dial(t, p)
	mustAsk(t, c, "a")
	stop() // checks the goroutines
	if _, err := c.Read(make([]byte, 1)); !wasResetFor(err) {
		t.Errorf("what was open at the end saw %v", err)
	}
	if n := p.Counts(); n.Cut != 1 || n.Open != 0 {
		t.Errorf("counts: %+v", n)
	}

	between := dial(t, p) // nobody accepts now; it waits
	run(t, p)
	mustAsk(t, between, "a")

	p.Hold()
	dial(t, p)
	until(t, "in hand", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.waiting == 1 }) // Run's end comes now
}

func TestRunReportsALostSocket(t *testing.T) {
	s, err := Listen("http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if err := NewProxy(s, Options{}).Run(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run returned %v", err)
	}
}
