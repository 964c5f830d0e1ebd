package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// Prove records that a sealed version has passed its probation on this host. The record is evidence for
// the day when the journal is lost, not state: nothing ever takes it back but the removal of the version.
//
// If power fails before it returns, the version is proven or not. Once it has returned nil it is.
func (s *Store) Prove(v journal.Version) error {
	rec, err := s.sealOn(v)
	if err != nil {
		return fmt.Errorf("prove %.120q: %w", v.Number, err)
	}
	home, want := s.home(v), encode(proof{schema, rec.Version})
	if old, err := durable.ReadFile(s.disk, proofName(home), maxBytes); err == nil && bytes.Equal(old, want) {
		return s.disk.SyncDir(home) // who wrote it may have been killed before this
	}
	return durable.WriteFile(s.disk, proofName(home), want, 0o644)
}

// Proven returns the sealed versions that are proven, the one of the largest epoch first. It does not read
// their files: Verify one before starting it. A record that cannot be read is left out and is part of the
// error, beside which the others are returned.
func (s *Store) Proven() ([]journal.Version, error) {
	entries, err := s.disk.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list store: %w", err)
	}
	var proven []journal.Version
	var errs []error
	for _, e := range entries {
		if !homeForm.MatchString(e.Name()) || !e.IsDir() {
			continue
		}
		v, err := s.readProof(filepath.Join(s.dir, e.Name()))
		switch {
		case err == nil:
			proven = append(proven, v)
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrNotSealed): // never proven; being removed
			errs = append(errs, fmt.Errorf("proven record of %s: %w", e.Name(), err))
		}
	}
	slices.SortFunc(proven, func(a, b journal.Version) int {
		return cmp.Or(cmp.Compare(b.Epoch, a.Epoch), cmp.Compare(a.Digest, b.Digest))
	})
	return proven, errors.Join(errs...)
}

// readProof returns the version that both records in a folder name.
func (s *Store) readProof(home string) (journal.Version, error) {
	b, err := durable.ReadFile(s.disk, proofName(home), maxBytes)
	if err != nil {
		return journal.Version{}, err
	}
	p, err := parseProof(b)
	if err != nil {
		return journal.Version{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	rec, err := s.readSeal(home)
	if err != nil {
		return journal.Version{}, err
	}
	if a, b := p.Version, rec.Version; a.Number != b.Number || a.Digest != b.Digest || a.Epoch != b.Epoch || homeName(b) != filepath.Base(home) {
		return journal.Version{}, fmt.Errorf("%w: proven is %s (epoch %d), sealed is %s (epoch %d)", ErrDamaged, a.Number, a.Epoch, b.Number, b.Epoch)
	}
	return rec.Version, nil
}
