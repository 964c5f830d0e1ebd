package repo

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// Files shows a store as a file system whose files can be read from any byte on, for as long as the context lasts. It
// lists nothing.
func Files(ctx context.Context, s Store) fs.FS { return files{ctx, s} }

type files struct {
	ctx   context.Context
	store Store
}

func (f files) Open(name string) (fs.File, error) {
	r, sizeBytes, err := f.store.Open(f.ctx, name)
	if err != nil {
		return nil, err
	}
	return &file{ReadCloser: r, name: name, sizeBytes: sizeBytes}, nil
}

// file is its own fs.FileInfo.
type file struct {
	io.ReadCloser
	name      string
	sizeBytes int64
}

// Seek goes on from the start, which is where every file begins, by reading.
func (f *file) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart {
		return 0, fmt.Errorf("seek in %s: from the start only", f.name)
	}
	return io.CopyN(io.Discard, f, offset)
}

func (f *file) Stat() (fs.FileInfo, error) { return f, nil }
func (f *file) Name() string               { return f.name }
func (f *file) Size() int64                { return f.sizeBytes }
func (f *file) Mode() fs.FileMode          { return 0o444 }
func (f *file) ModTime() time.Time         { return time.Time{} }
func (f *file) IsDir() bool                { return false }
func (f *file) Sys() any                   { return nil }
