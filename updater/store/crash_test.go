package store

import (
	"errors"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// sound checks what is true of every store at every moment: sealed means whole, proven means sealed.
func sound(t *testing.T, s *Store, trial string) {
	t.Helper()
	for _, v := range []journal.Version{v1, v2, v3} {
		if s.Sealed(v) {
			if err := s.Verify(t.Context(), v); err != nil {
				t.Fatalf("%s: sealed, and %v", trial, err)
			}
		}
	}
	proven, err := s.Proven()
	if err != nil {
		t.Fatalf("%s: %v", trial, err)
	}
	for _, v := range proven {
		if !s.Sealed(v) {
			t.Fatalf("%s: %s is proven and not sealed", trial, v.Number)
		}
	}
}

// fetch stages a version as a fetcher does: in two writes, and synced at the end.
func fetch(d durable.Disk, s *Store, v journal.Version) error {
	f, err := d.OpenFile(s.Staged(v), 0x2|0x40, 0o600) // O_RDWR|O_CREATE
	if err != nil {
		return err
	}
	b := bytesOf(v.Number)
	for off := 0; off < len(b) && err == nil; off += len(b) / 2 {
		_, err = f.WriteAt(b[off:off+len(b)/2], int64(off))
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func TestSealSurvivesEveryCut(t *testing.T) {
	var done bool
	start := func() *durabletest.Disk {
		d := durabletest.New()
		sealed(t, open(t, d, "state/store"), v1)
		done = false
		return d
	}
	run := func(d *durabletest.Disk) {
		s, err := Open(d, "state/store")
		if err == nil {
			err = fetch(d, s, v2)
		}
		if err == nil {
			err = s.Seal(t.Context(), v2)
		}
		done = err == nil
	}
	durabletest.Sweep(t, start, run, func(t *testing.T, d *durabletest.Disk, trial string) {
		s := open(t, d, "state/store")
		sound(t, s, trial)
		if !s.Sealed(v1) || done && !s.Sealed(v2) {
			t.Fatalf("%s: lost a sealed version", trial)
		}
		// The next start does the step again, fetching if it is told to, and must get there for good.
		err := s.Seal(t.Context(), v2)
		if errors.Is(err, ErrNotStaged) || errors.Is(err, ErrDigest) {
			must(t, fetch(d, s, v2))
			err = s.Seal(t.Context(), v2)
		}
		must(t, err)
		s = open(t, d.Crash(0), "state/store")
		if !s.Sealed(v2) {
			t.Fatalf("%s: sealed after it, and lost", trial)
		}
		sound(t, s, trial)
	})
}

// The repair of a damaged version goes through the same cuts, and never calls sealed what is not whole.
func TestRepairSurvivesEveryCut(t *testing.T) {
	start := func() *durabletest.Disk {
		d := durabletest.New()
		s := open(t, d, "store")
		sealed(t, s, v1)
		must(t, s.Prove(v1))
		must(t, flip(d, s.File(v1), 700))
		stage(t, s, v1, bytesOf(v1.Number))
		return d
	}
	run := func(d *durabletest.Disk) {
		if s, err := Open(d, "store"); err == nil {
			_ = s.Seal(t.Context(), v1) // cut or done
		}
	}
	durabletest.Sweep(t, start, run, func(t *testing.T, d *durabletest.Disk, trial string) {
		s := open(t, d, "store")
		err := s.Seal(t.Context(), v1)
		if errors.Is(err, ErrNotStaged) {
			must(t, fetch(d, s, v1))
			err = s.Seal(t.Context(), v1)
		}
		must(t, err)
		s = open(t, d.Crash(0), "store")
		if proven, err := s.Proven(); err != nil || !slices.Equal(proven, []journal.Version{v1}) || s.Verify(t.Context(), v1) != nil {
			t.Fatalf("%s: %v, %v", trial, proven, err)
		}
	})
}

func TestProveSurvivesEveryCut(t *testing.T) {
	var done bool
	start := func() *durabletest.Disk {
		d := durabletest.New()
		s := open(t, d, "store")
		sealed(t, s, v1, v2)
		must(t, s.Prove(v1))
		return d
	}
	run := func(d *durabletest.Disk) {
		s, err := Open(d, "store")
		done = err == nil && s.Prove(v2) == nil
	}
	durabletest.Sweep(t, start, run, func(t *testing.T, d *durabletest.Disk, trial string) {
		s := open(t, d, "store")
		sound(t, s, trial)
		proven, err := s.Proven()
		must(t, err)
		if !slices.Contains(proven, v1) || done && !slices.Contains(proven, v2) {
			t.Fatalf("%s: proven %v, done: %v", trial, proven, done)
		}
		must(t, s.Prove(v2))
		if proven, err := open(t, d.Crash(0), "store").Proven(); err != nil || !slices.Equal(proven, []journal.Version{v2, v1}) {
			t.Fatalf("%s: proven after it, then %v, %v", trial, proven, err)
		}
	})
}

func TestCollectSurvivesEveryCut(t *testing.T) {
	var done bool
	start := func() *durabletest.Disk {
		d := durabletest.New()
		s := open(t, d, "store")
		sealed(t, s, v1, v2, v3)
		must(t, s.Prove(v1))
		must(t, s.Prove(v2))
		stage(t, s, v1, []byte("part"))
		return d
	}
	run := func(d *durabletest.Disk) {
		s, err := Open(d, "store")
		if err == nil {
			_, err = s.Collect([]journal.Version{v2})
		}
		done = err == nil
	}
	durabletest.Sweep(t, start, run, func(t *testing.T, d *durabletest.Disk, trial string) {
		s := open(t, d, "store")
		sound(t, s, trial)
		if err := s.Verify(t.Context(), v2); err != nil {
			t.Fatalf("%s: what is kept: %v", trial, err)
		}
		if done && (exists(d, s.home(v1)) || exists(d, s.home(v3)) || exists(d, s.Staged(v1))) {
			t.Fatalf("%s: collected, then there again", trial)
		}
		if _, err := s.Collect([]journal.Version{v2}); err != nil {
			t.Fatalf("%s: collect again: %v", trial, err)
		}
		d = d.Crash(0)
		if exists(d, s.home(v1)) || exists(d, s.home(v3)) || exists(d, s.Staged(v1)) {
			t.Fatalf("%s: collected again, and there", trial)
		}
	})
}

// Every operation that fails instead, for want of space or for a bad sector: an error, nothing false, and
// the same call succeeds once there is room.
func TestEveryFailure(t *testing.T) {
	for k := 0; ; k++ {
		d := durabletest.New()
		s := open(t, d, "store")
		sealed(t, s, v1, v3)
		must(t, s.Prove(v1))
		must(t, fetch(d, s, v2))
		n, failed := 0, false
		d.Fail(func(durabletest.Op) error {
			n++
			if n > k {
				failed = true
				return syscall.ENOSPC
			}
			return nil
		})
		err := s.Seal(t.Context(), v2)
		if err == nil {
			err = s.Prove(v2)
		}
		if err == nil {
			_, err = s.Collect([]journal.Version{v1, v2})
		}
		if failed != errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("failure at %d: %v", k, err)
		}
		d.Fail(nil)
		for seed := range uint64(4) {
			found := open(t, d.Crash(seed), "store")
			sound(t, found, "after a failure")
			must(t, found.Verify(t.Context(), v1))
		}
		if !failed {
			return
		}
		if err := s.Seal(t.Context(), v2); errors.Is(err, ErrNotStaged) { // its Sync failed, and it was dropped
			must(t, fetch(d, s, v2))
		}
		must(t, s.Seal(t.Context(), v2))
		must(t, s.Prove(v2))
		if _, err := s.Collect([]journal.Version{v1, v2}); err != nil {
			t.Fatalf("failure at %d, then room again: %v", k, err)
		}
	}
}

// A Sync that failed is not made good by another that says nothing: what is sealed after it survives a power cut.
func TestSealAfterAFailedSync(t *testing.T) {
	for failures := 1; failures <= 6; failures++ {
		d := durabletest.New()
		s := open(t, d, "store")
		must(t, durable.WriteFile(d, s.Staged(v1), nil, 0o600))
		f, err := d.OpenFile(s.Staged(v1), os.O_WRONLY, 0)
		must(t, err)
		_, err = f.Write(bytesOf(v1.Number)) // and not synced: a fetcher that was killed
		must(t, errors.Join(err, f.Close()))
		begun, left := false, failures
		d.Fail(func(op durabletest.Op) error {
			begun = begun || op.Kind == "sync"
			if begun && left > 0 {
				left--
				return syscall.EIO
			}
			return nil
		})
		for range 10 {
			if err = s.Seal(t.Context(), v1); errors.Is(err, ErrNotStaged) {
				must(t, fetch(d, s, v1))
			}
			if err == nil {
				break
			}
		}
		must(t, err)
		if err := open(t, d.Crash(0), "store").Verify(t.Context(), v1); err != nil {
			t.Errorf("%d operations failed: %v", failures, err)
		}
	}
}

// A launcher that is killed before it can remove what it failed to sync leaves bytes which are seen, called clean, and
// not on the disk. The next one writes them again before it seals them.
func TestSealAfterAnEarlierFailedSync(t *testing.T) {
	d := durabletest.New()
	s := open(t, d, "store")
	must(t, durable.WriteFile(d, s.Staged(v1), nil, 0o600))
	f, err := d.OpenFile(s.Staged(v1), os.O_WRONLY, 0)
	must(t, err)
	_, err = f.Write(bytesOf(v1.Number))
	must(t, err)
	d.Fail(func(op durabletest.Op) error {
		if op.Kind == "sync" {
			return syscall.EIO
		}
		return nil
	})
	if f.Sync() == nil {
		t.Fatal("no failure")
	}
	must(t, f.Close())
	d.Fail(nil)
	d = d.Kill()
	must(t, open(t, d, "store").Seal(t.Context(), v1))
	for seed := range uint64(durabletest.Seeds) {
		if err := open(t, d.Crash(seed), "store").Verify(t.Context(), v1); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}
