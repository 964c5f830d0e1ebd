package durable

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// retry runs op once: no Linux file system refuses a rename because somebody reads the file.
func retry(_ time.Duration, op func() error) error { return op() }

// syncDir counts EINVAL as success: it is the answer of file systems that cannot sync a directory (some
// FUSE and network ones), and there a refusal to serve would make nothing safer.
func syncDir(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	err = f.Sync()
	if errors.Is(err, unix.EINVAL) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// lock takes the whole-file lock of f without waiting. flock(2) belongs to the open file, so that the
// kernel frees it when the last descriptor closes, by death too; os opens files close-on-exec, so no
// child keeps it.
func lock(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	if err := raw.Control(func(fd uintptr) {
		locked = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB)
	}); err != nil {
		return err
	}
	if errors.Is(locked, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return locked
}

// unlock frees the lock at once. Closing alone would not while a child that another goroutine is starting
// still shares the descriptor, which it does from its fork to its exec.
func unlock(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var freed error
	if err := raw.Control(func(fd uintptr) { freed = unix.Flock(int(fd), unix.LOCK_UN) }); err != nil {
		return err
	}
	return freed
}
