package child

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/turnstone-go/turnstone/internal/sockfile"
	"github.com/turnstone-go/turnstone/internal/wire"
)

// maxSocketPath is the size of sun_path less its closing zero byte; see unix(7).
const maxSocketPath = 107

var errLongPath = errors.New("the path of a unix socket has at most 107 bytes; choose a shorter folder")

// listenWire takes the place of the socket that an earlier launcher left. The launcher's own lock keeps two
// of them apart. Anybody may connect: pid and token decide, see Host.admit and greet.
func listenWire(path string) (net.Listener, error) {
	if err := checkWire(path); err != nil {
		return nil, err
	}
	return sockfile.Listen(path, func() error { return os.Chmod(path, 0o666) })
}

// wireLost says that the path of the socket does not lead to it any more.
func wireLost(ln net.Listener) bool {
	s, ok := ln.(*sockfile.Listener)
	return ok && s.Lost()
}

// peerPID is the process that connected, as the kernel noted it.
func peerPID(c net.Conn) (int, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a unix connection")
	}
	conn, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	cerr := conn.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(cerr, err); err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}

// readWire reads bytes and the descriptors that came with them. They are close-on-exec: a payload that is
// started next must not hold the port.
func readWire(c net.Conn, b []byte) (int, []Socket, error) {
	u := c.(*net.UnixConn)
	oob := make([]byte, unix.CmsgSpace(4*maxListeners))
	n, oobn, _, _, err := u.ReadMsgUnix(b, oob)
	if err != nil {
		return 0, nil, err
	}
	if n == 0 {
		err = io.EOF // which ReadMsgUnix does not say by itself
	}
	return n, receivedFiles(oob[:oobn]), err
}

func receivedFiles(oob []byte) []Socket {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var files []Socket
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // credentials
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files
}

// given are the sockets that came with an answer.
func given(l *link, _ wire.Message) ([]Socket, error) { return l.files, nil }

// wireAddress is where the payloads of a state folder dial.
func wireAddress(stateDir string) string { return filepath.Join(stateDir, "wire.sock") }

func checkWire(wire string) error {
	if n := max(len(wire), len(notifyAddress(wire, newID()))); n > maxSocketPath {
		return fmt.Errorf("too long by %d bytes: %w", n-maxSocketPath, errLongPath)
	}
	return nil
}

// notifyAddress is the notify socket of a process, beside the wire.
func notifyAddress(wirePath, id string) string {
	return filepath.Join(filepath.Dir(wirePath), id+".n")
}

// listenNotify opens a notify socket that the process's user alone can send to. The kernel names the
// sender of each datagram.
func listenNotify(path string, u *User) (net.PacketConn, error) {
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	conn, err := c.SyscallConn()
	if err == nil {
		cerr := conn.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
		})
		err = errors.Join(cerr, err)
	}
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err == nil && u != nil {
		err = os.Chown(path, int(u.UID), int(u.GID))
	}
	if err != nil {
		_ = c.Close() // unused
		removeNotify(path)
		return nil, err
	}
	return c, nil
}

// relistenNotify opens the notify socket of an adopted process again, for the same user as before.
func relistenNotify(path string) (net.PacketConn, error) {
	var st unix.Stat_t
	u := &User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	if err := unix.Stat(path, &st); err == nil {
		u = &User{UID: st.Uid, GID: st.Gid}
	}
	if err := sockfile.Remove(path); err != nil {
		return nil, err
	}
	return listenNotify(path, u)
}

func removeNotify(path string) {
	if strings.HasSuffix(path, ".n") {
		_ = sockfile.Remove(path) // a socket left behind is in nobody's way
	}
}

// readNotify returns the next datagram of p or a descendant. Datagrams of others count for nothing, and
// descriptors are closed: for systemd-notify that is the sign that it was heard and may exit.
func readNotify(p *Process, buf []byte) (int, error) {
	c := p.note.(*net.UnixConn)
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4*maxListeners))
	for {
		n, oobn, _, _, err := c.ReadMsgUnix(buf, oob)
		if err != nil {
			return 0, err
		}
		ours := p.handle.contains(senderPID(oob[:oobn]), p.rec.path)
		closeAll(receivedFiles(oob[:oobn]))
		if ours {
			return n, nil
		}
		p.host.o.Log.Debug("notification of a process that is not the payload's", "version", p.spec.Number)
	}
}

func senderPID(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if cred, err := unix.ParseUnixCredentials(&m); err == nil {
			return int(cred.Pid)
		}
	}
	return 0
}
