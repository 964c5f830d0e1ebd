//go:build linux

package payload

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/turnstone-go/turnstone/internal/wire"
)

// The flag belongs to the open socket: if any step of any process clears it, an accept loop somewhere
// blocks in the kernel.
func TestSharedFlagStays(t *testing.T) {
	public := listenTCP(t)
	l := newLauncher(t)
	check := func(after string) {
		t.Helper()
		if !isNonblocking(t, public) {
			t.Errorf("O_NONBLOCK of the shared listener is gone after %s", after)
		}
	}
	p := l.start("serve", public)
	p.ready()
	check("the start")
	p.accept()
	ask(t, public.Addr(), "/")
	check("un-park")
	p.park()
	check("park")
	p.accept()
	check("the second un-park")
	p.order(wire.Message{Kind: wire.Sockets})
	check("sending the sockets back")
	p.drain(wire.Grace{Deadline: time.Second})
	if err := p.ended(); err != nil {
		t.Error(err)
	}
	check("the drain")
}

// Another holder of the socket may clear the flag all the same (a program in another language).
func TestParkGetsBlockedAcceptOut(t *testing.T) {
	public := listenTCP(t)
	l := newLauncher(t)
	slow := "PAYLOAD_TEST_STATS=1h" // or the flag is healed before anything blocks
	p, peer := l.start("serve", public, slow), l.start("serve", public, slow)
	for _, p := range []*proc{p, peer} {
		p.ready()
		p.accept()
	}
	onFD(t, public, func(fd int) error { return unix.SetNonblock(fd, false) })
	for range 50 { // after its next connection each process sits in accept(2)
		ask(t, public.Addr(), "/")
	}
	p.park()
	if !isNonblocking(t, public) {
		t.Error("park has not set O_NONBLOCK again")
	}
	want := fmt.Sprint(peer.cmd.Process.Pid)
	for range 20 {
		if got := ask(t, public.Addr(), "/"); got != want {
			t.Fatalf("answered by %s, want the process that is not parked, %s", got, want)
		}
	}
}

func TestNothingIsAcceptedWhileParked(t *testing.T) {
	public := listenTCP(t)
	l := newLauncher(t)
	p := l.start("raw", public)
	p.ready()
	c, err := net.Dial("tcp", public.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond))
	if _, err := bufio.NewReader(c).ReadString('\n'); err == nil {
		t.Fatal("a parked process has accepted a connection")
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	p.accept()
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || strings.TrimSpace(line) != fmt.Sprint(p.cmd.Process.Pid) {
		t.Fatalf("the waiting connection got %q, %v", line, err)
	}
	p.drain(wire.Grace{Deadline: time.Second})
	if err := p.ended(); err != nil {
		t.Error(err)
	}
}

// A program that has all the connections it allows itself calls Accept when one of them ends. Told to accept again, as by
// a launcher that has found it, or that comes back to it, it goes on with the next one.
func TestAcceptOrderAtTheLimit(t *testing.T) {
	for _, parked := range []bool{false, true} {
		t.Run(fmt.Sprintf("parked %v", parked), func(t *testing.T) {
			public := listenTCP(t)
			p := newLauncher(t).start("limit", public)
			p.ready()
			p.accept()
			full := dialClient(t, public.Addr())
			full.say(get)
			full.answer() // it is inside, and stays
			if parked {
				p.park()
			}
			p.accept()
			full.Close()
			ask(t, public.Addr(), "/")
		})
	}
}

func TestAcceptOrderNeedsLoop(t *testing.T) {
	public := listenTCP(t)
	p := newLauncher(t).start("noloop", public)
	p.until("the listener", func() bool { return p.busy != nil })
	err := p.try(wire.Message{Kind: wire.Accept})
	if err == nil || !strings.Contains(err.Error(), "no accept loop") {
		t.Errorf("accept: %v", err)
	}
	if len(p.readys) > 0 {
		t.Error("the program is ready without an accept loop")
	}
}

func TestSocketsComeBack(t *testing.T) {
	public := listenTCP(t)
	p := newLauncher(t).start("serve", public)
	p.ready()
	p.accept()
	p.order(wire.Message{Kind: wire.Sockets})
	p.mu.Lock()
	defer p.mu.Unlock()
	if names := p.acks[p.lastID].Names; len(p.fds) != 1 || len(names) != 1 || names[0] != "http" {
		t.Fatalf("%d descriptors came back for %q", len(p.fds), names)
	}
	defer unix.Close(p.fds[0])
	if sa, err := unix.Getsockname(p.fds[0]); err != nil || sa.(*unix.SockaddrInet4).Port != public.Addr().(*net.TCPAddr).Port {
		t.Errorf("it is bound to %v, %v", sa, err)
	}
}

// In proxy mode the listener is the payload's own: park moves clients, but goes on accepting.
func TestProxyMode(t *testing.T) {
	free := listenTCP(t)
	addr := free.Addr()
	free.Close()
	p := newLauncher(t).start("serve", nil, wire.EnvAddr+"=http="+addr.String())
	p.ready()
	p.accept()
	p.park()
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	resp, _, _, err := roundTrip(c, bufio.NewReader(c), get)
	if err != nil || !resp.Close {
		t.Errorf("parked: %v, %v; want an answer with Connection: close", resp, err)
	}
	p.drain(wire.Grace{Deadline: 5 * time.Second, Idle: time.Second})
	if err := p.ended(); err != nil {
		t.Error(err)
	}
}

// A unix stream socket is shared like a TCP one, and its path outlives every payload.
func TestUnixSocket(t *testing.T) {
	l := newLauncher(t)
	path := filepath.Join(filepath.Dir(l.path), "public")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	raw, err := ln.(*net.UnixListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var s *socket
	if err := raw.Control(func(fd uintptr) {
		var dup int
		if dup, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3); err == nil {
			s, err = adoptSocket(fmt.Sprint(dup))
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{name: "public", addr: ln.Addr(), sock: s, onLoop: func() {}}
	for range 3 {
		if err := g.unpark(); err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := g.Accept(); err == nil {
				_, _ = io.WriteString(c, "here\n")
				c.Close()
			}
		}()
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || line != "here\n" {
			t.Fatalf("got %q, %v", line, err)
		}
		c.Close()
		if err := g.park(time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Accept(); err == nil {
		t.Error("a closed listener accepts")
	}
}

func TestHealthIsPrivate(t *testing.T) {
	public := listenTCP(t)
	p := newLauncher(t).start("serve", public)
	health := p.ready()
	resp, err := http.Get("http://" + health + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != fmt.Sprint(p.cmd.Process.Pid) {
		t.Errorf("health is answered by %q", b)
	}
}
