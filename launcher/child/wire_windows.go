package child

import (
	"errors"
	"net"
	"os"

	"github.com/Microsoft/go-winio"
	"golang.org/x/sys/windows"
)

// pipeAccess lets the system and administrators do everything and every logged-on account connect: pid and
// token decide who may speak. The protected list (P) takes nothing from above.
const pipeAccess = "D:P(A;;GA;;;SY)(A;;GA;;;BA)(A;;GA;;;OW)(A;;GRGW;;;AU)"

// listenWire makes the named pipe. It fails if there is one by this name already, so nobody who was first
// can pose as the launcher.
func listenWire(path string) (net.Listener, error) {
	return winio.ListenPipe(path, &winio.PipeConfig{SecurityDescriptor: pipeAccess})
}

// peerPID is the process that connected, as the kernel noted it.
func peerPID(c net.Conn) (int, error) {
	f, ok := c.(interface{ Fd() uintptr })
	if !ok {
		return 0, errors.New("not a named pipe")
	}
	var pid uint32
	if err := windows.GetNamedPipeClientProcessId(windows.Handle(f.Fd()), &pid); err != nil {
		return 0, os.NewSyscallError("GetNamedPipeClientProcessId", err)
	}
	return int(pid), nil
}

// readWire reads bytes; sockets do not travel through a pipe.
func readWire(c net.Conn, b []byte) (int, []*os.File, error) {
	n, err := c.Read(b)
	return n, nil, err
}

// There is no sd_notify here.

func notifyAddress(wirePath, id string) string { return "" }

func listenNotify(path string, u *User) (net.PacketConn, error) { return nil, nil }

func relistenNotify(path string) (net.PacketConn, error) { return nil, nil }

func removeNotify(path string) {}

func readNotify(p *Process, buf []byte) (int, error) { return 0, net.ErrClosed }
