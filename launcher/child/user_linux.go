package child

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

const accountHint = `user = "acme" (useradd --system acme makes it)`

// logon has nothing to hold: an account is its numbers.
//
//lint:ignore U1000 used on Windows alone
type logon struct{}

func checkAccount(name string) error {
	_, err := user.Lookup(name)
	return err
}

func findAccount(name, _ string) (*User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &User{UID: uint32(uid), GID: uint32(gid), Home: u.HomeDir}, nil
}

func (u *User) give(dir string) error {
	if err := os.Chown(dir, int(u.UID), int(u.GID)); err != nil {
		return fmt.Errorf("give %s to uid %d: %w", dir, u.UID, err)
	}
	return nil
}

// show has nothing to do: the modes of what is in the folder let everybody read it.
func (u *User) show(string) error { return nil }

// open lets the account open its own output again: a program may open /dev/stderr.
func (u *User) open(f *os.File) error { return f.Chown(int(u.UID), int(u.GID)) }

func (u *User) attr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}}
}
