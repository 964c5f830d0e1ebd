package payload

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/turnstone-go/turnstone/internal/wire"
)

func wirePath(dir string) string { return filepath.Join(dir, "wire") }

func listenWire(path string) (net.Listener, error) { return net.Listen("unix", path) }

// rights reads a unix socket and keeps the descriptors that come by.
type rights struct {
	*net.UnixConn
	fds []int
}

func (r *rights) Read(b []byte) (int, error) {
	oob := make([]byte, 512)
	n, oobn, _, _, err := r.ReadMsgUnix(b, oob)
	if oobn > 0 {
		msgs, _ := unix.ParseSocketControlMessage(oob[:oobn])
		for _, m := range msgs {
			fds, _ := unix.ParseUnixRights(&m)
			r.fds = append(r.fds, fds...)
		}
	}
	return n, err
}

func newRights(c net.Conn) *rights { return &rights{UnixConn: c.(*net.UnixConn)} }

// startWith starts cmd with a token and, if it is not nil, the public listener.
func startWith(t *testing.T, cmd *exec.Cmd, token string, public publicSocket) error {
	tokenR, tokenW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer tokenR.Close()
	_, _ = tokenW.WriteString(token)
	_ = tokenW.Close()
	cmd.ExtraFiles = []*os.File{tokenR}
	cmd.Env = append(cmd.Env, wire.EnvToken+"=3")
	if public != nil {
		f := dupListener(t, public)
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		cmd.Env = append(cmd.Env, wire.EnvListen+"=http=4")
	}
	return cmd.Start()
}

// publicSocket is the socket that the versions share.
type publicSocket = *net.TCPListener

// listenTCP opens the public socket.
func listenTCP(t *testing.T) publicSocket {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

// onFD calls f with the descriptor of a listener, without the Fd method that clears O_NONBLOCK.
func onFD(t *testing.T, ln *net.TCPListener, f func(fd int) error) {
	t.Helper()
	raw, err := ln.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var ferr error
	if err := raw.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		t.Fatal(err)
	}
	if ferr != nil {
		t.Fatal(ferr)
	}
}

// dupListener makes a file of the socket that os/exec may ask for its Fd: one made from a descriptor that
// does not block already is left as it is.
func dupListener(t *testing.T, ln *net.TCPListener) *os.File {
	t.Helper()
	var dup int
	onFD(t, ln, func(fd int) (err error) {
		dup, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		return err
	})
	return os.NewFile(uintptr(dup), "public")
}

// isNonblocking reports the shared flag of the listener.
func isNonblocking(t *testing.T, ln *net.TCPListener) bool {
	t.Helper()
	var flags int
	onFD(t, ln, func(fd int) (err error) {
		flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		return err
	})
	return flags&unix.O_NONBLOCK != 0
}

func terminate(_ *testing.T, cmd *exec.Cmd) error { return cmd.Process.Signal(unix.SIGTERM) }

// bare tells whether c is what the listener accepted, with nothing around it.
func bare(c net.Conn) bool { _, ok := c.(*net.TCPConn); return ok }
