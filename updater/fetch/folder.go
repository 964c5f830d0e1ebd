package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// folder is a repository in a folder: a USB stick, a file share. It is opened anew for each file, so a
// stick may come and go, and no link in it leads out of it.
type folder string

func (dir folder) open(ctx context.Context, name string, from int64, _ string) (*stream, error) {
	root, err := os.OpenRoot(string(dir))
	if err != nil {
		// Not a missing file, even if the folder is what is missing: that must not look like "no newer one".
		return nil, fmt.Errorf("open the repository's folder: %s: is it there, and mounted?", err)
	}
	defer func() { _ = root.Close() }() // open files outlive it
	name = filepath.FromSlash(name)
	info, err := root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, filepath.Join(string(dir), name))
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // asked before it is opened: opening a pipe would wait for its writer
		return nil, fmt.Errorf("%s is not a file", filepath.Join(string(dir), name))
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	if from > info.Size() {
		from = 0
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		_ = f.Close() // a reader has nothing to lose
		return nil, err
	}
	return &stream{body: cancellable{f, ctx}, from: from, total: info.Size()}, nil
}

// cancellable is a file whose reading ends with a context, between two reads.
type cancellable struct {
	*os.File
	ctx context.Context
}

func (c cancellable) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.File.Read(b)
}
