package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// Base opens the sealed file that has this digest, whichever version it belongs to, for a patch to start from.
// Every byte was read through the file that is returned. The error is ErrNotSealed if no version has it,
// ErrDamaged if the one that should has not, or one of the disk or of ctx.
func (s *Store) Base(ctx context.Context, digest string) (durable.File, error) {
	f, err := s.base(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("open the file with digest %.12s…: %w", digest, err)
	}
	return f, nil
}

func (s *Store) base(ctx context.Context, digest string) (durable.File, error) {
	if !digestForm.MatchString(digest) {
		return nil, ErrName
	}
	entries, err := s.disk.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := e.Name()
		if !homeForm.MatchString(name) || name[len(name)-16:] != digest[:16] {
			continue
		}
		rec, err := s.readSeal(filepath.Join(s.dir, name))
		if err == nil && rec.Version.Digest == digest {
			return s.openChecked(ctx, rec.Version)
		}
	}
	return nil, ErrNotSealed
}

func (s *Store) openChecked(ctx context.Context, v journal.Version) (durable.File, error) {
	f, err := s.disk.OpenFile(s.artifact(v), 0, 0)
	if err != nil {
		return nil, err
	}
	err = checkFile(ctx, f, v.SizeBytes, v.Digest)
	if errors.Is(err, ErrNotStaged) || errors.Is(err, ErrDigest) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
