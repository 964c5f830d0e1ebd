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
	ln, err := lc.Listen(context.Background(), network, address) // never blocks: the address is not a name to look up
	if err != nil {
		return nil, err
	}
	return hold(ln)
}

// hold takes a listener out of Go's poller. It would cost 7 % of a core at 10,000 connections a second.
func hold(ln net.Listener) (net.Listener, error) {
	defer ln.Close() // a duplicate is kept
	l, ok := ln.(listener)
	if !ok {
		return nil, fmt.Errorf("%w: %T", ErrNotListener, ln)
	}
	if u, ok := l.(*net.UnixListener); ok {
		// The path belongs to every process that holds the socket. If closing our descriptor removed it, the
		// others would listen where nobody can reach them.
		u.SetUnlinkOnClose(false)
	}
	raw, err := l.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, err := duplicate(raw)
	if err != nil {
		return nil, err
	}
	return &rawListener{addr: l.Addr(), handle: uintptr(fd)}, nil
}

func duplicate(raw syscall.RawConn) (fd int, err error) {
	cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(cerr, err)
}

func closeSocket(fd uintptr) error { return unix.Close(int(fd)) }

func checkNetwork(string) error { return nil }

func inUse(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// adopt duplicates the descriptor, close-on-exec, and makes it non-blocking.
func adopt(c syscall.Conn) (net.Listener, error) {
	f, ok := c.(*os.File)
	if !ok {
		return nil, fmt.Errorf("%T is no file", c)
	}
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return hold(ln)
}

// acceptor puts the socket into Go's poller, since in proxy mode the launcher itself waits on it.
func acceptor(s *Socket) (listener, error) {
	s.exchange.Lock()
	defer s.exchange.Unlock()
	held, ok := s.ln.(*rawListener)
	if !ok {
		return s.ln, nil // it was exchanged before
	}
	fd, err := duplicate(held)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", s.name, err)
	}
	f := os.NewFile(uintptr(fd), s.name) // not blocking already, so FileListener's Fd leaves the flag alone
	ln, err := net.FileListener(f)
	_ = f.Close() // duplicated again
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", s.name, err)
	}
	next, err := open(s.name, s.network, ln)
	if err != nil {
		return nil, err
	}
	s.ln, s.raw = next.ln, next.raw
	_ = held.Close() // the same socket lives on in ln
	return s.ln, nil
}

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
