package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// listen makes a socket that no program accepts on by Go's own means. Go ties every net.Listener to the
// completion port of its process; the tie belongs to the socket, which all processes share, and there can
// be only one. So the public socket is made by system calls, stays outside of Go's poller, and payloads
// wait on it by events.
func listen(network, address string) (net.Listener, error) {
	if err := checkNetwork(network); err != nil {
		return nil, err
	}
	addr, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	return listenRaw(addr)
}

func checkNetwork(network string) error {
	if network != "tcp" {
		return fmt.Errorf("unix sockets: %w on Windows", errors.ErrUnsupported)
	}
	return nil
}

// inUse: WSAEADDRINUSE, and WSAEACCES for a port that another program holds exclusively.
func inUse(err error) bool {
	return errors.Is(err, syscall.WSAEACCES) || errors.Is(err, errAddrInUse)
}

// adopt takes a socket whose handle was duplicated out of a payload.
func adopt(c syscall.Conn) (net.Listener, error) { return duplicate(c) }

// acceptor exchanges the raw socket for an ordinary listener of Go at the same address, since in proxy
// mode no other process accepts there. Between the two nobody listens for some microseconds; that is at
// the launcher's start, when there is no proxy yet that could have promised anything.
func acceptor(s *Socket) (listener, error) {
	s.exchange.Lock()
	defer s.exchange.Unlock()
	raw, ok := s.ln.(*rawListener)
	if !ok {
		return s.ln, nil // it was exchanged before
	}
	addr := raw.Addr().String()
	if err := raw.Close(); err != nil {
		return nil, fmt.Errorf("listen %s: %w", s.name, err)
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = exclusive(fd) }), err)
	}}
	ln, err := lc.Listen(context.Background(), s.network, addr)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", s.name, err)
	}
	tcp := ln.(*net.TCPListener)
	conn, err := tcp.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", s.name, err)
	}
	s.ln, s.raw = tcp, conn
	return tcp, nil
}

// listening reads whether listen was called on the socket.
func listening(raw syscall.RawConn) (yes bool, err error) {
	cerr := raw.Control(func(fd uintptr) { yes, err = acceptsConnections(fd) })
	return yes, errors.Join(cerr, err)
}

// backlog is not told by Winsock.
func backlog(syscall.RawConn) int { return 0 }

// nonblock has nothing to do: overlapped sockets have no such flag to share.
func nonblock(syscall.RawConn) error { return nil }

// gone is always false: Windows discards what was received when a reset arrives, so there is nothing
// left to read that would be worth waiting for.
func gone(net.Conn) bool { return false }
