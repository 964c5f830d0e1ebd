package relay

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/windows"
)

// errAddrInUse is WSAEADDRINUSE; Go's syscall.EADDRINUSE is a number of its own on Windows.
const errAddrInUse = windows.WSAEADDRINUSE

// queue asks for a long accept queue: SOMAXCONN_HINT(n) is -n and lets Windows take up to that many where
// plain SOMAXCONN means a few hundred (learn.microsoft.com/windows/win32/api/winsock2/nf-winsock2-listen).
const queue = -4096

// listenRaw makes, binds and opens a socket. It can be inherited from the start: Go starts every process
// with an explicit list of handles, so a child gets it exactly when it is in that list.
func listenRaw(addr *net.TCPAddr) (*rawListener, error) {
	sock, sa, err := bindable(addr)
	if err != nil {
		return nil, err
	}
	if err := publish(sock, sa); err != nil {
		_ = windows.Closesocket(sock) // unused
		return nil, err
	}
	return newRawListener(sock)
}

// bindable makes the socket that fits addr. An address without a host, and the unspecified ones, mean
// every interface of both families by one socket, as in package net.
func bindable(addr *net.TCPAddr) (windows.Handle, windows.Sockaddr, error) {
	every := len(addr.IP) == 0 || addr.IP.IsUnspecified()
	if v4 := addr.IP.To4(); v4 != nil && !every {
		sock, err := overlapped(windows.AF_INET)
		return sock, &windows.SockaddrInet4{Port: addr.Port, Addr: [4]byte(v4)}, err
	}
	sa := &windows.SockaddrInet6{Port: addr.Port}
	if !every {
		sa.Addr = [16]byte(addr.IP.To16())
		zone, err := zoneID(addr.Zone)
		if err != nil {
			return 0, nil, err
		}
		sa.ZoneId = zone
	}
	sock, err := overlapped(windows.AF_INET6)
	if err == nil {
		if err = windows.SetsockoptInt(sock, windows.IPPROTO_IPV6, windows.IPV6_V6ONLY, 0); err != nil {
			_ = windows.Closesocket(sock) // unused
			err = os.NewSyscallError("setsockopt", err)
		}
	}
	if err != nil && every { // IPv6 is switched off on this machine
		sock, err := overlapped(windows.AF_INET)
		return sock, &windows.SockaddrInet4{Port: addr.Port}, err
	}
	return sock, sa, err
}

func zoneID(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, err
	}
	return uint32(i.Index), nil
}

func overlapped(family int32) (windows.Handle, error) {
	sock, err := windows.WSASocket(family, windows.SOCK_STREAM, windows.IPPROTO_TCP, nil, 0, windows.WSA_FLAG_OVERLAPPED)
	return sock, os.NewSyscallError("WSASocket", err)
}

func publish(sock windows.Handle, sa windows.Sockaddr) error {
	if err := exclusive(uintptr(sock)); err != nil {
		return err
	}
	if err := windows.Bind(sock, sa); err != nil {
		return os.NewSyscallError("bind", err)
	}
	return os.NewSyscallError("listen", windows.Listen(sock, queue))
}

// exclusive sets SO_EXCLUSIVEADDRUSE (winsock2.h: ~SO_REUSEADDR), which keeps other programs from binding
// the same port: their SO_REUSEADDR would otherwise share it, with undefined delivery. See "Using
// SO_REUSEADDR and SO_EXCLUSIVEADDRUSE", learn.microsoft.com/windows/win32/winsock.
func exclusive(fd uintptr) error {
	const soExclusiveAddrUse = ^4
	return os.NewSyscallError("setsockopt", windows.SetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, soExclusiveAddrUse, 1))
}

// acceptsConnections reads SO_ACCEPTCONN, which is 2 here as well. Wine answers WSAENOTSOCK for a handle that
// came from another process or by DuplicateHandle; there listen tells, which changes nothing on a socket
// that listens already and makes one usable that only was bound to the right address.
func acceptsConnections(fd uintptr) (bool, error) {
	const soAcceptConn = 2
	v, err := windows.GetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, soAcceptConn)
	if errors.Is(err, windows.WSAENOTSOCK) {
		err = windows.Listen(windows.Handle(fd), queue)
		return err == nil, os.NewSyscallError("listen", err)
	}
	return v != 0, os.NewSyscallError("getsockopt", err)
}

// duplicate makes a rawListener of another handle to the same socket.
func duplicate(c syscall.Conn) (*rawListener, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var dup windows.Handle
	cerr := raw.Control(func(fd uintptr) {
		self := windows.CurrentProcess()
		err = windows.DuplicateHandle(self, windows.Handle(fd), self, &dup, 0, true, windows.DUPLICATE_SAME_ACCESS)
	})
	if err := errors.Join(cerr, os.NewSyscallError("DuplicateHandle", err)); err != nil {
		return nil, err
	}
	return newRawListener(dup)
}

// newRawListener takes sock over.
func newRawListener(sock windows.Handle) (*rawListener, error) {
	sa, err := windows.Getsockname(sock)
	if err != nil {
		_ = windows.CloseHandle(sock) // it may be no socket at all
		return nil, os.NewSyscallError("getsockname", err)
	}
	addr, err := tcpAddr(sa)
	if err != nil {
		_ = windows.Closesocket(sock) // not of ours
		return nil, err
	}
	return &rawListener{addr: addr, handle: uintptr(sock)}, nil
}

func tcpAddr(sa windows.Sockaddr) (*net.TCPAddr, error) {
	switch sa := sa.(type) {
	case *windows.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}, nil
	case *windows.SockaddrInet6:
		zone := ""
		if sa.ZoneId != 0 {
			zone = strconv.FormatUint(uint64(sa.ZoneId), 10)
		}
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port, Zone: zone}, nil
	}
	return nil, fmt.Errorf("a socket of another kind: %T", sa)
}

// closeSocket closes the handle by CloseHandle where Winsock does not know it as a socket: in Wine, if it
// came by DuplicateHandle.
func closeSocket(fd uintptr) error {
	err := windows.Closesocket(windows.Handle(fd))
	if errors.Is(err, windows.WSAENOTSOCK) {
		err = windows.CloseHandle(windows.Handle(fd))
	}
	return os.NewSyscallError("closesocket", err)
}
