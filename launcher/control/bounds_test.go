package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/updater"
)

func TestHeaderBound(t *testing.T) {
	_, addr := serve(t, &desk{}, "")
	status, _ := raw(t, addr, "GET /v1/status HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 2*maxHeader)+"\r\n\r\n")
	if status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", status)
	}
}

// TestSlowClient: who does not finish a request in 5 seconds is cut off.
func TestSlowClient(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: takes 5 seconds")
	}
	t.Parallel()
	_, addr := serve(t, &desk{}, "")
	for _, part := range []string{"", "GET /v1/sta", "POST /v1/update HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"} {
		t.Run(fmt.Sprintf("%d bytes", len(part)), func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			c, err := dialAddress(t.Context(), addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, part)
			c.SetReadDeadline(begun.Add(30 * time.Second))
			_, err = io.Copy(io.Discard, c)
			if took := time.Since(begun); err != nil || took < slow-time.Second {
				t.Errorf("ended after %s: %v", took, err)
			}
		})
	}
}

// TestClientBound: 32 are inside; the 33rd is answered once one of them leaves.
func TestClientBound(t *testing.T) {
	_, addr := serve(t, &desk{}, "")
	var inside []net.Conn
	for range 32 {
		c, err := dialAddress(t.Context(), addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n") // kept alive after the answer
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
		inside = append(inside, c)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := NewClient(addr).Status(context.Background())
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("a 33rd client was let in: %v", err)
	case <-time.After(200 * time.Millisecond): // not proof of waiting, but a bound that is missing fails here
	}
	inside[7].Close()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// feeble fails to accept once, as for want of a descriptor or of a kernel object.
type feeble struct {
	net.Listener
	once sync.Once
}

func (l *feeble) Accept() (c net.Conn, err error) {
	l.once.Do(func() { err = errors.New("insufficient system resources exist") })
	if err != nil {
		return nil, err
	}
	return l.Listener.Accept()
}

// TestFailedAccept: what keeps an operator out for a moment ends neither his socket nor, with it, the service.
func TestFailedAccept(t *testing.T) {
	_, addr := serveOn(t, &desk{}, "", func(ln net.Listener) net.Listener { return &feeble{Listener: ln} })
	if _, err := NewClient(addr).Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFollowerBound(t *testing.T) {
	_, addr := serve(t, &desk{}, "")
	c := NewClient(addr)
	for range 24 {
		ev, err := c.Events(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer ev.Close()
	}
	if _, err := c.Events(t.Context()); err == nil || !strings.Contains(err.Error(), "24 clients follow already") {
		t.Errorf("err = %v", err)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("followers keep an operator out: %v", err)
	}
}

// TestSlowFollower: one that does not read is cut off, and publishing never waits for it.
func TestSlowFollower(t *testing.T) {
	var h hub
	lazy, keen := h.follow(2), h.follow(2)
	if h.follow(2) != nil {
		t.Error("a third follower was taken")
	}
	for n := range backlog + 1 {
		h.publish(updater.Event{Done: int64(n)})
		if ev := <-keen; ev.Done != int64(n) {
			t.Fatalf("%+v", ev)
		}
	}
	n := 0
	for range lazy {
		n++
	}
	if n != backlog {
		t.Errorf("%d events before the cut", n)
	}
	h.leave(lazy) // again, by its own request: no panic
	h.close()
	if _, open := <-keen; open {
		t.Error("still open")
	}
	if h.follow(2) != nil {
		t.Error("a follower after the end")
	}
}
