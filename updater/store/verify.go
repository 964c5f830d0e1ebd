package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// Sealed says whether a version is sealed, without reading its files.
func (s *Store) Sealed(v journal.Version) bool {
	_, err := s.sealOn(v)
	return err == nil
}

// Named returns the sealed version of that number and digest, as its seal has it: for a process of which
// nothing else is known any more. The error is ErrNotSealed, ErrDamaged, ErrName, or one of the disk.
func (s *Store) Named(number, digest string) (journal.Version, error) {
	v := journal.Version{Number: number, Digest: digest, File: "any"}
	if err := checkName(v); err != nil {
		return journal.Version{}, err
	}
	rec, err := s.readSeal(s.home(v))
	if err != nil {
		return journal.Version{}, fmt.Errorf("look up %.120q: %w", number, err)
	}
	if rec.Version.Number != number || rec.Version.Digest != digest {
		return journal.Version{}, fmt.Errorf("look up %.120q: %w: its seal names %s", number, ErrDamaged, rec.Version.Number)
	}
	return rec.Version, nil
}

// Verify reads every byte of a version: it is sealed, its folder holds exactly the files of the seal, and
// each has its size and digest and can be changed by this account alone (durable.Ours). The error is
// ErrNotSealed, ErrDamaged, or one of the disk or of ctx that says nothing about the version. It changes
// nothing.
func (s *Store) Verify(ctx context.Context, v journal.Version) error {
	rec, err := s.sealOn(v)
	if err == nil {
		err = s.verifyTree(ctx, s.home(v), rec)
	}
	if err != nil {
		return fmt.Errorf("verify %.120q: %w", v.Number, err)
	}
	return nil
}

// verifyTree checks that the tree in home is the one that rec describes.
func (s *Store) verifyTree(ctx context.Context, home string, rec seal) error {
	tree := filepath.Join(home, "tree")
	for _, dir := range []string{home, tree} {
		info, err := s.disk.Lstat(dir)
		if err == nil && !info.IsDir() || errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %s is not a folder", ErrDamaged, dir)
		}
		if err == nil {
			err = keptByUs(dir, info)
		}
		if err != nil {
			return err
		}
	}
	if err := s.verifyNames(tree, rec); err != nil {
		return err
	}
	for _, want := range rec.Files {
		if err := s.verifyFile(ctx, filepath.Join(tree, filepath.FromSlash(want.Path)), want); err != nil {
			return err
		}
	}
	return nil
}

// verifyNames checks that nothing is in the tree that the seal does not name, folders included.
func (s *Store) verifyNames(tree string, rec seal) error {
	named := map[string]bool{} // true is a file
	folders := []string{"."}
	for _, f := range rec.Files {
		named[f.Path] = true
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			if _, seen := named[dir]; seen {
				break
			}
			named[dir], folders = false, append(folders, dir)
		}
	}
	for _, dir := range folders {
		entries, err := s.disk.ReadDir(filepath.Join(tree, filepath.FromSlash(dir)))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: folder %s of %s is missing", ErrDamaged, dir, tree)
		}
		if err != nil {
			return err
		}
		for _, e := range entries {
			if file, known := named[path.Join(dir, e.Name())]; !known || file == e.IsDir() {
				return fmt.Errorf("%w: %s in %s is not what the seal names", ErrDamaged, path.Join(dir, e.Name()), tree)
			}
			if !e.IsDir() {
				continue // verifyFile looks at it
			}
			info, err := e.Info()
			if err == nil {
				err = keptByUs(filepath.Join(tree, filepath.FromSlash(dir), e.Name()), info)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// keptByUs calls damaged what others could change between this look and the start of the program, whatever its bytes
// are now: sealed anew, it is as it should be.
func keptByUs(name string, info fs.FileInfo) error {
	err := durable.Ours(name, info)
	if errors.Is(err, durable.ErrNotOurs) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

func (s *Store) verifyFile(ctx context.Context, name string, want sealedFile) error {
	info, err := s.disk.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is missing, or not a file", ErrDamaged, name)
	}
	if err == nil {
		err = keptByUs(name, info)
	}
	if err != nil {
		return err
	}
	f, err := s.disk.OpenFile(name, 0, 0)
	if err != nil {
		return err
	}
	err = checkFile(ctx, f, want.SizeBytes, want.SHA256)
	_ = f.Close() // a reader has nothing to lose
	if errors.Is(err, ErrNotStaged) || errors.Is(err, ErrDigest) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// checkFile reads a whole file: nil if it has this size and digest, ErrNotStaged if it is shorter,
// ErrDigest if it is longer or different.
func checkFile(ctx context.Context, f durable.File, sizeBytes int64, digest string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	switch size := info.Size(); {
	case !info.Mode().IsRegular() || size > sizeBytes:
		return fmt.Errorf("%s: %w: not a file of %d bytes", f.Name(), ErrDigest, sizeBytes)
	case size < sizeBytes:
		return fmt.Errorf("%s: %w: %d of %d bytes", f.Name(), ErrNotStaged, size, sizeBytes)
	}
	sum := sha256.New()
	buf := make([]byte, 256<<10)
	if _, err := io.CopyBuffer(sum, io.LimitReader(reader{ctx, f}, sizeBytes), buf); err != nil {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != digest {
		return fmt.Errorf("%s: %w: digest %s, want %s", f.Name(), ErrDigest, got, digest)
	}
	return nil
}

// reader ends when its context does.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
