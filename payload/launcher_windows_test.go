package payload

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"

	"github.com/turnstone-go/turnstone/internal/wire"
	"github.com/turnstone-go/turnstone/launcher/relay"
)

func wirePath(dir string) string { return `\\.\pipe\payload-test-` + filepath.Base(dir) }

// listenWire listens as the launcher does, whose package says why the first client is itself.
func listenWire(path string) (net.Listener, error) {
	ln, err := winio.ListenPipe(path, nil)
	if err != nil {
		return nil, err
	}
	if f, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
		_ = f.Close()
	}
	return ln, nil
}

// rights are none: handle values travel in the message.
type rights struct {
	net.Conn
	fds []int
}

func newRights(c net.Conn) *rights { return &rights{Conn: c} }

// publicSocket is the socket that the versions share.
type publicSocket = *relay.Socket

func listenTCP(t *testing.T) publicSocket {
	t.Helper()
	s, err := relay.Listen("http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// startWith starts cmd with a token and, if it is not nil, the public listener.
func startWith(t *testing.T, cmd *exec.Cmd, token string, public publicSocket) error {
	t.Helper()
	var r, w windows.Handle
	if err := windows.CreatePipe(&r, &w, nil, 4096); err != nil {
		return err
	}
	defer windows.CloseHandle(r)
	var n uint32
	_ = windows.WriteFile(w, []byte(token), &n, nil)
	_ = windows.CloseHandle(w)
	if err := windows.SetHandleInformation(r, windows.HANDLE_FLAG_INHERIT, windows.HANDLE_FLAG_INHERIT); err != nil {
		return err
	}
	handles := []syscall.Handle{syscall.Handle(r)}
	cmd.Env = append(cmd.Env, wire.EnvToken+"="+strconv.FormatUint(uint64(r), 10))
	start := func() error {
		cmd.SysProcAttr = &syscall.SysProcAttr{AdditionalInheritedHandles: handles}
		return cmd.Start()
	}
	if public == nil {
		return start()
	}
	var err error
	cerr := public.RawConn().Control(func(fd uintptr) {
		handles = append(handles, syscall.Handle(fd))
		cmd.Env = append(cmd.Env, wire.EnvListen+"=http="+strconv.FormatUint(uint64(fd), 10))
		err = start()
	})
	if cerr != nil {
		return cerr
	}
	return err
}

// terminate would take a CTRL_C, which package launcher/child sends and tests.
func terminate(t *testing.T, _ *exec.Cmd) error {
	t.Skip("Go sends no interrupt to a process on Windows; launcher/child tests the end by CTRL_C")
	return nil
}

// bare tells whether c is what the listener accepted, with nothing around it.
func bare(c net.Conn) bool { _, ok := c.(*accepted); return ok }

func init() { roles["logoff"] = logoffRole }

// logoffRole hears what the system says to the console processes of services when somebody logs off.
func logoffRole() error {
	if err := Ready(); err != nil {
		return err
	}
	ctrl := windows.NewLazySystemDLL("kernelbase.dll").NewProc("CtrlRoutine")
	go func() { _, _, _ = ctrl.Call(windows.CTRL_LOGOFF_EVENT) }()
	select {
	case <-Done():
		os.Exit(7)
	case <-time.After(3 * time.Second): // no proof, but a drain without connections takes milliseconds
		os.Exit(0)
	}
	return nil
}

// A payload under a launcher serves on when somebody logs off.
func TestLogoffIsNoDrain(t *testing.T) {
	p := newLauncher(t).start("logoff", nil)
	p.ready()
	if err := p.ended(); err != nil {
		t.Errorf("it drained: %v", err)
	}
}
