package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// maxPath is what fits into sockaddr_un with its final zero byte, unix(7).
const maxPath = 107

func address(stateDir, _ string) string { return filepath.Join(stateDir, "control.sock") }

const addressHint = `name a shorter path: [control] socket = "/run/acme-agent/control.sock"`

func checkAddress(addr string) error {
	if len(addr) > maxPath {
		return fmt.Errorf("%d bytes long; the path of a unix socket has at most %d", len(addr), maxPath)
	}
	return nil
}

func listen(addr, readGroup string) (net.Listener, error) {
	if err := checkAddress(addr); err != nil {
		return nil, fmt.Errorf("open control socket %s: %w", addr, err)
	}
	if err := removeStale(addr); err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: addr, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	made, err := os.Lstat(addr)
	if err = errors.Join(err, protect(addr, readGroup)); err != nil {
		return nil, errors.Join(fmt.Errorf("open control socket: %w", err), ln.Close())
	}
	return &socket{ln, made}, nil
}

// socket knows its own file, which its path may lead past.
type socket struct {
	*net.UnixListener
	made os.FileInfo
}

// Close removes its own file and no other's.
func (s *socket) Close() error {
	s.SetUnlinkOnClose(!lost(s))
	return s.UnixListener.Close()
}

// lost says that the path of the socket does not lead to it any more.
func lost(ln net.Listener) bool {
	s, ok := ln.(*socket)
	if !ok {
		return false
	}
	now, err := os.Lstat(s.Addr().String())
	return err != nil || !os.SameFile(s.made, now)
}

// limit bounds the next Accept.
func limit(ln net.Listener, d time.Duration) {
	if s, ok := ln.(*socket); ok {
		_ = s.SetDeadline(time.Now().Add(d)) // fails only when closed; then Accept does too
	}
}

// removeStale removes a socket and nothing else.
func removeStale(addr string) error {
	st, err := os.Lstat(addr)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there and is not a socket: move it away, or name another path in [control] socket", addr)
	}
	return os.Remove(addr)
}

// protect sets who may connect. The kernel lets connect whoever may write to the file, unix(7). Between
// the making of the socket and this, the umask decides; peers that do not belong are refused all the same
// when they ask.
func protect(addr, readGroup string) error {
	if readGroup == "" {
		return os.Chmod(addr, 0o600)
	}
	g, err := user.LookupGroup(readGroup)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return err
	}
	if err := os.Chown(addr, -1, gid); err != nil {
		return fmt.Errorf("give the control socket to the group %s: %w", readGroup, err)
	}
	return os.Chmod(addr, 0o660)
}

func dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", addr)
}

// peer is who is at the other end, by the kernel's word at the time of connect, unix(7) SO_PEERCRED.
func peer(c net.Conn) (caller, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return caller{}, fmt.Errorf("a %T has no peer credentials", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return caller{}, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return caller{}, err
	}
	if credErr != nil {
		return caller{}, credErr
	}
	owner := cred.Uid == 0 || int(cred.Uid) == os.Geteuid()
	return caller{name: fmt.Sprintf("uid %d", cred.Uid), admin: owner}, nil
}
