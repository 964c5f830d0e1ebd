package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// What is not the vendor's bytes in the launcher's keeping is refused at the last look before a start, with the path
// in the error; sealed anew from a download, the same version is accepted.
func TestChangedBetweenSealAndStart(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(t *testing.T, s *Store)
		at     func(s *Store) string // the path that the error names
		ours   bool                  // the bytes are right, and somebody else could change them
	}{
		"swapped": {at: fileOf, change: func(t *testing.T, s *Store) {
			other := filepath.Join(s.staging(), "other")
			must(t, os.WriteFile(other, bytesOf("6.6.6"), 0o755))
			must(t, os.Rename(other, s.File(v1)))
		}},
		"added":      {at: treeOf, change: func(t *testing.T, s *Store) { must(t, os.WriteFile(filepath.Join(s.Dir(v1), "x.dll"), nil, 0o644)) }},
		"folder too": {at: treeOf, change: func(t *testing.T, s *Store) { must(t, os.Mkdir(filepath.Join(s.Dir(v1), "lib"), 0o755)) }},
		"removed":    {at: treeOf, change: func(t *testing.T, s *Store) { must(t, os.Remove(s.File(v1))) }},
		"writable for all": {at: fileOf, ours: true, change: func(t *testing.T, s *Store) {
			must(t, os.Chmod(s.File(v1), 0o757))
		}},
		"writable for the group": {at: fileOf, ours: true, change: func(t *testing.T, s *Store) {
			must(t, os.Chmod(s.File(v1), 0o775))
		}},
		"folder writable": {at: treeOf, ours: true, change: func(t *testing.T, s *Store) {
			must(t, os.Chmod(s.Dir(v1), 0o777))
		}},
		"home writable": {at: func(s *Store) string { return s.home(v1) }, ours: true, change: func(t *testing.T, s *Store) {
			must(t, os.Chmod(s.home(v1), 0o777))
		}},
		"link": {at: fileOf, change: func(t *testing.T, s *Store) {
			must(t, os.Rename(s.File(v1), filepath.Join(s.staging(), "moved")))
			must(t, os.Symlink(filepath.Join(s.staging(), "moved"), s.File(v1)))
		}},
		"link for the folder": {at: treeOf, change: func(t *testing.T, s *Store) {
			must(t, os.Rename(s.Dir(v1), filepath.Join(s.staging(), "moved")))
			must(t, os.Symlink(filepath.Join(s.staging(), "moved"), s.Dir(v1)))
		}},
		"of another account": {at: fileOf, ours: true, change: func(t *testing.T, s *Store) {
			if os.Geteuid() != 0 {
				t.Skip("only root can give a file away")
			}
			must(t, os.Chown(s.File(v1), 65534, 65534))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, durable.OS(), filepath.Join(t.TempDir(), "store"))
			sealed(t, s, v1)
			must(t, s.Verify(t.Context(), v1))
			tc.change(t, s)
			err := s.Verify(t.Context(), v1)
			if !errors.Is(err, ErrDamaged) || errors.Is(err, durable.ErrNotOurs) != tc.ours || !strings.Contains(err.Error(), tc.at(s)) {
				t.Errorf("want %v about %s, foreign %v; got %v", ErrDamaged, tc.at(s), tc.ours, err)
			}
			sealed(t, s, v1)
			must(t, s.Verify(t.Context(), v1))
		})
	}
}

// A version whose program has got a second name, as perf gives one, is as good as before: nobody can write by it.
func TestSecondNameOfAVersion(t *testing.T) {
	s := open(t, durable.OS(), filepath.Join(t.TempDir(), "store"))
	sealed(t, s, v1)
	second := filepath.Join(t.TempDir(), "second")
	must(t, os.Link(s.File(v1), second))
	must(t, s.Verify(t.Context(), v1))
	must(t, os.Chmod(second, 0o757))
	if err := s.Verify(t.Context(), v1); !errors.Is(err, ErrDamaged) || !errors.Is(err, durable.ErrNotOurs) {
		t.Errorf("writable by its second name: %v", err)
	}
}

func fileOf(s *Store) string { return s.File(v1) }
func treeOf(s *Store) string { return s.Dir(v1) }

// A download that somebody prepared is not sealed, and what a link in its place leads to is left as it is.
func TestPlantedPart(t *testing.T) {
	for name, plant := range map[string]func(t *testing.T, part, victim string){
		"link":      func(t *testing.T, part, victim string) { must(t, os.Symlink(victim, part)) },
		"hard link": func(t *testing.T, part, victim string) { must(t, os.Link(victim, part)) },
		"writable": func(t *testing.T, part, victim string) {
			must(t, os.WriteFile(part, bytesOf(v1.Number), 0o600))
			must(t, os.Chmod(part, 0o606))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, durable.OS(), filepath.Join(dir, "store"))
			victim := filepath.Join(dir, "victim")
			must(t, os.WriteFile(victim, bytesOf(v1.Number), 0o600))
			plant(t, s.Staged(v1), victim)
			err := s.Seal(t.Context(), v1)
			if !errors.Is(err, durable.ErrNotOurs) || !strings.Contains(err.Error(), s.Staged(v1)) {
				t.Errorf("got %v", err)
			}
			if info, err := os.Stat(victim); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the victim has mode %v, %v", info.Mode(), err)
			}
			must(t, os.Remove(s.Staged(v1)))
			sealed(t, s, v1)
		})
	}
}

func TestStoreOfOthers(t *testing.T) {
	dir := t.TempDir()
	real, planted := filepath.Join(dir, "real"), filepath.Join(dir, "store")
	must(t, os.Mkdir(real, 0o755))
	must(t, os.Symlink(real, planted))
	if _, err := Open(durable.OS(), planted); !errors.Is(err, durable.ErrNotOurs) || !strings.Contains(err.Error(), planted) {
		t.Errorf("through a link: %v", err)
	}
	open(t, durable.OS(), real)
}

// The folders that an archive brings are looked at like the one above them.
func TestFolderOfAnArchiveIsChanged(t *testing.T) {
	s := open(t, durable.OS(), filepath.Join(t.TempDir(), "store"))
	v, b := packed(t, tree...)
	stage(t, s, v, b)
	must(t, s.Seal(t.Context(), v))
	inside := filepath.Join(s.Dir(v), "share", "doc")
	must(t, os.Chmod(inside, 0o777))
	if err := s.Verify(t.Context(), v); !errors.Is(err, ErrDamaged) || !errors.Is(err, durable.ErrNotOurs) || !strings.Contains(err.Error(), inside) {
		t.Errorf("writable: %v", err)
	}
	must(t, os.Chmod(inside, 0o755))
	must(t, s.Verify(t.Context(), v))
	must(t, os.Rename(inside, filepath.Join(s.dir, "moved")))
	must(t, os.Symlink(filepath.Join(s.dir, "moved"), inside))
	if err := s.Verify(t.Context(), v); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "share/doc") {
		t.Errorf("a link: %v", err)
	}
}
