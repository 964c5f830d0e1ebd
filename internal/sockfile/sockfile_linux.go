// Package sockfile makes listening unix sockets that know their own file, which their path may lead past by and by:
// somebody removed it, or another process has put its own there. It is for Linux.
package sockfile

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
)

// Listener is a listening unix socket and its file.
type Listener struct {
	*net.UnixListener
	made os.FileInfo
}

// Listen takes the place of a socket that an earlier process left, so the caller's own lock must keep two of them apart.
// Then protect says who may connect; until it has, the umask does.
func Listen(path string, protect func() error) (*Listener, error) {
	if err := Remove(path); err != nil {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	made, err := os.Lstat(path)
	if err = errors.Join(err, protect()); err != nil {
		_ = ln.Close() // unused
		return nil, err
	}
	return &Listener{ln, made}, nil
}

// Lost says that the path does not lead to this socket any more.
func (l *Listener) Lost() bool {
	now, err := os.Lstat(l.Addr().String())
	return err != nil || !os.SameFile(l.made, now)
}

// Close removes its own file and no other's.
func (l *Listener) Close() error {
	l.SetUnlinkOnClose(!l.Lost())
	return l.UnixListener.Close()
}

// Remove removes a socket and nothing else, so that a wrong path in a configuration costs no file.
func Remove(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there and is not a socket: move it away, or name another path", path)
	}
	return os.Remove(path)
}
