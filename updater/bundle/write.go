package bundle

import (
	"archive/tar"
	"fmt"
	"io"
	"slices"
	"strings"
)

// File is one file to be put into a bundle.
type File struct {
	Name      string
	SizeBytes int64
	Open      func() (io.ReadCloser, error)
}

// Write writes a bundle of files, whose order does not matter. It returns an error, and an unusable bundle,
// when a file has another length than it said.
func Write(w io.Writer, files []File) error {
	files = slices.SortedFunc(slices.Values(files), func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	if len(files) > maxFiles {
		return fmt.Errorf("%w: %d, at most %d", ErrTooMany, len(files), maxFiles)
	}
	tw := tar.NewWriter(w)
	for i, f := range files {
		if err := checkName(f.Name); err != nil {
			return err
		}
		if i > 0 && files[i-1].Name == f.Name {
			return fmt.Errorf("%w: %s", ErrOrder, f.Name)
		}
		if err := write(tw, f); err != nil {
			return fmt.Errorf("bundle %s: %w", f.Name, err)
		}
	}
	return tw.Close()
}

func write(tw *tar.Writer, f File) error {
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Size: f.SizeBytes, Mode: 0o644}); err != nil {
		return err
	}
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(tw, r)
	if err == nil && n != f.SizeBytes {
		err = fmt.Errorf("it has %d bytes, not %d", n, f.SizeBytes)
	}
	return err
}
