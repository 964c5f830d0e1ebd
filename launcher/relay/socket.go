package relay

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrInUse is returned by Listen when something living already listens at the address.
var ErrInUse = errors.New("address in use: stop what listens there, or choose another address")

// ErrNotListener is returned by Adopt for a file that is not a listening socket at the wanted address.
var ErrNotListener = errors.New("not the listening socket that was expected")

// listener is what *net.TCPListener and *net.UnixListener have in common.
type listener interface {
	net.Listener
	syscall.Conn
	SetDeadline(time.Time) error
}

// Socket is one public listening socket, TCP or (on Linux) a unix stream. It is safe for concurrent use.
type Socket struct {
	name    string
	network string // "tcp" or "unix"
	ln      listener
	raw     syscall.RawConn

	exchange sync.Mutex // a Proxy may put another listener in place when it is made
}

// Listen creates the public socket. The address is "host:port", or "unix:" and a path.
//
// A unix path that a dead launcher left behind is replaced; one at which something still listens is
// ErrInUse, because replacing it would take the port from a living payload without its knowledge.
func Listen(name, address string) (*Socket, error) {
	network, address := split(address)
	if network == "unix" {
		if err := removeStale(address); err != nil {
			return nil, fmt.Errorf("listen %s: %w", name, err)
		}
	}
	ln, err := listen(network, address)
	if err != nil {
		if inUse(err) {
			err = fmt.Errorf("%w (%w)", ErrInUse, err)
		}
		return nil, fmt.Errorf("listen %s: %w", name, err)
	}
	return open(name, network, ln)
}

// CheckAddress says why this system has no sockets of an address's sort; the error wraps errors.ErrUnsupported.
func CheckAddress(address string) error {
	network, _ := split(address)
	return checkNetwork(network)
}

// Adopt makes a Socket of a listening socket that came back from a service manager or a payload, after
// checking that it listens, is a stream and is bound to address, as Listen takes it. It is an *os.File on
// Linux and a socket handle on Windows, is duplicated and not consumed: the caller closes it.
func Adopt(name, address string, f syscall.Conn) (*Socket, error) {
	network, address := split(address)
	ln, err := adopt(f)
	if err != nil {
		return nil, fmt.Errorf("adopt %s: %w: %w", name, ErrNotListener, err)
	}
	s, err := open(name, network, ln)
	if err != nil {
		return nil, err
	}
	if err := s.check(address); err != nil {
		_ = ln.Close() // only our duplicate; the refusal is what counts
		return nil, fmt.Errorf("adopt %s: %w", name, err)
	}
	return s, nil
}

// InTheWay says that f, a listening socket as Adopt takes it, may be what keeps Listen from having address while it is open:
// it has the same port, or the same path.
func InTheWay(f syscall.Conn, address string) bool {
	network, address := split(address)
	ln, err := adopt(f)
	if err != nil {
		return false // no socket that listens
	}
	defer ln.Close()
	at, ok := ln.Addr().(*net.TCPAddr)
	if network != "tcp" || !ok {
		return ln.Addr().Network() == network && ln.Addr().String() == address
	}
	want, err := net.ResolveTCPAddr(network, address)
	return err == nil && at.Port == want.Port
}

func (s *Socket) check(address string) error {
	if ok, err := listening(s.raw); err != nil || !ok {
		return errors.Join(fmt.Errorf("%w: it does not listen", ErrNotListener), err)
	}
	if at := s.ln.Addr(); at.Network() != s.network || !sameAddress(at, address) {
		return fmt.Errorf("%w: it is bound to %s %s, not to %s %s", ErrNotListener, at.Network(), at, s.network, address)
	}
	return nil
}

// sameAddress compares the address of the listener with the configured one, which may name a host, leave
// it out (every interface) or leave the port to the kernel (0).
func sameAddress(bound net.Addr, wanted string) bool {
	b, ok := bound.(*net.TCPAddr)
	if !ok {
		return bound.String() == wanted
	}
	w, err := net.ResolveTCPAddr("tcp", wanted)
	if err != nil {
		return false
	}
	every := func(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }
	return (b.Port == w.Port || w.Port == 0) && (b.IP.Equal(w.IP) || every(b.IP) && every(w.IP))
}

func open(name, network string, ln net.Listener) (*Socket, error) {
	l, ok := ln.(listener)
	if !ok {
		_ = ln.Close() // nothing was ever accepted on it
		return nil, fmt.Errorf("listen %s: %w: %T", name, ErrNotListener, ln)
	}
	raw, err := l.SyscallConn()
	if err != nil {
		_ = l.Close() // nothing was ever accepted on it
		return nil, fmt.Errorf("listen %s: %w", name, err)
	}
	return &Socket{name: name, network: network, ln: l, raw: raw}, nil
}

// Name returns the name given to Listen.
func (s *Socket) Name() string { return s.name }

// Addr returns the address that the socket is bound to, with the real port.
func (s *Socket) Addr() net.Addr { return s.ln.Addr() }

// RawConn gives the descriptor to hand to a child, inside Control. Nothing else reaches it: File and Fd
// would set it blocking, and that flag belongs to the open socket, not to this process, so a version that
// loses the race for a connection would hang in accept(2).
func (s *Socket) RawConn() syscall.RawConn { return s.raw }

// Backlog returns how many connections wait in the kernel to be accepted, those whose client has given
// up meanwhile included. It is 0 where the kernel does not tell: unix sockets, Windows.
func (s *Socket) Backlog() int { return backlog(s.raw) }

// Nonblock sets O_NONBLOCK again. A payload that inherited the socket can clear it for everybody; the
// launcher calls this after each start of one. On Windows the flag is not shared and nothing happens.
func (s *Socket) Nonblock() error {
	if err := nonblock(s.raw); err != nil {
		return fmt.Errorf("set %s non-blocking: %w", s.name, err)
	}
	return nil
}

// Close gives the socket up, at the launcher's shutdown and at no other time: what waits in its queue is
// reset unless another process still holds it. The path of a unix socket stays for the next Listen.
func (s *Socket) Close() error { return s.ln.Close() }

// split separates the network from the address.
func split(address string) (network, rest string) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return "unix", path
	}
	return "tcp", address
}

// removeStale removes the socket file at path if nobody listens there. Only a refusal proves that: any
// other failure to connect (a full queue, no permission) leaves the file alone.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is in the way and is not a socket: move it, or choose another path", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = c.Close() // it only asked whether somebody is there
		return fmt.Errorf("%s: %w", path, ErrInUse)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s: %w (%w)", path, ErrInUse, err)
	}
	return os.Remove(path)
}
