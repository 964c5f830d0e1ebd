// Package archive reads the archives that a release may consist of: tar.gz, tar.zst and zip.
//
// The promise: whatever the bytes are, Walk hands over at most MaxFiles regular files with at most the stated
// number of bytes, each under a path that is the same file on every system and stays inside the folder that it
// is written to. Two paths never name one file, also on a disk that ignores case, and no path is a folder for
// another. Anything else (a link, a device, a name that only one system can have) is refused, since what an
// archive means must not depend on where it is unpacked.
//
// It opens no file and writes none, and it does not ask who made the archive: that has been verified before.
package archive

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Format is how an archive is packed.
type Format string

// The formats, named as their files end.
const (
	TarGz  Format = "tar.gz"
	TarZst Format = "tar.zst"
	Zip    Format = "zip"
)

// Bounds of an archive.
const (
	MaxFiles = 4096
	MaxPath  = 200 // bytes: Windows paths are short
	maxDepth = 16
	// maxEntries bounds what is no file, such as one folder again and again: a small archive could have any number.
	maxEntries = 4 * MaxFiles
	// window is the memory that a zstd stream may ask for: what level 19 uses.
	window = 8 << 20
)

// ErrArchive says that the bytes are no archive that Walk takes. The text says which entry is at fault.
var ErrArchive = errors.New("not an archive that can be a release")

// Entry is one regular file.
type Entry struct {
	Path      string // with slashes, relative
	SizeBytes int64
	Exec      bool // some account may execute it
}

// FormatOf returns the format that a file's name ends in, "" if it is none.
func FormatOf(name string) Format {
	name = strings.ToLower(name)
	for ending, f := range map[string]Format{".tar.gz": TarGz, ".tgz": TarGz, ".tar.zst": TarZst, ".zip": Zip} {
		if strings.HasSuffix(name, ending) {
			return f
		}
	}
	return ""
}

// Known says whether there is such a format.
func (f Format) Known() bool { return f == TarGz || f == TarZst || f == Zip }

// Walk reads an archive of sizeBytes from r and calls file for every regular file in it, in the order of the
// archive. file may leave bytes unread. Folders count by the paths of their files alone, so an empty one is not
// kept. The error is file's own, ctx's, r's, or ErrArchive; more than limit bytes of files are ErrArchive.
func Walk(ctx context.Context, f Format, r io.ReaderAt, sizeBytes, limit int64, file func(Entry, io.Reader) error) error {
	w := &walk{ctx: ctx, left: limit, file: file, names: names{}}
	err := w.read(f, r, sizeBytes)
	if err == nil && w.files == 0 {
		return fmt.Errorf("%w: no file in it", ErrArchive)
	}
	return err
}

func (w *walk) read(f Format, r io.ReaderAt, sizeBytes int64) error {
	switch f {
	case Zip:
		return w.zip(r, sizeBytes)
	case TarGz:
		z, err := gzip.NewReader(w.raw(r, sizeBytes))
		if err != nil {
			return w.refuse("gzip", err)
		}
		return w.tar(z)
	case TarZst:
		z, err := zstd.NewReader(w.raw(r, sizeBytes), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
		if err != nil {
			return w.refuse("zstd", err)
		}
		defer z.Close()
		return w.tar(z)
	}
	return fmt.Errorf("%w: format %q", ErrArchive, f)
}

// walk is one reading of an archive.
type walk struct {
	ctx    context.Context
	left   int64 // bytes of files that may still come
	files  int
	count  int // of all entries, of whatever kind
	file   func(Entry, io.Reader) error
	names  names
	failed error // of the source, or of file: not the archive's fault
}

// raw is the packed bytes. An error of theirs is kept apart from one of the format.
func (w *walk) raw(r io.ReaderAt, sizeBytes int64) io.Reader {
	return source{w, io.NewSectionReader(r, 0, sizeBytes)}
}

type source struct {
	w *walk
	r io.Reader
}

func (s source) Read(p []byte) (int, error) {
	if err := context.Cause(s.w.ctx); err != nil {
		s.w.failed = err
		return 0, err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.w.failed = err
	}
	return n, err
}

// refuse words an error of the format, or returns the one behind it.
func (w *walk) refuse(what string, err error) error {
	if w.failed != nil {
		return w.failed
	}
	if errors.Is(err, ErrArchive) {
		return err
	}
	return fmt.Errorf("%w: %s: %w", ErrArchive, what, err)
}

func (w *walk) tar(r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return w.refuse("read the next entry", err)
		}
		if w.count++; w.count > maxEntries {
			return fmt.Errorf("%w: more than %d entries", ErrArchive, maxEntries)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = w.names.folder(h.Name)
		case tar.TypeReg:
			err = w.entry(Entry{strings.TrimPrefix(h.Name, "./"), h.Size, h.Mode&0o111 != 0}, t) // as "tar -c ." writes them
		case tar.TypeXGlobalHeader: // a comment, as git archive writes one
		default:
			err = fmt.Errorf("%w: %.200q is a link, a device or another special file; pack regular files and folders alone", ErrArchive, h.Name)
		}
		if err != nil {
			return err
		}
	}
}

func (w *walk) zip(r io.ReaderAt, sizeBytes int64) error {
	z, err := zip.NewReader(readerAt{w, r}, sizeBytes)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // names are our own affair
		return w.refuse("read the directory", err)
	}
	if len(z.File) > maxEntries {
		return fmt.Errorf("%w: more than %d entries", ErrArchive, maxEntries)
	}
	for _, f := range z.File {
		mode := f.Mode()
		switch {
		case mode.IsDir():
			err = w.names.folder(f.Name)
		case mode.IsRegular() && f.UncompressedSize64 < 1<<62:
			err = w.zipped(f)
		default:
			err = fmt.Errorf("%w: %.200q is a link, a device or another special file; pack regular files and folders alone", ErrArchive, f.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) zipped(f *zip.File) error {
	r, err := f.Open()
	if err != nil {
		return w.refuse(fmt.Sprintf("open %.200q", f.Name), err)
	}
	defer r.Close()
	return w.entry(Entry{f.Name, int64(f.UncompressedSize64), f.Mode()&fs.FileMode(0o111) != 0}, r)
}

// readerAt is raw for a format that seeks.
type readerAt struct {
	w *walk
	r io.ReaderAt
}

func (s readerAt) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 { // as a hostile directory can make the zip reader ask
		return 0, errors.New("an offset before the beginning")
	}
	if err := context.Cause(s.w.ctx); err != nil {
		s.w.failed = err
		return 0, err
	}
	n, err := s.r.ReadAt(p, off)
	if err != nil && err != io.EOF {
		s.w.failed = err
	}
	return n, err
}

// entry checks one regular file and hands it over.
func (w *walk) entry(e Entry, r io.Reader) error {
	if err := w.names.file(e.Path); err != nil {
		return err
	}
	w.files++
	if w.left -= e.SizeBytes; w.left < 0 {
		return fmt.Errorf("%w: %.200q is beyond the bytes that its files may have together", ErrArchive, e.Path)
	}
	body := &content{w: w, r: r, left: e.SizeBytes}
	err := w.file(e, body)
	if body.failed != nil { // file's error is only its echo
		return w.refuse(fmt.Sprintf("read %.200q", e.Path), body.failed)
	}
	return err
}

// content is the bytes of one file: as many as its entry says, or an error.
type content struct {
	w      *walk
	r      io.Reader
	left   int64
	failed error
}

func (c *content) Read(p []byte) (int, error) {
	n, err := c.r.Read(p[:min(int64(len(p)), c.left+1)])
	c.left -= int64(n)
	switch {
	case c.left < 0:
		n, err = 0, errors.New("longer than its entry says")
	case err == io.EOF && c.left > 0:
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		c.failed = err
	}
	return n, err
}
