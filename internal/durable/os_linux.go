package durable

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

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

// lockDir locks the directory itself: there is no file that a second one could wait for while the first removes it.
// NFS locks only what is open for writing, as a directory never is (EBADF); there a file in it stands for it, and stays.
func lockDir(name string) (*os.File, error) { return lockDirBy(lock, name) }

func lockDirBy(lock func(*os.File) error, name string) (*os.File, error) {
	f, err := locked(lock, name, os.O_RDONLY)
	if errors.Is(err, unix.EBADF) {
		return locked(lock, filepath.Join(name, dirLock), os.O_RDWR|os.O_CREATE)
	}
	return f, err
}

func locked(lock func(*os.File) error, name string, flag int) (*os.File, error) {
	f, err := os.OpenFile(name, flag, 0o644)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		_ = f.Close() // only opened
		return nil, err
	}
	return f, nil
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

// allocate leaves the length alone (FALLOC_FL_KEEP_SIZE). Some file systems cannot, and say so.
func allocate(f *os.File, size int64) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var taken error
	if err := raw.Control(func(fd uintptr) {
		for {
			taken = unix.Fallocate(int(fd), unix.FALLOC_FL_KEEP_SIZE, 0, size)
			if taken != unix.EINTR {
				return
			}
		}
	}); err != nil {
		return err
	}
	if errors.Is(taken, unix.EOPNOTSUPP) || errors.Is(taken, unix.ENOSYS) {
		return nil
	}
	return taken
}

// free leaves out what is kept for root, also for root: the last blocks are for mending the machine.
func free(name string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(name, &st); err != nil {
		return 0, err
	}
	if st.Blocks == 0 { // a file system without a size
		return math.MaxInt64, nil
	}
	unit := st.Frsize
	if unit == 0 {
		unit = st.Bsize
	}
	return int64(min(st.Bavail, math.MaxInt64/uint64(unit))) * unit, nil
}

// held is what a file takes on the disk, with what was allocated beyond its end.
func held(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

// fullErrors are the answers of a disk, or a quota, that has no room.
var fullErrors = []error{unix.ENOSPC, unix.EDQUOT}
