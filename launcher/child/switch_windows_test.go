package child

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/internal/wire"
	"github.com/turnstone-go/turnstone/launcher/relay"
)

// version starts a service as that version on the public socket.
func version(t *testing.T, h *Host, number string, sock *relay.Socket) *Process {
	t.Helper()
	s := program(t, SDK, "service")
	s.Number = number
	s.Listeners = []Listener{{Name: sock.Name(), Conn: sock.RawConn()}}
	p := start(t, h, s)
	if health, err := p.Ready(soon(t)); err != nil || health == "" {
		t.Fatalf("%s: ready %q, %v\n%s", number, health, err, p.Tail(2000))
	}
	return p
}

func public(t *testing.T) *relay.Socket {
	t.Helper()
	sock, err := relay.Listen("http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sock.Close() })
	return sock
}

func must(t *testing.T, order func(context.Context) error) {
	t.Helper()
	if err := order(soon(t)); err != nil {
		t.Fatal(err)
	}
}

func busy(sock *relay.Socket) *load.Load {
	return load.Start(load.Options{Address: sock.Addr().String(), Workers: map[load.Class]int{load.KeepAlive: 8, load.Fresh: 8}, Pause: 10 * time.Millisecond})
}

// flows waits for that many more answers, all losses aside.
func flows(t *testing.T, l *load.Load, n int) {
	t.Helper()
	from := l.Report().Requests
	for end := time.Now().Add(patience); l.Report().Requests < from+n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d answers in %s, wanted %d: %+v", l.Report().Requests-from, patience, n, l.Report())
		}
	}
}

// alone checks that p gets every new connection.
func alone(t *testing.T, sock *relay.Socket, number string) {
	t.Helper()
	for range 20 {
		if got := whoAnswers(t, sock.Addr().String()); got != number {
			t.Fatalf("%s answered, not %s", got, number)
		}
	}
}

func whoAnswers(t *testing.T, addr string) string {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := c.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct{ Version string }
	decode(t, resp.Body, &got)
	return got.Version
}

// A switch, the way back, and the switch for good, with two processes on one socket: nothing is lost.
func TestHandoff(t *testing.T) {
	h, sock := open(t, options(t)), public(t)
	one := version(t, h, "1.0.0", sock)
	must(t, one.Accept)
	l := busy(sock)
	defer l.Stop()
	flows(t, l, 100)
	two := version(t, h, "1.1.0", sock)
	for range 3 {
		must(t, two.Accept) // both accept
		must(t, one.Park)
		alone(t, sock, "1.1.0")
		flows(t, l, 100)
		must(t, one.Accept) // and back
		must(t, two.Park)
		alone(t, sock, "1.0.0")
		flows(t, l, 100)
	}
	must(t, two.Accept)
	must(t, one.Park)
	must(t, func(ctx context.Context) error {
		return one.Drain(ctx, wire.Grace{Deadline: 20 * time.Second, Idle: 8 * time.Second, Stream: 8 * time.Second})
	})
	ended(t, one)
	if exit := one.Exit(); exit.Code != 0 {
		t.Errorf("after the drain: %s\n%s", exit, one.Tail(2000))
	}
	flows(t, l, 100)
	if r := l.Stop(); r.Lost() {
		t.Errorf("lost requests: %+v", r)
	} else {
		t.Logf("handoff: %d requests in 7 switches, none lost", r.Requests)
	}
}

// Both versions accept at once for a while: every connection goes to one of them, and to one only.
func TestBothAccept(t *testing.T) {
	h, sock := open(t, options(t)), public(t)
	one, two := version(t, h, "1.0.0", sock), version(t, h, "1.1.0", sock)
	must(t, one.Accept)
	must(t, two.Accept)
	seen := make(map[string]int)
	for range 200 {
		seen[whoAnswers(t, sock.Addr().String())]++
	}
	if seen["1.0.0"]+seen["1.1.0"] != 200 {
		t.Errorf("answers by %v", seen)
	}
	t.Logf("answers by %v", seen)
}

// Connections that come while nobody accepts wait in the kernel.
func TestNobodyAccepts(t *testing.T) {
	h, sock := open(t, options(t)), public(t)
	one := version(t, h, "1.0.0", sock)
	must(t, one.Accept)
	must(t, one.Park)
	const clients = 50
	answers := make(chan error, clients)
	for range clients {
		c, err := net.Dial("tcp", sock.Addr().String())
		if err != nil {
			t.Fatalf("refused while parked: %v", err)
		}
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(patience))
			answers <- oneRequest(c)
		}()
	}
	must(t, one.Accept)
	for range clients {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
}

// The version that accepts is killed with accepts pending; the parked one goes on and nobody is refused.
func TestKilledWhileAccepting(t *testing.T) {
	h, sock := open(t, options(t)), public(t)
	one, two := version(t, h, "1.0.0", sock), version(t, h, "1.1.0", sock)
	must(t, two.Accept)
	alone(t, sock, "1.1.0")
	l := busy(sock)
	defer l.Stop()
	flows(t, l, 50)
	two.Kill()
	l.Crashed(time.Now())
	ended(t, two)
	must(t, one.Accept)
	flows(t, l, 50)
	alone(t, sock, "1.0.0")
	if r := l.Stop(); r.Refused > 0 {
		t.Errorf("refused connections: %+v", r)
	}
}

// The launcher dies and comes back: the service goes on, and the socket comes back from it.
func TestAdoptionGivesTheSocketBack(t *testing.T) {
	o := options(t)
	first, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	sock := public(t)
	s := program(t, SDK, "service")
	s.Listeners = []Listener{{Name: "http", Conn: sock.RawConn()}}
	p, err := first.Start(soon(t), s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Ready(soon(t)); err != nil {
		t.Fatalf("%v\n%s", err, p.Tail(2000))
	}
	must(t, p.Accept)
	l := busy(sock)
	defer l.Stop()
	flows(t, l, 50)
	at := sock.Addr().String()
	first.Close()
	if err := sock.Close(); err != nil {
		t.Fatal(err)
	}
	flows(t, l, 50) // without a launcher

	next := open(t, o)
	ps, err := next.Adopt(soon(t))
	if err != nil || len(ps) != 1 {
		t.Fatalf("adopted %v, %v", ps, err)
	}
	t.Cleanup(func() { ps[0].Stop(context.Background(), 0) })
	files, err := ps[0].Sockets(soon(t))
	if err != nil || files["http"] == nil {
		t.Fatalf("sockets %v, %v", files, err)
	}
	back, err := relay.Adopt("http", at, files["http"])
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	_ = files["http"].Close() // a duplicate lives on
	two := version(t, next, "1.1.0", back)
	must(t, two.Accept)
	must(t, ps[0].Park)
	alone(t, back, "1.1.0")
	must(t, func(ctx context.Context) error {
		return ps[0].Drain(ctx, wire.Grace{Deadline: 20 * time.Second, Idle: 8 * time.Second})
	})
	ended(t, ps[0])
	flows(t, l, 50)
	if r := l.Stop(); r.Lost() {
		t.Errorf("lost requests: %+v", r)
	}
}

// The same switch through the proxy: private addresses, no inherited socket.
func TestProxy(t *testing.T) {
	h, sock := open(t, options(t)), public(t)
	p := relay.NewProxy(sock, relay.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	defer func() { cancel(); <-done }()
	private := func(number string) (*Process, *relay.Target) {
		s := program(t, SDK, "service")
		addr := freePort(t)
		s.Number, s.Addr = number, map[string]string{"http": addr}
		proc := start(t, h, s)
		if _, err := proc.Ready(soon(t)); err != nil {
			t.Fatalf("%v\n%s", err, proc.Tail(2000))
		}
		if err := proc.OwnsPort(addr); err != nil {
			t.Fatal(err)
		}
		must(t, proc.Accept)
		return proc, p.NewTarget(number, addr)
	}
	one, first := private("1.0.0")
	p.Switch(first)
	l := busy(sock)
	defer l.Stop()
	flows(t, l, 100)
	two, second := private("1.1.0")
	for range 3 {
		p.Switch(second)
		must(t, two.Accept)
		must(t, one.Park)
		alone(t, sock, "1.1.0")
		flows(t, l, 100)
		p.Switch(first)
		must(t, one.Accept)
		must(t, two.Park)
		alone(t, sock, "1.0.0")
		flows(t, l, 100)
	}
	p.Switch(second)
	must(t, two.Accept)
	must(t, one.Park)
	if err := first.Wait(soon(t)); err != nil {
		t.Fatalf("%v: %d connections stay", err, first.Open())
	}
	must(t, func(ctx context.Context) error {
		return one.Drain(ctx, wire.Grace{Deadline: 20 * time.Second, Idle: 8 * time.Second})
	})
	ended(t, one)
	flows(t, l, 100)
	if r := l.Stop(); r.Lost() {
		t.Errorf("lost requests: %+v", r)
	} else {
		t.Logf("proxy: %d requests in 7 switches, none lost", r.Requests)
	}
}

// A program that does not use the SDK takes no orders.
func TestPlainTakesNoOrders(t *testing.T) {
	h := open(t, options(t))
	p := start(t, h, program(t, Plain, "silent"))
	if err := p.Accept(soon(t)); !errors.Is(err, ErrNoWire) {
		t.Errorf("accept: %v", err)
	}
}

func decode(t *testing.T, r io.Reader, into any) {
	t.Helper()
	if err := json.NewDecoder(r).Decode(into); err != nil {
		t.Fatal(err)
	}
}

func oneRequest(c net.Conn) error {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
