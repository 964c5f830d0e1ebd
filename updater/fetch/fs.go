package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// OpenFS makes a repository of a file system whose files can seek, such as an open bundle. It is as little
// trusted as any other.
func OpenFS(files fs.FS) *Repository {
	return &Repository{o: Options{Attempts: 1}, srcs: []named{{tree{files}, "files"}}} // nothing there gets better by waiting
}

type tree struct{ fs.FS }

func (t tree) open(ctx context.Context, name string, from int64, _ string) (*stream, error) {
	f, err := t.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	seeker, ok := f.(io.Seeker)
	if err == nil && (!ok || !info.Mode().IsRegular()) {
		err = fmt.Errorf("%s is not a file", name)
	}
	if err == nil && from > info.Size() {
		from = 0
	}
	if err == nil {
		_, err = seeker.Seek(from, io.SeekStart)
	}
	if err != nil {
		_ = f.Close() // a reader has nothing to lose
		return nil, err
	}
	return &stream{body: interruptible{f, ctx}, from: from, total: info.Size()}, nil
}

// interruptible is a file whose reading ends with a context, between two reads.
type interruptible struct {
	fs.File
	ctx context.Context
}

func (c interruptible) Read(b []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.File.Read(b)
}
