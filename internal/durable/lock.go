package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// ErrLocked says that another process holds the lock.
var ErrLocked = errors.New("locked by another process")

// LockFile is a lock that the kernel holds for this process.
type LockFile struct{ file *os.File }

// Lock takes the lock named by a file, which it creates and which stays behind; it does not wait. The
// kernel frees the lock when the process ends, in whichever way, so a lock is never stale. The error
// satisfies errors.Is(err, ErrLocked) when somebody else holds it, and then names the holder if it can.
//
// The file is not durable and need not be: it says nothing once no process holds it. It must not be
// removed, or two processes could hold the locks of two files that had the same name. Network file
// systems are out of scope.
func Lock(name string) (*LockFile, error) {
	f, err := open(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		err = fmt.Errorf("lock %s%s: %w", name, holder(f), err)
		_ = f.Close() // nothing was written
		return nil, err
	}
	_ = f.Truncate(0) // the process id is a courtesy to the next one's error message
	_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return &LockFile{f}, nil
}

// dirLock is the file that stands for a directory where that cannot be locked itself.
const dirLock = ".dir.lock"

// LockDir takes the lock of a directory as Lock does that of a file, and leaves nothing behind in it, however the
// process ends. On Windows, where a directory cannot be locked, a hidden file is in it meanwhile; on NFS, it stays.
func LockDir(name string) (*LockFile, error) {
	f, err := lockDir(name)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return &LockFile{f}, nil
}

// holder is " (held by process N)", or empty if the file does not say.
func holder(f *os.File) string {
	var b [20]byte
	n, err := f.ReadAt(b[:], 0)
	if err != nil && err != io.EOF {
		return ""
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b[:n])))
	if err != nil || pid <= 0 {
		return ""
	}
	return fmt.Sprintf(" (held by process %d)", pid)
}

// Close frees the lock.
func (l *LockFile) Close() error { return errors.Join(unlock(l.file), l.file.Close()) }
