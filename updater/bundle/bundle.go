// Package bundle carries a repository, or a part of one, in a single file to where there is no network.
//
// A bundle is a tar archive without compression, in one spelling: regular files with mode 0644 and time 0,
// named as in the repository, in ascending order of their names, and nothing else. Read compares every header
// with the one that Write would have made, so there are no links, holes, owners, repeated names or bytes
// between the files that two readers could see differently, and the same files always make the same bytes.
//
// It says nothing about whose files they are: nothing in a bundle is believed before package manifest has
// verified it, and a bundle has no signature of its own. Read looks at the headers only.
package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"time"
)

// ErrBundle is below every other error about what a bundle holds.
var ErrBundle = errors.New("not a bundle that can be used")

var (
	// ErrFormat is bytes that Write would not have made.
	ErrFormat = fmt.Errorf("%w: malformed", ErrBundle)
	// ErrTruncated is a bundle that ends too early: a copy that was interrupted.
	ErrTruncated = fmt.Errorf("%w: cut short; copy it again", ErrBundle)
	// ErrName is a name that no repository has, such as one that leaves the tree.
	ErrName = fmt.Errorf("%w: name not allowed", ErrBundle)
	// ErrOrder is a name that is there twice, or not in its place.
	ErrOrder = fmt.Errorf("%w: names must ascend, each one once", ErrBundle)
	// ErrTooMany is more files than a repository can need.
	ErrTooMany = fmt.Errorf("%w: too many files", ErrBundle)
	// ErrTooLong is a file that is longer than the caller allows.
	ErrTooLong = fmt.Errorf("%w: a file is longer than it may be", ErrBundle)
)

const (
	maxFiles   = 1 << 15
	blockBytes = 512
	endBytes   = 2 * blockBytes // of zeros behind the last file
)

var names = regexp.MustCompile(`^[a-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$`)

func checkName(name string) error {
	if len(name) > 512 || !names.MatchString(name) || strings.Contains(name, "..") {
		return fmt.Errorf("%w: %.80q", ErrName, name)
	}
	return nil
}

// Bundle is an open bundle. It is an fs.FS of its files, each of which can seek, and safe for concurrent use.
type Bundle struct {
	r     io.ReaderAt
	files map[string]extent
	names []string
	close func() error
}

// extent is where the bytes of a file lie.
type extent struct{ from, sizeBytes int64 }

// Open opens the bundle in a file. It returns one of the errors above, or that of the disk.
func Open(name string) (*Bundle, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: %s is not a file", ErrFormat, name)
	}
	var b *Bundle
	if err == nil {
		b, err = Read(f, info.Size())
	}
	if err != nil {
		_ = f.Close() // only read
		return nil, err
	}
	b.close = f.Close
	return b, nil
}

// Close ends the use of a bundle made by Open.
func (b *Bundle) Close() error {
	if b.close == nil {
		return nil
	}
	return b.close()
}

// Read finds the files of a bundle of sizeBytes bytes.
func Read(r io.ReaderAt, sizeBytes int64) (*Bundle, error) {
	b := &Bundle{r: r, files: map[string]extent{}}
	at := io.NewSectionReader(r, 0, sizeBytes)
	tr := tar.NewReader(at)
	for end := int64(0); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return b, checkEnd(r, end, sizeBytes)
		}
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, ErrTruncated
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrFormat, err)
		}
		from, _ := at.Seek(0, io.SeekCurrent) // it cannot fail here, and tar reads whole blocks only
		if err := b.add(h, end, from); err != nil {
			return nil, err
		}
		if h.Size > sizeBytes-from { // before a sum could overflow
			return nil, ErrTruncated
		}
		end = from + h.Size + padding(h.Size)
		if end > sizeBytes-endBytes {
			return nil, ErrTruncated
		}
		if err := zeros(r, from+h.Size, padding(h.Size)); err != nil {
			return nil, err
		}
	}
}

// add takes a file whose header begins at head and whose bytes begin at from.
func (b *Bundle) add(h *tar.Header, head, from int64) error {
	if err := checkName(h.Name); err != nil {
		return err
	}
	if n := len(b.names); n > 0 && b.names[n-1] >= h.Name {
		return fmt.Errorf("%w: %.80q", ErrOrder, h.Name)
	}
	if len(b.names) == maxFiles {
		return fmt.Errorf("%w: more than %d", ErrTooMany, maxFiles)
	}
	want, err := header(h.Name, h.Size)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrFormat, err)
	}
	got := make([]byte, len(want))
	if from-head != int64(len(want)) {
		return fmt.Errorf("%w: header of %.80q", ErrFormat, h.Name)
	}
	if _, err := b.r.ReadAt(got, head); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%w: header of %.80q", ErrFormat, h.Name)
	}
	b.files[h.Name] = extent{from, h.Size}
	b.names = append(b.names, h.Name)
	return nil
}

// header is the only one that a file may have.
func header(name string, sizeBytes int64) ([]byte, error) {
	var b bytes.Buffer
	err := tar.NewWriter(&b).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: sizeBytes, Mode: 0o644})
	return b.Bytes(), err
}

func padding(sizeBytes int64) int64 { return -sizeBytes & (blockBytes - 1) }

func checkEnd(r io.ReaderAt, end, sizeBytes int64) error {
	switch {
	case sizeBytes < end+endBytes:
		return ErrTruncated
	case sizeBytes > end+endBytes:
		return fmt.Errorf("%w: bytes behind the end", ErrFormat)
	}
	return zeros(r, end, endBytes)
}

func zeros(r io.ReaderAt, from, count int64) error {
	got := make([]byte, count)
	if _, err := r.ReadAt(got, from); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !bytes.Equal(got, make([]byte, count)) {
		return fmt.Errorf("%w: bytes between the files", ErrFormat)
	}
	return nil
}

// Names are those of all files, ascending.
func (b *Bundle) Names() []string { return b.names }

// Get returns a whole small file: a bundle is a source of metadata. What it has not satisfies
// errors.Is(err, fs.ErrNotExist).
func (b *Bundle) Get(_ context.Context, name string, maxBytes int64) ([]byte, error) {
	at, ok := b.files[name]
	if !ok {
		return nil, fmt.Errorf("%s is not in the bundle: %w", name, fs.ErrNotExist)
	}
	if at.sizeBytes > maxBytes {
		return nil, fmt.Errorf("%w: %s has %d bytes, at most %d", ErrTooLong, name, at.sizeBytes, maxBytes)
	}
	data := make([]byte, at.sizeBytes)
	_, err := io.ReadFull(io.NewSectionReader(b.r, at.from, at.sizeBytes), data)
	return data, err
}

// Open opens a file for reading; it is an io.Seeker too.
func (b *Bundle) Open(name string) (fs.File, error) {
	at, ok := b.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return file{io.NewSectionReader(b.r, at.from, at.sizeBytes), name}, nil
}

type file struct {
	*io.SectionReader
	name string
}

func (f file) Close() error               { return nil } // the bundle is what is open
func (f file) Stat() (fs.FileInfo, error) { return f, nil }
func (f file) Name() string               { return path.Base(f.name) }
func (f file) Mode() fs.FileMode          { return 0o444 }
func (f file) ModTime() time.Time         { return time.Time{} }
func (f file) IsDir() bool                { return false }
func (f file) Sys() any                   { return nil }
