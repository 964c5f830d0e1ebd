package store

import (
	"fmt"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// ReserveBytes must stay free when a version is in the store. It is what its start, its probation and the way
// back write: the output of two processes (6 MiB each at most), the journal where the disk does not overwrite
// in place, metadata, records and history.
const ReserveBytes = 16 << 20

// Room returns a *durable.Shortage if the disk cannot take what is still to be written for v, and the
// reserve. What an earlier try has on the disk already, allocated or written, is not asked for again.
func (s *Store) Room(v journal.Version) error {
	if err := checkName(v); err != nil {
		return fmt.Errorf("room for %.120q: %w", v.Number, err)
	}
	missing := max(0, v.SizeBytes-s.held(v))
	if v.Format != "" && !s.Sealed(v) { // the archive stays beside what comes out of it
		missing += v.UnpackedBytes
	}
	if err := durable.Room(s.disk, s.dir, missing+ReserveBytes); err != nil {
		return fmt.Errorf("%w (%d bytes of %s are to come; %d MiB stay free for its start and the way back)",
			err, missing, v.Number, ReserveBytes>>20)
	}
	return nil
}

// Reserve returns a *durable.Shortage if not even the reserve is free.
func (s *Store) Reserve() error { return durable.Room(s.disk, s.dir, ReserveBytes) }

// held is what the disk has of v: what is staged, or what is sealed. A missing file holds nothing.
func (s *Store) held(v journal.Version) (bytes int64) {
	for _, name := range []string{s.Staged(v), s.Artifact(v)} {
		if info, err := s.disk.Lstat(name); err == nil && info.Mode().IsRegular() {
			bytes = max(bytes, durable.Held(info))
		}
	}
	return bytes
}
