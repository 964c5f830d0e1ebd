package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrTooLarge says that a file holds more bytes than the reader allows.
var ErrTooLarge = errors.New("larger than allowed")

// ReadFile reads a whole file of at most maxBytes, or fails with ErrTooLarge having read no more than that.
func ReadFile(d Disk, name string, maxBytes int64) ([]byte, error) {
	f, err := d.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	_ = f.Close() // a reader has nothing to lose
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(b)) > maxBytes {
		return nil, fmt.Errorf("read %s: %w (%d bytes)", name, ErrTooLarge, maxBytes)
	}
	return b, nil
}

// WriteFile replaces the file name by one that holds data, with exactly the mode perm.
//
// If power fails before it returns, name holds its old bytes or the new ones, whole. Once it has returned
// nil it holds the new ones. An error leaves either. The temporary file is name+".tmp" and is overwritten
// by the next attempt, so that attempts leave no litter; hence one writer per name.
func WriteFile(d Disk, name string, data []byte, perm fs.FileMode) error {
	tmp := name + ".tmp"
	if err := writeNew(d, tmp, data, perm); err != nil {
		_ = d.Remove(tmp) // the next attempt removes it as well
		return fmt.Errorf("write %s: %w", name, err)
	}
	// Power here: the temporary file is whole or not, and nobody reads it.
	if err := d.Rename(tmp, name); err != nil {
		_ = d.Remove(tmp)
		return fmt.Errorf("write %s: %w", name, err)
	}
	// Power here: the name leads to the old bytes or to the new ones, and both are whole.
	return d.SyncDir(filepath.Dir(name))
}

// writeNew makes a new synced file. O_EXCL does not follow a link that somebody planted.
func writeNew(d Disk, name string, data []byte, perm fs.FileMode) error {
	if err := d.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = d.Chmod(name, perm) // open lets the umask take bits away
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
