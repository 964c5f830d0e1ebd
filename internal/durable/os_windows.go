package durable

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"golang.org/x/sys/windows"
)

// transient says that somebody else has the file open. ERROR_ACCESS_DENIED is among the answers because a file
// that waits for its deletion, and one that is being scanned, give it.
func transient(err error) bool { return busy(err) || errors.Is(err, windows.ERROR_ACCESS_DENIED) }

// busy is what Windows says of a file that somebody has open.
func busy(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_LOCK_VIOLATION)
}

// syncDir flushes a directory. FlushFileBuffers wants a handle with write access, and CreateFile gives one
// for a directory only with FILE_FLAG_BACKUP_SEMANTICS; the handle of os.Open is refused.
// https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-flushfilebuffers
func syncDir(name string) error {
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return err
	}
	h, err := windows.CreateFile(path, windows.GENERIC_WRITE,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
		nil, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	return errors.Join(windows.FlushFileBuffers(h), windows.CloseHandle(h))
}

// lock takes one byte of f without waiting. LockFileEx hides locked bytes from readers, and the holder's
// process id at the start of the file is to be readable: so the byte is one far behind the end. Windows
// frees the lock when the handle closes, by death too.
func lock(f *os.File) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	if err := raw.Control(func(fd uintptr) {
		at := windows.Overlapped{OffsetHigh: 1 << 30}
		locked = windows.LockFileEx(windows.Handle(fd),
			windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	}); err != nil {
		return err
	}
	if errors.Is(locked, windows.ERROR_LOCK_VIOLATION) {
		return ErrLocked
	}
	return locked
}

// lockDir opens a file that no other may write meanwhile, and that Windows removes with the handle, by death too.
// LockFileEx refuses directories, and to open one for itself would keep readers and SyncDir out. Who comes while the
// file is being removed is refused as who has no right to it is, and tries again.
// https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew (FILE_FLAG_DELETE_ON_CLOSE)
func lockDir(name string) (*os.File, error) {
	file := filepath.Join(name, dirLock)
	path, err := windows.UTF16PtrFromString(file)
	if err != nil {
		return nil, err
	}
	var h windows.Handle
	refused := func(err error) bool { return errors.Is(err, windows.ERROR_ACCESS_DENIED) }
	err = retry(openPatience, refused, func() (err error) {
		h, err = windows.CreateFile(path, windows.GENERIC_WRITE|windows.DELETE,
			windows.FILE_SHARE_READ|windows.FILE_SHARE_DELETE, nil, windows.OPEN_ALWAYS,
			windows.FILE_ATTRIBUTE_HIDDEN|windows.FILE_FLAG_DELETE_ON_CLOSE, 0)
		return err
	})
	if errors.Is(err, windows.ERROR_SHARING_VIOLATION) {
		return nil, ErrLocked
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: file, Err: err}
	}
	return os.NewFile(uintptr(h), file), nil
}

// unlock has nothing to do: handles are not inherited unless that is asked for, so closing frees the lock.
func unlock(*os.File) error { return nil }

// allocate sets the allocation size, which is not the length. It holds until the file is closed.
// https://learn.microsoft.com/windows/win32/api/winbase/ns-winbase-file_allocation_info
func allocate(f *os.File, size int64) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var taken error
	if err := raw.Control(func(fd uintptr) {
		taken = windows.SetFileInformationByHandle(windows.Handle(fd), windows.FileAllocationInfo,
			(*byte)(unsafe.Pointer(&size)), uint32(unsafe.Sizeof(size)))
	}); err != nil {
		return err
	}
	if slices.ContainsFunc(fullErrors, func(e error) bool { return errors.Is(taken, e) }) {
		return taken
	}
	return nil // a network share may not know it; writing tells in time
}

// free honours quotas.
func free(name string) (int64, error) {
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, err
	}
	var mine, total, all uint64
	if err := windows.GetDiskFreeSpaceEx(path, &mine, &total, &all); err != nil {
		return 0, err
	}
	return int64(min(mine, math.MaxInt64)), nil
}

// held is the length: what was allocated beyond it was given back when the file was closed.
func held(info fs.FileInfo) int64 { return info.Size() }

// fullErrors are the answers of a disk, or a quota, that has no room.
var fullErrors = []error{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_DISK_QUOTA_EXCEEDED}
