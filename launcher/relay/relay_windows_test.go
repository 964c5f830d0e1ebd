package relay

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/windows"
)

const backlogKnown = false

func shrinkQueue(t *testing.T, _ uintptr) {
	t.Skip("a full accept queue refuses on Windows, and its length is not told")
}

func sentAll(*net.TCPConn) bool { return true }

// The public socket holds its port alone, is reachable by both families and waits in the kernel.
func TestRawSocket(t *testing.T) {
	s, err := Listen("http", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, port, _ := net.SplitHostPort(s.Addr().String())
	if _, err := Listen("again", ":"+port); !errors.Is(err, ErrInUse) {
		t.Errorf("a second Listen at the port: %v", err)
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		c, err := net.Dial("tcp", net.JoinHostPort(host, port))
		if err != nil && host == "::1" && strings.Contains(err.Error(), "10049") {
			t.Log("no IPv6 loopback here:", err)
			continue
		}
		if err != nil {
			t.Fatalf("nobody accepts yet, but a client must get through: %v", err)
		}
		c.Close()
	}
	if _, err := s.ln.Accept(); err == nil {
		t.Error("the launcher accepted on the socket of its payloads")
	}
}

// A socket that came back is the same socket: it lives on when the handle it came by is closed.
func TestAdoptHandle(t *testing.T) {
	s, err := Listen("http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	at := s.Addr().String()
	if _, err := Adopt("http", "127.0.0.1:1", s.ln); !errors.Is(err, ErrNotListener) {
		t.Errorf("adopted for another address: %v", err)
	}
	_, port, _ := net.SplitHostPort(at)
	for address, want := range map[string]bool{":" + port: true, "127.0.0.1:" + port: true, "127.0.0.1:1": false} {
		if InTheWay(s.ln, address) != want {
			t.Errorf("in the way of %s: want %v", address, want)
		}
	}
	same, err := Adopt("http", at, s.ln)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatalf("the socket is gone with its first handle: %v", err)
	}
	c.Close()
	if err := same.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", at); err == nil {
		c.Close()
		t.Error("somebody listens after the last handle is closed")
	}
}

// What is no listening socket is refused and nothing is taken over.
func TestAdoptSomethingElse(t *testing.T) {
	event, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer windows.CloseHandle(event)
	if _, err := Adopt("http", "127.0.0.1:0", lent(event)); !errors.Is(err, ErrNotListener) {
		t.Errorf("an event was adopted: %v", err)
	}
	s, err := Listen("http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := Adopt("http", c.LocalAddr().String(), c.(*net.TCPConn)); !errors.Is(err, ErrNotListener) {
		t.Errorf("a connection was adopted: %v", err)
	}
}

// lent is a handle as a syscall.Conn.
type lent windows.Handle

func (l lent) SyscallConn() (syscall.RawConn, error) { return &rawListener{handle: uintptr(l)}, nil }
