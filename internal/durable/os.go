package durable

import (
	"fmt"
	"io/fs"
	"os"
)

// OS returns the disk of this machine.
func OS() Disk { return osDisk{} }

type osDisk struct{}

func (osDisk) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	var f *os.File
	err := retry(openPatience, transient, func() (err error) {
		f, err = os.OpenFile(name, flag, perm)
		return err
	})
	if busy(err) { // and not one that was refused: that is nobody's open file
		err = blame(err, name, holders)
	}
	if err != nil {
		return nil, err // and not a File that holds a nil *os.File
	}
	return osFile{f}, nil
}

// osFile is a file of this machine.
type osFile struct{ *os.File }

func (f osFile) Allocate(sizeBytes int64) error {
	info, err := f.Stat()
	if err != nil || info.Size() >= sizeBytes { // and Windows would cut off what is beyond
		return err
	}
	if err := allocate(f.File, sizeBytes); err != nil {
		return &fs.PathError{Op: "allocate", Path: f.Name(), Err: err}
	}
	return nil
}

func (osDisk) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
func (osDisk) Lstat(name string) (fs.FileInfo, error)     { return os.Lstat(name) }
func (osDisk) Mkdir(name string, perm fs.FileMode) error  { return os.Mkdir(name, perm) }
func (osDisk) Chmod(name string, perm fs.FileMode) error  { return os.Chmod(name, perm) }

func (osDisk) Rename(from, to string) error {
	err := retry(changePatience, transient, func() error { return os.Rename(from, to) })
	return blame(err, from, func(string) []string { return append(holders(from), holders(to)...) })
}

func (osDisk) Remove(name string) error {
	return blame(retry(changePatience, transient, func() error { return os.Remove(name) }), name, holders)
}

func (osDisk) SyncDir(name string) error {
	if err := syncDir(name); err != nil {
		return fmt.Errorf("sync directory %s: %w", name, err)
	}
	return nil
}

func (osDisk) Free(name string) (int64, error) {
	n, err := free(name)
	if err != nil {
		return 0, &fs.PathError{Op: "free space of", Path: name, Err: err}
	}
	return n, nil
}
