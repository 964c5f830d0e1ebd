package relay

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const backlogKnown = true

func shrinkQueue(t *testing.T, fd uintptr) {
	if err := unix.Listen(int(fd), 0); err != nil {
		t.Error(err)
	}
}

// sentAll reports whether the peer's kernel has acknowledged everything.
func sentAll(c *net.TCPConn) bool {
	raw, _ := c.SyscallConn()
	info, ok := tcpInfo(raw)
	return ok && info.Unacked == 0 && info.Notsent_bytes == 0
}

func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "ts") // a unix path holds 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestBacklogCountsTheKernelsQueue(t *testing.T) {
	s, err := Listen("http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for n := range 5 {
		if got := s.Backlog(); got != n {
			t.Errorf("backlog %d after %d connections", got, n)
		}
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		until(t, "queued", func() bool { return s.Backlog() > n })
	}
}

// The flag belongs to the open socket: any process that holds it can clear it for all.
func TestNonblockIsSetAgain(t *testing.T) {
	s, err := Listen("http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	set := func() (yes bool) {
		s.RawConn().Control(func(fd uintptr) {
			flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
			if err != nil {
				t.Fatal(err)
			}
			yes = flags&unix.O_NONBLOCK != 0
		})
		return yes
	}
	s.RawConn().Control(func(fd uintptr) {
		inherited, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) // as a child holds it
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(inherited)
		if err := unix.SetNonblock(inherited, false); err != nil {
			t.Fatal(err)
		}
	})
	if set() {
		t.Fatal("the flag is not shared: this test proves nothing")
	}
	if err := s.Nonblock(); err != nil {
		t.Fatal(err)
	}
	if !set() {
		t.Error("still blocking")
	}
}

func TestAdoptChecksWhatCameBack(t *testing.T) {
	s, err := Listen("http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	dup := func(raw interface{ Control(func(uintptr)) error }) (f *os.File) {
		raw.Control(func(fd uintptr) {
			n, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			f = os.NewFile(uintptr(n), "came back")
		})
		t.Cleanup(func() { f.Close() })
		return f
	}
	a, err := Adopt("http", s.Addr().String(), dup(s.RawConn()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	s.Close() // ours lives on
	p := NewProxy(a, Options{})
	b := newBackend(t, "b", nil)
	p.Switch(p.NewTarget("b", b.addr()))
	run(t, p)
	mustAsk(t, dial(t, p), "b")

	_, port, _ := net.SplitHostPort(a.Addr().String())
	for _, same := range []string{"localhost:" + port, "127.0.0.1:0"} {
		b, err := Adopt("http", same, dup(a.RawConn()))
		if err != nil {
			t.Errorf("%s is the same: %v", same, err)
			continue
		}
		b.Close()
	}
	for address, want := range map[string]bool{":" + port: true, "127.0.0.2:" + port: true, "127.0.0.1:1": false, "unix:/x": false} {
		if InTheWay(dup(a.RawConn()), address) != want {
			t.Errorf("in the way of %s: want %v", address, want)
		}
	}
	if _, err := Adopt("http", ":"+port, dup(a.RawConn())); !errors.Is(err, ErrNotListener) {
		t.Errorf("one interface is not every interface: %v", err)
	}
	if _, err := Adopt("http", "127.0.0.1:1", dup(a.RawConn())); !errors.Is(err, ErrNotListener) {
		t.Errorf("another address: %v", err)
	}
	if _, err := Adopt("http", "unix:/x", dup(a.RawConn())); !errors.Is(err, ErrNotListener) {
		t.Errorf("another type: %v", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "bound, not listening")
	defer f.Close()
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	at := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: sa.(*unix.SockaddrInet4).Port}).String()
	if _, err := Adopt("http", at, f); !errors.Is(err, ErrNotListener) {
		t.Errorf("a socket that does not listen: %v", err)
	}
}

// Each direction of a spliced pair holds a pipe (two descriptors) for as long as it copies; a copy through
// user space holds none.
func TestBytesAreSpliced(t *testing.T) {
	const open = 16
	p := newProxy(t, Options{})
	b := newBackend(t, "b", nil)
	p.Switch(p.NewTarget("b", b.addr()))
	before := pipes(t)
	for range open {
		mustAsk(t, dial(t, p), "b")
	}
	// The runtime keeps a few idle pipes from earlier copies, so some of these may not be new.
	if grown := pipes(t) - before; grown < open*2 {
		t.Errorf("%d pipe descriptors more for %d connections: they are not spliced", grown, open)
	}
}

func pipes(t *testing.T) (n int) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if at, err := os.Readlink(fd); err == nil && strings.HasPrefix(at, "pipe:") {
			n++
		}
	}
	return n
}

// The kernel reports a reset once. When the report went to the writer, the reader just ends.
func TestAResetThatLooksLikeAnEndIsSeen(t *testing.T) {
	t.Run("reset", func(t *testing.T) {
		ours, theirs := tcpPair(t)
		theirs.SetLinger(0)
		theirs.Close()
		raw, _ := ours.SyscallConn()
		until(t, "reset arrived", func() bool { return gone(ours) })
		raw.Control(func(fd uintptr) { // reading the error clears it, as a failed write would
			if n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err != nil || n == 0 {
				t.Errorf("pending error %d, %v", n, err)
			}
		})
		out, sink := tcpPair(t)
		pump(&side{stream: out}, &side{stream: ours})
		if _, err := sink.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the other side saw %v, not a reset", err)
		}
	})
	t.Run("orderly end", func(t *testing.T) {
		ours, theirs := tcpPair(t)
		s := &side{stream: ours}
		s.finished.Store(true)
		ours.CloseWrite()
		theirs.Close()
		until(t, "closed", func() bool { return gone(ours) })
		if wasReset(s) {
			t.Error("an orderly end was taken for a reset")
		}
	})
}

// A socket that payloads accept on is not in Go's poller, which would wake the launcher for each of their
// connections; one that a proxy accepts on is.
func TestOnlyAProxyWaitsOnASocket(t *testing.T) {
	s, err := Listen("http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if polled(t, s) {
		t.Error("the launcher is woken for the connections of payloads")
	}
	var again *Socket
	var aerr error
	err = s.RawConn().Control(func(fd uintptr) {
		dup, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(dup), "came back")
		defer f.Close()
		again, aerr = Adopt("http", s.Addr().String(), f)
	})
	if err := errors.Join(err, aerr); err != nil {
		t.Fatal(err)
	}
	if polled(t, again) {
		t.Error("likewise after the socket came back")
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	NewProxy(s, Options{})
	if !polled(t, s) {
		t.Error("a proxy does not wait on its socket")
	}
}

// polled says whether the socket is in an epoll set of this process, as /proc/PID/fdinfo has it; see proc(5).
func polled(t *testing.T, s *Socket) bool {
	t.Helper()
	var st unix.Stat_t
	var err error
	cerr := s.RawConn().Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) })
	if err := errors.Join(cerr, err); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fdinfo: %v", err)
	}
	for _, file := range files {
		text, _ := os.ReadFile(file) // the descriptor that read the folder is gone
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "tfd:") && strings.Contains(line, fmt.Sprintf(" ino:%x ", st.Ino)) {
				return true
			}
		}
	}
	return false
}

// Without descriptors nothing can be accepted. The proxy says so and goes on when there are some again.
func TestAcceptOutlivesALackOfDescriptors(t *testing.T) {
	s, err := Listen("http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	p := NewProxy(s, Options{})
	b := newBackend(t, "b", nil)
	p.Switch(p.NewTarget("b", b.addr()))
	c := dial(t, p) // waits in the kernel

	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	probe, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	low := unix.Rlimit{Cur: uint64(probe.Fd()), Max: limit.Max} // the lowest free number is not allowed
	probe.Close()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	restored := false
	defer func() {
		if !restored {
			unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
		}
	}()
	run(t, p)
	until(t, "it complains", func() bool { return strings.Contains(p.Counts().Trouble, "too many open files") })
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	restored = true
	mustAsk(t, c, "b")
}

func TestPathThatIsNotASocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(shortDir(t), "precious")
	if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("http", "unix:"+path); err == nil {
		t.Error("listened over a file")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "data" {
		t.Errorf("the file: %q, %v", b, err)
	}
}

func TestPortTaken(t *testing.T) {
	s, err := Listen("http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if _, err := Listen("http", s.Addr().String()); !errors.Is(err, ErrInUse) {
		t.Errorf("a second listener on the port: %v", err)
	}
}

// A server may answer an upload early and close without having read it all, which resets the connection:
// the answer that was sent before must still arrive. (Windows itself
// discards what was received when the reset arrives.)
func TestEarlyAnswerSurvivesTheReset(t *testing.T) {
	p := newProxy(t, Options{})
	b := newBackend(t, "b", func(c net.Conn) {
		io.ReadFull(c, make([]byte, 1))
		io.WriteString(c, "413 too large")
	}) // closed with the upload unread
	p.Switch(p.NewTarget("b", b.addr()))
	for range 50 {
		c := dial(t, p)
		go func() {
			for {
				if _, err := c.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}()
		b := make([]byte, len("413 too large"))
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatalf("the answer was lost: %q, %v", b, err)
		}
		c.Close()
	}
}

func TestUnixSockets(t *testing.T) {
	path := shortDir(t) + "/s"
	s, err := Listen("http", "unix:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("http", "unix:"+path); !errors.Is(err, ErrInUse) {
		t.Errorf("a second Listen on a living path: %v", err)
	}
	ln, err := net.Listen("unix", path+"b")
	if err != nil {
		t.Fatal(err)
	}
	b := startBackend(t, "b", ln, nil)
	p := NewProxy(s, Options{})
	p.Switch(p.NewTarget("b", "unix:"+b.addr()))
	stop := run(t, p)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mustAsk(t, c, "b")
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(c); err != nil || len(rest) != 0 {
		t.Errorf("after the half-close: %q, %v", rest, err)
	}

	stop()
	s.Close()
	s, err = Listen("http", "unix:"+path) // what the dead one left behind is replaced
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}
