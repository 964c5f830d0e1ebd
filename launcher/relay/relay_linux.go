package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// listen needs to set nothing: Go's SO_REUSEADDR on Linux lets a port be bound again while old connections
// linger, and never while somebody listens.
func listen(network, address string) (net.Listener, error) {
	var lc net.ListenConfig
	// Go would make a multipath TCP socket where the kernel has it. Programs that inherit the socket do not
	// expect one, and the accept queue could then not be read.
	lc.SetMultipathTCP(false)
	return lc.Listen(context.Background(), network, address) // never blocks: the address is not a name to look up
}

func inUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// adopt duplicates the descriptor, close-on-exec, and makes it non-blocking.
func adopt(c syscall.Conn) (net.Listener, error) {
	f, ok := c.(*os.File)
	if !ok {
		return nil, fmt.Errorf("%T is no file", c)
	}
	return net.FileListener(f)
}

// acceptor returns what a Proxy accepts on: the socket itself.
func acceptor(s *Socket) (listener, error) { return s.ln, nil }

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
