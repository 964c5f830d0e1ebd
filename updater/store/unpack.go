package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"github.com/turnstone-go/turnstone/internal/archive"
	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// resume goes on for a predecessor that was cut after it moved an archive into its place: the archive is
// unpacked again. otherwise is the error if it is not there, or not whole.
func (s *Store) resume(ctx context.Context, v journal.Version, otherwise error) error {
	f, err := s.disk.OpenFile(s.artifact(v), os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return otherwise
	}
	if err != nil {
		return err
	}
	err = checkFile(ctx, f, v.SizeBytes, v.Digest)
	_ = f.Close() // a reader has nothing to lose
	if errors.Is(err, ErrNotStaged) || errors.Is(err, ErrDigest) {
		return otherwise
	}
	if err == nil {
		err = s.clear(v)
	}
	if err == nil {
		err = s.unpack(ctx, v)
	}
	return err
}

// unpack fills the tree of v, which is empty, from its archive, and seals it. What is not as the release says
// is ErrContent, and the archive is removed then.
func (s *Store) unpack(ctx context.Context, v journal.Version) error {
	if s.Genuine != nil {
		if err := s.Genuine(ctx, v, s.artifact(v)); err != nil {
			return fmt.Errorf("verify the signature of %s: %w", v.Number, err)
		}
	}
	f, err := s.disk.OpenFile(s.artifact(v), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	tree, err := durable.Below(s.disk, s.tree(v))
	if err != nil {
		return errors.Join(err, f.Close())
	}
	defer tree.Close()
	u := unpacking{tree: tree, made: map[string]bool{}}
	err = archive.Walk(ctx, archive.Format(v.Format), f, v.SizeBytes, v.UnpackedBytes, func(e archive.Entry, r io.Reader) error {
		return u.file(e, r, e.Path == v.Main)
	})
	_ = f.Close() // a reader has nothing to lose
	if errors.Is(err, archive.ErrArchive) {
		err = fmt.Errorf("%w: %w", ErrContent, err)
	}
	rec := seal{Schema: schema, Version: v, Files: u.files}
	if err == nil {
		slices.SortFunc(rec.Files, func(a, b sealedFile) int { return cmp.Compare(a.Path, b.Path) })
		err = rec.checkFiles()
	}
	if errors.Is(err, ErrContent) {
		return errors.Join(err, tree.Close(), durable.RemoveAll(s.disk, s.home(v))) // Windows removes no folder that is open
	}
	if err == nil {
		err = u.sync()
	}
	if err != nil {
		return err
	}
	return s.finish(v, rec)
}

// checkFiles says whether the seal of an archive is one that could have been unpacked: the program is there,
// the paths are in order, and the bytes are as many as was signed.
func (rec seal) checkFiles() error {
	var total int64
	main := false
	for i, f := range rec.Files {
		if err := archive.CheckPath(f.Path); err != nil || f.SizeBytes < 0 || !digestForm.MatchString(f.SHA256) {
			return fmt.Errorf("%w: file %.120q of the seal is impossible", ErrContent, f.Path)
		}
		if i > 0 && rec.Files[i-1].Path >= f.Path {
			return fmt.Errorf("%w: file %.120q is out of order", ErrContent, f.Path)
		}
		total += f.SizeBytes
		main = main || f.Path == rec.Version.Main
	}
	switch {
	case !main:
		return fmt.Errorf("%w: it has no file %s", ErrContent, rec.Version.Main)
	case total != rec.Version.UnpackedBytes || len(rec.Files) > archive.MaxFiles:
		return fmt.Errorf("%w: %d bytes in %d files; the release says %d bytes", ErrContent, total, len(rec.Files), rec.Version.UnpackedBytes)
	}
	return nil
}

// unpacking writes files into one tree.
type unpacking struct {
	tree  *durable.Inside
	made  map[string]bool // folders, by path in the archive
	files []sealedFile
}

// file writes one file and makes its bytes durable.
func (u *unpacking) file(e archive.Entry, r io.Reader, main bool) error {
	if err := u.folder(path.Dir(e.Path)); err != nil {
		return err
	}
	perm := os.FileMode(0o644)
	if e.Exec || main {
		perm = 0o755
	}
	f, err := u.tree.Create(e.Path, perm)
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(onlyWriter{f}, sum), r, make([]byte, 256<<10))
	if err == nil {
		err = u.tree.Chmod(e.Path, perm) // whatever the umask is
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	u.files = append(u.files, sealedFile{e.Path, n, hex.EncodeToString(sum.Sum(nil))})
	return nil
}

// onlyWriter keeps CopyBuffer from asking a file to read by itself, without a buffer of ours.
type onlyWriter struct{ io.Writer }

// folder makes the folder of an archive's path and those above it.
func (u *unpacking) folder(dir string) error {
	if dir == "." || u.made[dir] {
		return nil
	}
	if err := u.folder(path.Dir(dir)); err != nil {
		return err
	}
	if err := u.tree.Mkdir(dir, 0o755); err != nil {
		return err
	}
	u.made[dir] = true
	return u.tree.Chmod(dir, 0o755)
}

// sync makes the names in every folder of the tree durable.
func (u *unpacking) sync() error {
	for dir := range u.made {
		if err := u.tree.SyncDir(dir); err != nil {
			return err
		}
	}
	return u.tree.SyncDir(".")
}
