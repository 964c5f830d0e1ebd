//go:build linux || windows

package payload

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
)

// client is one connection to the public socket.
type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dialClient(t *testing.T, addr net.Addr) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) say(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

// answer reads an answer and reports whether it ends the connection.
func (c *client) answer() (body string, closes bool) {
	c.t.Helper()
	resp, body, _, err := roundTrip(c, c.r, "")
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	return body, resp.Close
}

func (c *client) line() string {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("no line: %v", err)
	}
	return line
}

// end waits for the server to end the connection.
func (c *client) end() {
	c.t.Helper()
	if b, err := io.ReadAll(c.r); errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("the connection has not ended; got %q", b)
	}
}

func serving(t *testing.T) (net.Addr, *proc) {
	t.Helper()
	public := listenTCP(t)
	p := newLauncher(t).start("serve", public)
	p.ready()
	p.accept()
	return public.Addr(), p
}

func (p *proc) endsWell(cut uint64) {
	p.t.Helper()
	if err := p.ended(); err != nil {
		p.t.Errorf("it ended with %v", err)
	}
	p.until("the last counters", func() bool { return p.stats.Cut == cut })
}

var long = wire.Grace{Deadline: time.Minute, Idle: time.Minute, Stream: time.Minute}

// http.Server.Shutdown closes such a connection without an answer (golang/go#75591).
func TestDrainAnswersLateFirstRequest(t *testing.T) {
	addr, p := serving(t)
	c := dialClient(t, addr)
	p.until("the connection is open", func() bool { return p.stats.Open == 1 })
	p.drain(long)
	select {
	case <-p.gone:
	case <-time.After(200 * time.Millisecond): // well into the drain, whatever it does first
	}
	c.say(get)
	if body, closes := c.answer(); body != fmt.Sprint(p.cmd.Process.Pid) || !closes {
		t.Errorf("got %q, closes %v", body, closes)
	}
	p.endsWell(0)
}

func TestDrainFinishesWhatIsInside(t *testing.T) {
	addr, p := serving(t)
	c := dialClient(t, addr)
	c.say(head)
	p.until("the request is inside", func() bool { return p.stats.Active == 1 })
	p.drain(long)
	c.say(body)
	if _, closes := c.answer(); !closes {
		t.Error("the client is not sent elsewhere")
	}
	p.endsWell(0)
}

func TestDrainLeavesIdleTheirGrace(t *testing.T) {
	addr, p := serving(t)
	quiet, busy := dialClient(t, addr), dialClient(t, addr)
	for _, c := range []*client{quiet, busy} {
		c.say(get)
		c.answer()
	}
	p.until("both are idle", func() bool { return p.stats.Idle == 2 })
	begin := time.Now()
	p.drain(wire.Grace{Deadline: time.Minute, Idle: 4 * time.Second, Stream: time.Minute})
	busy.say(get)
	if _, closes := busy.answer(); !closes {
		t.Error("a kept connection is not ended by its next answer")
	}
	quiet.end()
	if d := time.Since(begin); d < 4*time.Second {
		t.Errorf("the idle connection was ended after %v, before its grace", d)
	}
	p.endsWell(0)
}

func TestDrainTellsStreams(t *testing.T) {
	addr, p := serving(t)
	echo, events := dialClient(t, addr), dialClient(t, addr)
	echo.upgrade("")
	events.say("GET /events HTTP/1.1\r\nHost: test\r\n\r\n")
	p.until("both are streams", func() bool { return p.stats.Streams == 2 })
	p.drain(wire.Grace{Deadline: time.Minute, Idle: 100 * time.Millisecond, Stream: time.Minute})
	if line := echo.line(); line != "bye\n" {
		t.Errorf("the upgraded stream got %q", line)
	}
	rest, err := io.ReadAll(events.r)
	if err != nil || !strings.Contains(string(rest), "bye\n") {
		t.Errorf("the events got %q, %v", rest, err)
	}
	p.endsWell(0)
}

func (c *client) upgrade(query string) {
	c.t.Helper()
	c.say("GET /echo" + query + " HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	for c.line() != "\r\n" {
	}
}

func TestDrainDeadlines(t *testing.T) {
	addr, p := serving(t)
	slow, stream, fresh := dialClient(t, addr), dialClient(t, addr), dialClient(t, addr)
	slow.say("GET /slow?ms=60000 HTTP/1.1\r\nHost: test\r\n\r\n")
	stream.upgrade("?stubborn")
	p.until("all are open", func() bool { return p.stats.Active == 2 && p.stats.Streams == 1 })
	begin := time.Now()
	p.drain(wire.Grace{Deadline: 300 * time.Millisecond, Idle: time.Second, Stream: 4 * time.Second})
	slow.end()
	fresh.end()
	stream.say("still there\n") // streams have a deadline of their own
	if line := stream.line(); line != "still there\n" {
		t.Errorf("the stream got %q", line)
	}
	stream.end()
	if d := time.Since(begin); d < 4*time.Second {
		t.Errorf("the stream was cut after %v, before its deadline", d)
	}
	p.endsWell(2) // the slow request and the stream; nothing was inside the fresh one
}

func TestSecondAcceptIsRefusedWhileDraining(t *testing.T) {
	addr, p := serving(t)
	c := dialClient(t, addr)
	c.say(head)
	p.until("the request is inside", func() bool { return p.stats.Active == 1 })
	p.drain(long)
	if err := p.try(wire.Message{Kind: wire.Accept}); err == nil {
		t.Error("a draining process accepts again")
	}
	c.say(body)
	c.answer()
	p.endsWell(0)
}

func TestCounters(t *testing.T) {
	addr, p := serving(t)
	for _, path := range []string{"/", "/status?code=404", "/status?code=503", "/status?code=500", "/big"} {
		ask(t, addr, path)
	}
	c := dialClient(t, addr)
	c.say("GET /panic HTTP/1.1\r\nHost: test\r\n\r\n")
	c.end()
	want := wire.Stats{Requests: 6, Errors4xx: 1, Errors5xx: 3}
	p.until("the counters are right", func() bool { return p.stats == want })
}

// A listener of the program's own may give connections that are no pointers: they are counted and drained all the same.
func TestDrainOfConnectionsByValue(t *testing.T) {
	public := listenTCP(t)
	p := newLauncher(t).start("values", public)
	p.ready()
	p.accept()
	c := dialClient(t, public.Addr())
	c.say(get)
	c.answer()
	p.until("the connection is counted", func() bool { return p.stats.Open == 1 })
	p.drain(wire.Grace{Deadline: patience, Idle: time.Millisecond})
	c.end()
	if err := p.ended(); err != nil {
		t.Error(err)
	}
}
