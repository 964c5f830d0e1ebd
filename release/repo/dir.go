package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/turnstone-go/turnstone/internal/durable"
)

type dir struct {
	disk durable.Disk
	path string
}

// Dir is the Store of a folder, which is made when the first file is put. Each Put is temporary file,
// sync, rename, sync of the folder; power lost on any of these lines leaves the old file, and at worst a
// temporary file whose name begins with a dot, which the next Put of the same name takes over.
func Dir(d durable.Disk, path string) Store { return dir{d, path} }

func (s dir) Get(ctx context.Context, name string, maxBytes int64) ([]byte, error) {
	file, err := s.file(ctx, name)
	if err != nil {
		return nil, err
	}
	data, err := durable.ReadFile(s.disk, file, maxBytes)
	if errors.Is(err, durable.ErrTooLarge) {
		return nil, fmt.Errorf("%s: %w (%d bytes)", name, ErrTooLong, maxBytes)
	}
	return data, err
}

func (s dir) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	file, err := s.file(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	f, err := s.disk.OpenFile(file, os.O_RDONLY, 0)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", file)
	}
	if err != nil {
		_ = f.Close() // only read
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func (s dir) Put(ctx context.Context, f File) error {
	file, err := s.file(ctx, f.Name)
	if err != nil {
		return err
	}
	r, err := f.reader()
	if err != nil {
		return err
	}
	defer r.Close()
	parent := filepath.Dir(file)
	if err := durable.MkdirAll(s.disk, parent, 0o755); err != nil {
		return err
	}
	temp := filepath.Join(parent, "."+filepath.Base(file)+".put")
	if err := s.write(temp, r); err != nil {
		_ = s.disk.Remove(temp) // the error that matters is the one returned
		return err
	}
	if err := s.disk.Rename(temp, file); err != nil {
		_ = s.disk.Remove(temp) // as above
		return err
	}
	return s.disk.SyncDir(parent)
}

func (s dir) write(temp string, r io.Reader) (err error) {
	f, err := s.disk.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	return f.Sync()
}

// Lock locks the folder itself, so that two publishers that reach it by different paths meet, and nothing of the
// lock is left where readers are served.
func (s dir) Lock(context.Context) (func(), error) {
	if err := durable.MkdirAll(s.disk, s.path, 0o755); err != nil {
		return nil, err
	}
	lock, err := durable.LockDir(s.path)
	if errors.Is(err, durable.ErrLocked) {
		return nil, fmt.Errorf("%s: %w", s.path, ErrBusy)
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = lock.Close() }, nil // the kernel drops the lock with the file, whatever Close says
}

func (s dir) file(ctx context.Context, name string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := checkName(name); err != nil {
		return "", err
	}
	return filepath.Join(s.path, filepath.FromSlash(name)), nil
}
