package host

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// sockets reads LISTEN_FDS and LISTEN_FDNAMES (sd_listen_fds(3)) and forgets them, so that they mean nothing to
// a child. Two files of one name are the same socket, kept and opened by systemd: the first will do. The
// files are non-blocking already, or nobody shares them yet, so Fd changes nothing for living payloads.
func sockets() map[string]*os.File {
	named := make(map[string]*os.File)
	for _, f := range activation.Files(true) {
		if named[f.Name()] != nil {
			_ = f.Close() // a duplicate
			continue
		}
		named[f.Name()] = f
	}
	return named
}

// keepSocket says FDSTORE=1 (sd_pid_notify_with_fds(3)). systemd drops what is at its end or in error unless
// FDPOLL=0; a listening socket never is, and a poll of it would be work for nothing.
func keepSocket(name string, conn syscall.RawConn) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	to, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("keep the socket %s: %w", name, err)
	}
	defer func() { _ = unix.Close(to) }() // everything was sent, or the error is told
	var sent error
	err = conn.Control(func(fd uintptr) {
		text := "FDSTORE=1\nFDPOLL=0\nFDNAME=" + name
		sent = unix.Sendmsg(to, []byte(text), unix.UnixRights(int(fd)), &unix.SockaddrUnix{Name: path}, unix.MSG_NOSIGNAL)
	})
	if err := errors.Join(err, sent); err != nil {
		return fmt.Errorf("keep the socket %s: %w", name, err)
	}
	return nil
}

func forgetSocket(name string) error {
	_, err := daemon.SdNotify(false, "FDSTOREREMOVE=1\nFDNAME="+name)
	return err
}
