package child

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nonblocking reads O_NONBLOCK of the open socket, which all processes that hold it share.
func nonblocking(t *testing.T, conn syscall.RawConn) bool {
	flags := 0
	if err := conn.Control(func(fd uintptr) { flags, _ = unix.FcntlInt(fd, unix.F_GETFL, 0) }); err != nil {
		t.Fatal(err)
	}
	return flags&unix.O_NONBLOCK != 0
}

func listener(t *testing.T) (*net.TCPListener, Listener) {
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	conn, err := ln.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return ln, Listener{Name: "http", Conn: conn}
}

func TestListenerStaysNonBlocking(t *testing.T) {
	h := open(t, options(t))
	_, l := listener(t)
	s := program(t, SDK, "sdk", "")
	s.Listeners = []Listener{l}
	p := start(t, h, s)
	if !nonblocking(t, l.Conn) {
		t.Fatal("the start made the shared listener blocking")
	}
	ready(t, p)
	files, err := p.Sockets(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	f, ok := files["http"].(*os.File)
	if !ok {
		t.Fatalf("sockets %v", files)
	}
	back, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	f.Close()
	if !nonblocking(t, l.Conn) {
		t.Error("taking the listener back made it blocking")
	}
	if back.Addr().String() != mustAddr(t, l.Conn) {
		t.Errorf("got %v back", back.Addr())
	}
}

func mustAddr(t *testing.T, conn syscall.RawConn) string {
	var addr string
	err := conn.Control(func(fd uintptr) {
		if sa, err := unix.Getsockname(int(fd)); err == nil {
			in := sa.(*unix.SockaddrInet4)
			addr = fmt.Sprintf("127.0.0.1:%d", in.Port)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func TestActivation(t *testing.T) {
	h := open(t, options(t))
	ln, l := listener(t)
	s := program(t, Activation, "listen", "")
	s.Listeners = []Listener{l}
	p := start(t, h, s)
	c, err := net.DialTimeout("tcp", ln.Addr().String(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	got, _ := io.ReadAll(c)
	if string(got) != "http \n" {
		t.Errorf("answer %q\n%s", got, p.Tail(1000))
	}
	if !nonblocking(t, l.Conn) {
		t.Error("the shared listener is blocking")
	}
	if e := p.Stop(soon(t), 10*time.Second); e.String()[:11] != "exit code 0" {
		t.Errorf("exit %v", e)
	}
}

// ask sends a line to an echo program and returns its answer.
func ask(addr, line string) (string, error) {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(c).ReadString('\n')
}

func TestOwnsPort(t *testing.T) {
	h := open(t, options(t))
	p, other := start(t, h, program(t, Plain, "echo", "")), start(t, h, program(t, Plain, "echo", ""))
	ready(t, p)
	ready(t, other)
	if err := p.OwnsPort(p.Status()); err != nil {
		t.Error(err)
	}
	for _, addr := range []string{other.Status(), "127.0.0.1:1", "nonsense"} {
		if err := p.OwnsPort(addr); !errors.Is(err, ErrNotOwner) {
			t.Errorf("%s: %v", addr, err)
		}
	}
}
