package relay

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// control needs to set nothing: Go's SO_REUSEADDR on Linux lets a port be bound again while old
// connections linger, and never while somebody listens.
func control(string, string, syscall.RawConn) error { return nil }

// listening reads whether listen(2) was called on the socket.
func listening(raw syscall.RawConn) (yes bool, err error) {
	cerr := raw.Control(func(fd uintptr) {
		var v int
		v, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		yes = v != 0
	})
	return yes, errors.Join(cerr, err)
}

// backlog reads the length of the accept queue. For a listening socket the kernel reports it in
// tcpi_unacked and its limit in tcpi_sacked (tcp_get_info in net/ipv4/tcp.c).
func backlog(raw syscall.RawConn) int {
	info, ok := tcpInfo(raw)
	if !ok || info.State != unix.BPF_TCP_LISTEN {
		return 0
	}
	return int(info.Unacked)
}

func nonblock(raw syscall.RawConn) error {
	var err error
	cerr := raw.Control(func(fd uintptr) { err = unix.SetNonblock(int(fd), true) })
	return errors.Join(cerr, err)
}

// gone reports whether the peer of c has reset the connection. What it sent before can still be read.
func gone(c net.Conn) bool {
	sc, ok := c.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	info, ok := tcpInfo(raw)
	return ok && info.State == unix.BPF_TCP_CLOSE
}

func tcpInfo(raw syscall.RawConn) (info *unix.TCPInfo, ok bool) {
	var err error
	cerr := raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	return info, cerr == nil && err == nil
}
