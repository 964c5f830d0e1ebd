package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

func privileged() bool { return os.Geteuid() == 0 }

// checkFile follows links: whoever owns the file behind one has the last word.
func checkFile(name string) error {
	if os.Geteuid() != 0 { // we have no rights that its writer could want
		return nil
	}
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	own, ok := info.Sys().(*syscall.Stat_t)
	writers := info.Mode().Perm() & 0o022
	if ok && own.Gid == 0 {
		writers &^= 0o020
	}
	switch {
	case ok && own.Uid != 0:
		return fmt.Errorf("%w: %s belongs to uid %d, who then owns the launcher: chown root %s", ErrUnsafe, name, own.Uid, name)
	case writers != 0:
		return fmt.Errorf("%w: others may write to %s, and then own the launcher: chmod go-w %s", ErrUnsafe, name, name)
	}
	return nil
}

func checkSecret(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%w: others can use %s, which has mode %04o: chmod 600 %s", ErrUnsafe, name, mode, name)
	}
	return nil
}

func letIn(dir, group string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o001 != 0 {
		return nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return err
	}
	if err := os.Chown(dir, -1, gid); err != nil {
		return fmt.Errorf("let the group %s walk through %s: %w", group, dir, err)
	}
	return os.Chmod(dir, 0o710)
}
