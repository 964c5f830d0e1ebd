package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/turnstone-go/turnstone/internal/archive"
	"github.com/turnstone-go/turnstone/manifest"
)

// unpackedLimit is what a host would refuse in any case.
const unpackedLimit = 16 << 30

// describeArchive reads an archive as hosts will, so that one which they would turn away is never signed. A file
// that is none by its name is left as it is.
func describeArchive(a *manifest.Artifact, path, main string) error {
	format := archive.FormatOf(path)
	if format == "" {
		return nil
	}
	if main == "" {
		return usage("%s is an archive: name the program in it, for instance --main bin/agent", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return usage("%w", err)
	}
	defer f.Close()
	a.Format = string(format)
	err = archive.Walk(context.Background(), format, f, a.SizeBytes, unpackedLimit, func(e archive.Entry, r io.Reader) error {
		if a.Main != main && (e.Path == main || e.Path == main+".exe") {
			a.Main = e.Path
		}
		a.UnpackedBytes += e.SizeBytes
		_, err := io.Copy(io.Discard, r)
		return err
	})
	switch {
	case errors.Is(err, archive.ErrArchive):
		return usage("%s: %w", path, err)
	case err != nil:
		return err
	case a.Main == "":
		return usage("%s has no file %s, nor %[2]s.exe: give the path as it is in the archive", path, main)
	}
	return nil
}
