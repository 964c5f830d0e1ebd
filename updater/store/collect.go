package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// Collect removes every version that is not to be kept, whole or damaged, and what is staged for it. It
// returns the names that are gone. What it cannot remove stays, unsealed if need be, for the next time, and
// is part of the error. Files that are not the store's are left alone. If a version to keep has an
// impossible name, the list is not to be trusted and nothing is removed.
//
// If power fails before it returns, each version is whole and sealed, or not sealed; what is to be kept is
// never touched. Once it has returned, what it calls removed stays so.
func (s *Store) Collect(keep []journal.Version) (removed []string, err error) {
	homes, parts := map[string]bool{}, map[string]bool{}
	for _, v := range keep {
		if err := checkName(v); err != nil {
			return nil, fmt.Errorf("collect: nothing removed: %w", err)
		}
		homes[homeName(v)], parts[v.Digest] = true, true
	}
	entries, err := s.disk.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("collect: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if homes[e.Name()] || !homeForm.MatchString(e.Name()) {
			continue
		}
		if err := s.remove(filepath.Join(s.dir, e.Name()), e); err != nil {
			errs = append(errs, fmt.Errorf("collect %s: %w", e.Name(), err))
			continue
		}
		removed = append(removed, e.Name())
	}
	more, err := s.collectStaged(parts)
	// A predecessor killed between a removal and its sync has left nothing to remove, and something to sync.
	errs = append(errs, err, s.disk.SyncDir(s.dir), s.disk.SyncDir(s.staging()))
	return append(removed, more...), errors.Join(errs...)
}

// remove takes away the seal, durably, before anything that it vouches for.
func (s *Store) remove(home string, e fs.DirEntry) error {
	if e.IsDir() { // or it is something that bears the name of a version; a link is not followed
		if err := durable.RemoveAll(s.disk, sealName(home)); err != nil {
			return err
		}
	}
	return durable.RemoveAll(s.disk, home)
}

// collectStaged removes what is staged for digests that are not kept. The staging folder is all the
// store's, and every name in it begins with the digest that it is for.
func (s *Store) collectStaged(keep map[string]bool) (removed []string, err error) {
	entries, err := s.disk.ReadDir(s.staging())
	if err != nil {
		return nil, fmt.Errorf("collect staged files: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if name := e.Name(); len(name) > 64 && keep[name[:64]] {
			continue
		}
		if err := durable.RemoveAll(s.disk, filepath.Join(s.staging(), e.Name())); err != nil {
			errs = append(errs, err)
			continue
		}
		removed = append(removed, filepath.Join("staging", e.Name()))
	}
	return removed, errors.Join(errs...)
}
