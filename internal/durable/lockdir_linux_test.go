package durable

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A file system that locks only what is open for writing, as NFS does: publishers meet there too.
func TestLockDirWhereOnlyFilesCanBeLocked(t *testing.T) {
	dir := t.TempDir()
	files := func(f *os.File) error {
		if info, err := f.Stat(); err != nil || info.IsDir() {
			return errors.Join(err, unix.EBADF)
		}
		return lock(f)
	}
	f, err := lockDirBy(files, dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, dirLock); f.Name() != want {
		t.Errorf("%s is locked, should be %s", f.Name(), want)
	}
	if _, err := lockDirBy(files, dir); !errors.Is(err, ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
	if err := errors.Join(unlock(f), f.Close()); err != nil {
		t.Fatal(err)
	}
	f, err = lockDirBy(files, dir)
	if err != nil {
		t.Fatalf("free, and not to be had: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
