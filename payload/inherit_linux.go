package payload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// socket is an inherited listening socket. Its descriptor is kept for the life of the process: parking
// closes only a duplicate. It is never wrapped in an os.File, whose Fd method may clear O_NONBLOCK. That
// flag belongs to the open socket, which every version shares, so clearing it would let the loser of an
// accept race block in accept(2), in whichever process it lives.
type socket struct{ fd int }

// adoptSocket takes over the descriptor whose number is value, if it is a listening stream socket.
func adoptSocket(value string) (*socket, error) {
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%q is not a descriptor", value)
	}
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	if typ != unix.SOCK_STREAM {
		return nil, errors.New("it is not a stream socket")
	}
	if listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listening == 0 {
		return nil, errors.New("it does not listen")
	}
	unix.CloseOnExec(fd) // a process that this one starts must not hold the port
	s := &socket{fd}
	return s, s.heal()
}

// open returns a listener on a duplicate of the socket.
func (s *socket) open() (net.Listener, error) {
	if err := s.heal(); err != nil {
		return nil, err
	}
	dup, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	f := os.NewFile(uintptr(dup), "listener") // not blocking already, so FileListener's Fd leaves the flag alone
	defer f.Close()
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	if u, ok := ln.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the path belongs to the launcher
	}
	return ln, nil
}

// heal sets O_NONBLOCK again if some holder of the socket has cleared it.
func (s *socket) heal() error {
	flags, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETFL, 0)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	if flags&unix.O_NONBLOCK != 0 {
		return nil
	}
	return os.NewSyscallError("set nonblock", unix.SetNonblock(s.fd, true))
}

// handleValues is for systems whose sockets do not travel beside a message.
func handleValues([]*socket) []uint64 { return nil }

// sendSockets writes line with the sockets beside it (SCM_RIGHTS).
func sendSockets(conn net.Conn, line []byte, sockets []*socket) error {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("the wire is no unix socket")
	}
	fds := make([]int, len(sockets))
	for i, s := range sockets {
		fds[i] = s.fd
	}
	n, _, err := u.WriteMsgUnix(line, unix.UnixRights(fds...), nil)
	if err == nil && n < len(line) {
		_, err = u.Write(line[n:])
	}
	return err
}

// readToken reads the pipe whose descriptor is value to its end and closes it.
func readToken(value string) (string, error) {
	if value == "" {
		return "", nil
	}
	fd, err := strconv.Atoi(value)
	if err != nil || fd < 3 {
		return "", fmt.Errorf("%q is not a descriptor", value)
	}
	f := os.NewFile(uintptr(fd), "token")
	defer f.Close()
	token, err := io.ReadAll(io.LimitReader(f, maxToken))
	return string(token), err
}

func dialWire(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", addr)
}
