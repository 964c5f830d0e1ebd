package control

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/turnstone-go/turnstone/internal/sockfile"
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
	ln, err := sockfile.Listen(addr, func() error { return protect(addr, readGroup) })
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	return ln, nil
}

// lost says that the path of the socket does not lead to it any more.
func lost(ln net.Listener) bool {
	s, ok := ln.(*sockfile.Listener)
	return ok && s.Lost()
}

// limit bounds the next Accept.
func limit(ln net.Listener, d time.Duration) {
	if s, ok := ln.(*sockfile.Listener); ok {
		_ = s.SetDeadline(time.Now().Add(d)) // fails only when closed; then Accept does too
	}
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
