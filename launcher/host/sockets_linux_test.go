package host

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// notifySocket is a socket that says what it was told, as systemd's.
func notifySocket(t *testing.T) *net.UnixConn {
	t.Helper()
	dir, err := os.MkdirTemp("", "ts")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return conn
}

// hear reads one message and the address of the listening socket that came with it, "" without one.
func hear(t *testing.T, conn *net.UnixConn) (text, addr string) {
	t.Helper()
	b, oob := make([]byte, 1024), make([]byte, 1024)
	n, oobn, _, _, err := conn.ReadMsgUnix(b, oob)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			f := os.NewFile(uintptr(fd), "received")
			defer f.Close()
			ln, err := net.FileListener(f)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			addr = ln.Addr().String()
		}
	}
	return string(b[:n]), addr
}

// The manager gets the socket itself, by its name, and is told when to close it.
func TestKeepSocket(t *testing.T) {
	conn := notifySocket(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := KeepSocket("http", raw); err != nil {
		t.Fatal(err)
	}
	text, addr := hear(t, conn)
	if text != "FDSTORE=1\nFDPOLL=0\nFDNAME=http" || addr != ln.Addr().String() {
		t.Errorf("told %q with %q, want the socket of %s", text, addr, ln.Addr())
	}
	if err := ForgetSocket("http"); err != nil {
		t.Fatal(err)
	}
	if text, addr := hear(t, conn); text != "FDSTOREREMOVE=1\nFDNAME=http" || addr != "" {
		t.Errorf("told %q with %q", text, addr)
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := KeepSocket("http", raw); err != nil {
		t.Errorf("without a manager: %v", err)
	}
}

const keptEnv = "TEST_KEPT"

// What the manager hands over arrives once, by name, closed on exec, and nothing of it reaches a child.
func TestSockets(t *testing.T) {
	if os.Getenv(keptEnv) != "" {
		beKept(t)
		return
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// The shell knows its own pid, which stays that of the program it becomes.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run=^TestSockets$ -test.v`, os.Args[0])
	cmd.Env = append(os.Environ(), keptEnv+"="+ln.Addr().String(), "LISTEN_FDS=2", "LISTEN_FDNAMES=http:http")
	cmd.ExtraFiles = []*os.File{f, f}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestSockets") {
		t.Errorf("%v\n%s", err, out)
	}
}

func beKept(t *testing.T) {
	files := Sockets()
	f := files["http"]
	if f == nil || len(files) != 1 {
		t.Fatalf("kept %v", files)
	}
	ln, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	if ln.Addr().String() != os.Getenv(keptEnv) {
		t.Errorf("at %s", ln.Addr())
	}
	ln.Close()
	f.Close()
	if again := Sockets(); len(again) != 0 {
		t.Errorf("a second time: %v", again)
	}
	out, err := exec.Command("sh", "-c", "env; ls -l /proc/self/fd").CombinedOutput()
	if err != nil || strings.Contains(string(out), "LISTEN_") || strings.Contains(string(out), "socket:") {
		t.Errorf("pid %s gave this to a child: %v\n%s", strconv.Itoa(os.Getpid()), err, out)
	}
}
