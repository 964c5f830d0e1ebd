package durable

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Inside is the part of a Disk below one folder, for names that come from outside. They are relative, with
// slashes, and nothing is opened or made beyond the folder, whatever they say and whatever links lie there.
type Inside struct {
	disk Disk
	dir  string
	root *os.Root // nil on a disk that is not this machine's
}

// Below opens the part of d below dir. Close it when it is no longer needed.
func Below(d Disk, dir string) (*Inside, error) {
	in := &Inside{disk: d, dir: dir}
	if _, real := d.(osDisk); !real {
		return in, nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	in.root = root
	return in, nil
}

// path is where a local name lies on the disk.
func (in *Inside) path(name string) (string, error) {
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("leads out of %s", in.dir)}
	}
	return filepath.Join(in.dir, filepath.FromSlash(name)), nil
}

// Create makes a file that is not there yet.
func (in *Inside) Create(name string, perm fs.FileMode) (File, error) {
	const flag = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	p, err := in.path(name)
	if err != nil {
		return nil, err
	}
	if in.root == nil {
		return in.disk.OpenFile(p, flag, perm)
	}
	f, err := in.root.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Mkdir makes a folder whose parent is there.
func (in *Inside) Mkdir(name string, perm fs.FileMode) error {
	p, err := in.path(name)
	if err != nil || in.root == nil {
		return firstOf(err, func() error { return in.disk.Mkdir(p, perm) })
	}
	return in.root.Mkdir(name, perm)
}

// Chmod gives a file or folder a mode that the umask does not narrow.
func (in *Inside) Chmod(name string, perm fs.FileMode) error {
	p, err := in.path(name)
	if err != nil || in.root == nil {
		return firstOf(err, func() error { return in.disk.Chmod(p, perm) })
	}
	return in.root.Chmod(name, perm)
}

// SyncDir makes the names in a folder durable; "." is the folder itself.
func (in *Inside) SyncDir(name string) error {
	p, err := in.path(name)
	return firstOf(err, func() error { return in.disk.SyncDir(p) })
}

// Close gives the folder up.
func (in *Inside) Close() error {
	if in.root == nil {
		return nil
	}
	return in.root.Close()
}

func firstOf(err error, then func() error) error {
	if err != nil {
		return err
	}
	return then()
}
