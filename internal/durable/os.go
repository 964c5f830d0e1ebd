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
	f, err := open(name, flag, perm)
	if err != nil {
		return nil, err // and not a File that holds a nil *os.File
	}
	return osFile{f}, nil
}

func open(name string, flag int, perm fs.FileMode) (f *os.File, err error) {
	err = retry(openPatience, transient, func() (err error) {
		f, err = os.OpenFile(name, flag, perm)
		return err
	})
	return f, blameBusy(err, name)
}

// blameBusy leaves an open that was refused as it is: that is nobody's open file.
func blameBusy(err error, name string) error {
	if !busy(err) {
		return err
	}
	return blame(err, name, holders)
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

// Insist is for what needs a file and is not in Disk, as the start of a program is: while another program has the file
// open it is repeated, for as long as a rename is, and the error says then who that is. Op must bear being repeated.
func Insist(name string, op func() error) error {
	return blameBusy(retry(changePatience, transient, op), name)
}

// Busy says whether an error means that another program has a file open. It passes, and speaks against nobody.
func Busy(err error) bool { return busy(err) }

func (osDisk) SyncDir(name string) error {
	if err := retry(openPatience, busy, func() error { return syncDir(name) }); err != nil {
		return fmt.Errorf("sync directory %s: %w", name, blameBusy(err, name))
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
