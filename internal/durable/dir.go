package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// maxDepth bounds the trees that RemoveAll walks.
const maxDepth = 64

// MkdirAll makes a directory and its missing parents.
//
// Once it has returned nil, name survives a power cut, even if it was there before and the process that
// made it died before it could sync: each directory is synced into its parent before anything is made
// inside it, so only the deepest one that exists can still be in doubt, and that one is synced again.
// If power fails before, some first part of the path exists.
func MkdirAll(d Disk, name string, perm fs.FileMode) error {
	name = filepath.Clean(name)
	parent := filepath.Dir(name)
	exists, err := isDir(d, name)
	if err != nil {
		return err
	}
	if exists {
		return syncExisting(d, parent)
	}
	if parent != name {
		if err := MkdirAll(d, parent, perm); err != nil {
			return err
		}
	}
	if err := d.Mkdir(name, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.SyncDir(parent)
}

// syncExisting lets be a parent that this account may not open: what is in it was made by somebody else.
func syncExisting(d Disk, parent string) error {
	if err := d.SyncDir(parent); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// isDir says whether name is a directory or a link to one. Something else by that name is an error.
func isDir(d Disk, name string) (bool, error) {
	info, err := d.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil || info.IsDir() {
		return err == nil, err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		if _, err := d.ReadDir(name); err == nil {
			return true, nil
		}
	}
	return false, fmt.Errorf("%s is not a directory", name)
}

// RemoveAll removes a file or a tree, without following links. A name that is not there is no error.
//
// Once it has returned nil, name stays gone through a power cut. If power fails before, any part of the
// tree may be left: whoever keeps a tree whose wholeness matters removes first the file that vouches for
// it, durably, and the rest after that.
func RemoveAll(d Disk, name string) error {
	if err := removeTree(d, name, maxDepth); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	if err := d.SyncDir(filepath.Dir(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func removeTree(d Disk, name string, depth int) error {
	if depth == 0 {
		return fmt.Errorf("more than %d directories deep", maxDepth)
	}
	info, err := d.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		entries, err := d.ReadDir(name)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := removeTree(d, filepath.Join(name, e.Name()), depth-1); err != nil {
				return err
			}
		}
	}
	return d.Remove(name)
}
