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
	Open      func() (io.ReadCloser, error) // may be called again after the last one was closed
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
//
// When somebody else publishes at the same time, one of the two gets ErrBusy and the pointer is the other's.
func Publish(ctx context.Context, dst Store, files []File) (Report, error) {
	return PublishIf(ctx, dst, files, func(context.Context) error { return nil })
}

// PublishIf is Publish for who looks at what is there first: no other publisher comes between fits, which is
// called once and whose error ends it, and the new pointer.
func PublishIf(ctx context.Context, dst Store, files []File, fits func(context.Context) error) (Report, error) {
	var report Report
	unlock, err := dst.Lock(ctx)
	if err != nil {
		return report, err
	}
	defer unlock()
	if err := fits(ctx); err != nil {
		return report, err
	}
	todo, err := missing(ctx, dst, files)
	if err != nil {
		return report, err
	}
	report.Same = len(files) - len(todo)
	for _, f := range todo {
		written, err := put(ctx, dst, f)
		if err != nil {
			return report, err
		}
		if !written {
			report.Same++
			continue
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

// summed is a Store that knows what it holds without reading it. The sum is "" where it does not.
type summed interface {
	sum(ctx context.Context, name string) (sha256 string, sizeBytes int64, err error)
}

// compare reads the whole of what dst has under f's name. A size that agrees is no proof: a torn copy by
// another tool would then be taken as published for ever.
func compare(ctx context.Context, dst Store, f File) error {
	if s, ok := dst.(summed); ok {
		sum, sizeBytes, err := s.sum(ctx, f.Name)
		if err != nil {
			return err
		}
		if sum != "" {
			return differs(f, sizeBytes, sum)
		}
	}
	r, sizeBytes, err := dst.Open(ctx, f.Name)
	if err != nil {
		return err
	}
	defer r.Close()
	if sizeBytes != f.SizeBytes {
		return differs(f, sizeBytes, "")
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.LimitReader(r, f.SizeBytes+1)); err != nil {
		return err
	}
	return differs(f, sizeBytes, hex.EncodeToString(sum.Sum(nil)))
}

func differs(f File, sizeBytes int64, sum string) error {
	if sizeBytes != f.SizeBytes {
		return fmt.Errorf("%d bytes there, %d bytes here: %w", sizeBytes, f.SizeBytes, ErrConflict)
	}
	if sum != f.SHA256 {
		return ErrConflict
	}
	return nil
}

// put writes f and says whether it did: somebody who publishes the same files may have been faster, and so
// may an earlier try of ours whose answer was lost.
func put(ctx context.Context, dst Store, f File) (written bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	err = dst.Put(ctx, f)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, ErrBusy) {
		switch there := compare(ctx, dst, f); {
		case there == nil:
			return false, nil
		case errors.Is(there, ErrConflict):
			err = ErrBusy // it was not there, or was another, when we looked at all of them
		default:
			err = there
		}
	}
	if err != nil {
		return false, fmt.Errorf("write %s: %w", f.Name, err)
	}
	return true, nil
}

// reader opens f's source. It ends with an error when the bytes that passed are not those of f: a source
// that changed while it was read is never published under a digest that it does not have.
func (f File) reader() (io.ReadCloser, error) {
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name, err)
	}
	return &checked{ReadCloser: r, sum: sha256.New(), file: f}, nil
}

type checked struct {
	io.ReadCloser
	sum       hash.Hash
	sizeBytes int64
	file      File
}

// Read holds the last bytes back until the digest is right, for those who stop at the length that they were
// told and never see the end.
func (c *checked) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.sum.Write(p[:n])
	c.sizeBytes += int64(n)
	over := c.sizeBytes > c.file.SizeBytes || err == io.EOF && c.sizeBytes < c.file.SizeBytes
	whole := c.sizeBytes == c.file.SizeBytes && (n > 0 || err == io.EOF)
	if over || whole && hex.EncodeToString(c.sum.Sum(nil)) != c.file.SHA256 {
		return 0, fmt.Errorf("source of %s changed while it was read", c.file.Name)
	}
	return n, err
}
