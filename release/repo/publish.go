package repo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
)

// File is one file to be published.
type File struct {
	Name      string
	SizeBytes int64
	SHA256    string                        // 64 lower-case hex digits
	Open      func() (io.ReadCloser, error) // called at most once
}

// Bytes is a File held in memory.
func Bytes(name string, data []byte) File {
	sum := sha256.Sum256(data)
	return File{
		Name:      name,
		SizeBytes: int64(len(data)),
		SHA256:    hex.EncodeToString(sum[:]),
		Open:      func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
	}
}

// Report says what a Publish did.
type Report struct {
	Written   []string // in the order written
	Same      int      // files that were there already
	SizeBytes int64    // of what was written
}

// Publish makes dst hold files, in the order given, and the one named Pointer last of all. Nothing is
// written when a file exists with other bytes (ErrConflict). Publishing the same files again writes
// nothing. After an error or a crash dst is the old repository, with some files beside it that nothing
// points to, and the same call finishes the work.
func Publish(ctx context.Context, dst Store, files []File) (Report, error) {
	var report Report
	unlock, err := dst.Lock(ctx)
	if err != nil {
		return report, err
	}
	defer unlock()
	todo, err := missing(ctx, dst, files)
	if err != nil {
		return report, err
	}
	report.Same = len(files) - len(todo)
	for _, f := range todo {
		if err := put(ctx, dst, f); err != nil {
			return report, err
		}
		report.Written = append(report.Written, f.Name)
		report.SizeBytes += f.SizeBytes
	}
	return report, nil
}

// missing returns the files that dst lacks, the pointer last.
func missing(ctx context.Context, dst Store, files []File) ([]File, error) {
	var todo, pointer []File
	for _, f := range files {
		err := compare(ctx, dst, f)
		absent, other := errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrConflict)
		switch {
		case err == nil:
		case f.Name == Pointer && (absent || other):
			pointer = append(pointer, f)
		case absent:
			todo = append(todo, f)
		default:
			return nil, fmt.Errorf("compare %s: %w", f.Name, err)
		}
	}
	return append(todo, pointer...), nil
}

// compare reads the whole of what dst has under f's name. A size that agrees is no proof: a torn copy by
// another tool would then be taken as published for ever.
func compare(ctx context.Context, dst Store, f File) error {
	r, sizeBytes, err := dst.Open(ctx, f.Name)
	if err != nil {
		return err
	}
	defer r.Close()
	if sizeBytes != f.SizeBytes {
		return fmt.Errorf("%d bytes there, %d bytes here: %w", sizeBytes, f.SizeBytes, ErrConflict)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.LimitReader(r, f.SizeBytes+1)); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != f.SHA256 {
		return ErrConflict
	}
	return nil
}

func put(ctx context.Context, dst Store, f File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := f.Open()
	if err != nil {
		return fmt.Errorf("read %s: %w", f.Name, err)
	}
	defer r.Close()
	if err := dst.Put(ctx, f.Name, &checked{r: r, sum: sha256.New(), file: f}); err != nil {
		return fmt.Errorf("write %s: %w", f.Name, err)
	}
	return nil
}

// checked ends with an error instead of io.EOF when the bytes that passed are not those of file: a source
// that changed while it was read is never published under a digest that it does not have.
type checked struct {
	r         io.Reader
	sum       hash.Hash
	sizeBytes int64
	file      File
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.sum.Write(p[:n])
	c.sizeBytes += int64(n)
	if c.sizeBytes > c.file.SizeBytes {
		return n, fmt.Errorf("source of %s changed while it was read", c.file.Name)
	}
	if err == io.EOF && hex.EncodeToString(c.sum.Sum(nil)) != c.file.SHA256 {
		return n, fmt.Errorf("source of %s changed while it was read", c.file.Name)
	}
	return n, err
}
