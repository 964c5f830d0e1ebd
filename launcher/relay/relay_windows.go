package relay

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/windows"
)

// soExclusiveAddrUse is SO_EXCLUSIVEADDRUSE (winsock2.h: ~SO_REUSEADDR).
const soExclusiveAddrUse = ^4

// control keeps other programs from binding the same port: on Windows SO_REUSEADDR of theirs would
// otherwise share it, with undefined delivery. See "Using SO_REUSEADDR and SO_EXCLUSIVEADDRUSE",
// learn.microsoft.com/windows/win32/winsock/using-so-reuseaddr-and-so-exclusiveaddruse.
func control(network, _ string, raw syscall.RawConn) error {
	if network == "unix" {
		return errors.ErrUnsupported
	}
	var err error
	cerr := raw.Control(func(fd uintptr) {
		err = windows.SetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, soExclusiveAddrUse, 1)
	})
	return errors.Join(cerr, err)
}

// listening reads whether listen was called on the socket (SO_ACCEPTCONN is 2 on Windows too).
func listening(raw syscall.RawConn) (yes bool, err error) {
	const soAcceptConn = 2
	cerr := raw.Control(func(fd uintptr) {
		var v int
		v, err = windows.GetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, soAcceptConn)
		yes = v != 0
	})
	return yes, errors.Join(cerr, err)
}

// backlog is not told by Winsock.
func backlog(syscall.RawConn) int { return 0 }

// nonblock has nothing to do: overlapped sockets have no such flag to share.
func nonblock(syscall.RawConn) error { return nil }

// gone is always false: Windows discards what was received when a reset arrives, so there is nothing
// left to read that would be worth waiting for.
func gone(net.Conn) bool { return false }
