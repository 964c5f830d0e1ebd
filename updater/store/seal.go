package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// Seal checks the staged file of a version, moves it into the version's folder and seals that. It may be
// cut short anywhere and called again. For a sealed version it does nothing, unless a whole file is staged
// and the sealed bytes are damaged: then it replaces them.
//
// The error is ErrNotStaged if there is no whole file, which stays where it is for the fetcher to complete;
// ErrDigest if the file is not the one that was signed, and it is gone then; or one of the disk or of ctx.
//
// If power fails before it returns, the version is sealed or not; the staged file may have to be fetched
// again. Once it has returned nil the version is sealed.
func (s *Store) Seal(ctx context.Context, v journal.Version) error {
	if err := s.seal(ctx, v); err != nil {
		return fmt.Errorf("seal %.120q: %w", v.Number, err)
	}
	return nil
}

func (s *Store) seal(ctx context.Context, v journal.Version) error {
	_, sealErr := s.sealOn(v)
	if sealErr != nil && !errors.Is(sealErr, ErrNotSealed) && !errors.Is(sealErr, ErrDamaged) {
		return sealErr
	}
	partErr := s.checkPart(ctx, v)
	switch {
	case partErr == nil && sealErr == nil:
		return s.repair(ctx, v)
	case partErr == nil:
		return s.place(ctx, v)
	case !errors.Is(partErr, ErrNotStaged):
		return partErr
	case sealErr == nil:
		// A predecessor killed while it sealed may have left a name that is not on the disk yet.
		return s.disk.SyncDir(s.home(v))
	}
	if v.Format != "" {
		return s.resume(ctx, v, partErr)
	}
	treeErr := s.verifyTree(ctx, s.home(v), sealOf(v))
	switch {
	case treeErr == nil:
		return s.finish(v, sealOf(v)) // a predecessor was cut between move and seal
	case errors.Is(treeErr, ErrDamaged):
		return partErr
	}
	return treeErr
}

// repair replaces a sealed tree by the staged file, which is right, if the tree is damaged.
func (s *Store) repair(ctx context.Context, v journal.Version) error {
	err := s.Verify(ctx, v)
	if errors.Is(err, ErrDamaged) {
		return s.place(ctx, v)
	}
	if err != nil {
		return err
	}
	if err := durable.RemoveAll(s.disk, s.Staged(v)); err != nil {
		return err
	}
	return s.disk.SyncDir(s.home(v))
}

// checkPart says whether the staged file is v's, and makes its bytes and mode durable.
func (s *Store) checkPart(ctx context.Context, v journal.Version) error {
	if s.lost == s.Staged(v) {
		if err := s.dropPart(v); err != nil {
			return err
		}
	}
	info, err := s.disk.Lstat(s.Staged(v))
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotStaged
	}
	if err == nil {
		err = durable.OursAlone(s.Staged(v), info) // the mode of what a planted link leads to is not changed
	}
	if err != nil {
		return err
	}
	f, err := s.disk.OpenFile(s.Staged(v), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = checkFile(ctx, f, v.SizeBytes, v.Digest)
	if err == nil && s.found[f.Name()] { // written again, since the next Sync may else write nothing: see dropPart
		_, err = io.Copy(io.NewOffsetWriter(f, 0), io.NewSectionReader(f, 0, v.SizeBytes))
	}
	if err == nil {
		// Not read-only: Windows moves and removes such files with difficulty, and the owner is the launcher.
		err = s.disk.Chmod(s.Staged(v), 0o755)
	}
	if err == nil {
		if err = f.Sync(); err != nil {
			s.lost = s.Staged(v)
		}
	}
	if err = errors.Join(err, f.Close()); errors.Is(err, ErrDigest) || err != nil && s.lost == s.Staged(v) {
		return errors.Join(err, s.dropPart(v))
	}
	return err
}

// dropPart removes a staged file that is wrong, or whose Sync failed: what was not written then may be called
// clean, so that the next Sync writes nothing and says that it is well. It is fetched again.
func (s *Store) dropPart(v journal.Version) error {
	if err := durable.RemoveAll(s.disk, s.Staged(v)); err != nil {
		return err
	}
	s.lost = ""
	return nil
}

// place moves the staged file, which is checked, into a new tree, or beside it if it is an archive, and seals it.
func (s *Store) place(ctx context.Context, v journal.Version) error {
	if err := s.clear(v); err != nil {
		return err
	}
	// Power here: not sealed, the staged file is whole.
	if err := s.disk.Rename(s.Staged(v), s.artifact(v)); err != nil {
		return err
	}
	// Power here: not sealed, and the file is in staging or in its place (a disk without a journal of its
	// own might lose both names, and it is fetched again).
	if v.Format != "" {
		return s.unpack(ctx, v)
	}
	return s.finish(v, sealOf(v))
}

// clear makes a new tree. What is left of an older attempt or of a damaged tree goes, the seal first.
func (s *Store) clear(v journal.Version) error {
	for _, old := range []string{sealName(s.home(v)), s.tree(v)} {
		if err := durable.RemoveAll(s.disk, old); err != nil {
			return err
		}
	}
	for _, dir := range []string{s.home(v), s.tree(v)} {
		if err := s.mkdir(dir); err != nil {
			return err
		}
	}
	return nil
}

// finish seals a tree that is right. Every name on the way to its files is durable before the seal is.
func (s *Store) finish(v journal.Version, rec seal) error {
	for _, dir := range []string{s.home(v), s.tree(v)} {
		if err := s.mkdir(dir); err != nil {
			return err
		}
	}
	for _, dir := range []string{s.tree(v), s.staging()} {
		if err := s.disk.SyncDir(dir); err != nil {
			return err
		}
	}
	// Power from here on: sealed or not, and if sealed, whole.
	return durable.WriteFile(s.disk, sealName(s.home(v)), encode(rec), 0o644)
}
