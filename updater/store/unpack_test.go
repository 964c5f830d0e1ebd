package store

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// content is what a test packs: path and bytes in turn.
func zipped(t testing.TB, content ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(content); i += 2 {
		h := &zip.FileHeader{Name: content[i], Method: zip.Deflate}
		h.SetMode(0o600)
		w, err := z.CreateHeader(h)
		must(t, err)
		_, err = w.Write([]byte(content[i+1]))
		must(t, err)
	}
	must(t, z.Close())
	return b.Bytes()
}

// packed is a version that is an archive, with its bytes.
func packed(t testing.TB, content ...string) (journal.Version, []byte) {
	b := zipped(t, content...)
	sum := sha256.Sum256(b)
	v := journal.Version{Number: "3.0.0", Digest: hex.EncodeToString(sum[:]), Epoch: 4, File: "app.zip", SizeBytes: int64(len(b)), Format: "zip", Main: "bin/app"}
	for i := 1; i < len(content); i += 2 {
		v.UnpackedBytes += int64(len(content[i]))
	}
	return v, b
}

var tree = []string{"bin/app", "program", "share/doc/readme", "text", "share/empty", ""}

func TestArchiveOnThisMachine(t *testing.T) {
	s := open(t, durable.OS(), filepath.Join(t.TempDir(), "store"))
	v, b := packed(t, tree...)
	stage(t, s, v, b)
	must(t, s.Seal(t.Context(), v))
	must(t, s.Verify(t.Context(), v))
	must(t, s.Seal(t.Context(), v))
	var got []string
	must(t, fs.WalkDir(os.DirFS(s.Dir(v)), ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(s.Dir(v), path))
		got = append(got, path, string(content))
		return err
	}))
	if !slices.Equal(got, tree) || s.File(v) != filepath.Join(s.Dir(v), "bin", "app") {
		t.Errorf("%q, program %s", got, s.File(v))
	}
	if raw, err := os.ReadFile(s.Artifact(v)); err != nil || !bytes.Equal(raw, b) {
		t.Errorf("the archive: %d bytes, %v", len(raw), err)
	}
	for path, want := range map[string]fs.FileMode{"bin": 0o755, "bin/app": 0o755, "share/doc/readme": 0o644} {
		if info, err := os.Stat(filepath.Join(s.Dir(v), path)); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	f, err := s.Base(t.Context(), v.Digest)
	must(t, err)
	if base, err := io.ReadAll(io.NewSectionReader(f, 0, v.SizeBytes)); err != nil || !bytes.Equal(base, b) {
		t.Errorf("the base of a patch: %d bytes, %v", len(base), err)
	}
	must(t, f.Close())
	if again, err := s.Named(v.Number, v.Digest); err != nil || again != v {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := s.Collect(nil); err != nil || exists(s.disk, s.home(v)) {
		t.Errorf("collected: %v", err)
	}
}

// What contradicts the release is evidence against it, and nothing of it stays. The twin differs in that alone.
func TestArchiveThatContradictsItsRelease(t *testing.T) {
	for name, tc := range map[string]struct {
		content []string
		change  func(v *journal.Version)
	}{
		"no program":        {tree[2:], nil},
		"program elsewhere": {tree, func(v *journal.Version) { v.Main = "bin/app.exe" }},
		"more bytes":        {tree, func(v *journal.Version) { v.UnpackedBytes-- }},
		"fewer bytes":       {tree, func(v *journal.Version) { v.UnpackedBytes++ }},
		"way out":           {append(slices.Clone(tree), "../../../evil", "x"), nil},
		"another format":    {tree, func(v *journal.Version) { v.Format = "tar.gz" }},
	} {
		s := open(t, durable.OS(), filepath.Join(t.TempDir(), "store"))
		v, b := packed(t, tc.content...)
		if tc.change != nil {
			tc.change(&v)
		}
		stage(t, s, v, b)
		if err := s.Seal(t.Context(), v); !errors.Is(err, ErrContent) || s.Sealed(v) || exists(s.disk, s.home(v)) {
			t.Errorf("%s: %v", name, err)
		}
		if exists(s.disk, filepath.Join(s.dir, "evil")) || exists(s.disk, filepath.Join(filepath.Dir(s.dir), "evil")) {
			t.Errorf("%s: it got out", name)
		}
		twin, b := packed(t, tree...)
		stage(t, s, twin, b)
		if err := s.Seal(t.Context(), twin); err != nil {
			t.Errorf("%s: the twin is refused: %v", name, err)
		}
	}
}

func TestArchiveDamage(t *testing.T) {
	for name, damage := range map[string]func(s *Store, dir string) error{
		"one bit":       func(s *Store, dir string) error { return flip(s.disk, filepath.Join(dir, "share/doc/readme"), 1) },
		"a file gone":   func(s *Store, dir string) error { return s.disk.Remove(filepath.Join(dir, "share/empty")) },
		"a folder gone": func(s *Store, dir string) error { return durable.RemoveAll(s.disk, filepath.Join(dir, "share/doc")) },
		"a file more": func(s *Store, dir string) error {
			return durable.WriteFile(s.disk, filepath.Join(dir, "bin/evil.so"), nil, 0o755)
		},
		"a folder more": func(s *Store, dir string) error { return s.disk.Mkdir(filepath.Join(dir, "share/doc/x"), 0o755) },
		"a folder for a file": func(s *Store, dir string) error {
			name := filepath.Join(dir, "share/empty")
			return errors.Join(s.disk.Remove(name), s.disk.Mkdir(name, 0o755))
		},
	} {
		s := open(t, durabletest.New(), "store")
		v, b := packed(t, tree...)
		stage(t, s, v, b)
		must(t, s.Seal(t.Context(), v))
		must(t, s.Verify(t.Context(), v))
		must(t, damage(s, s.Dir(v)))
		if err := s.Verify(t.Context(), v); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		stage(t, s, v, b)
		must(t, s.Seal(t.Context(), v))
		if err := s.Verify(t.Context(), v); err != nil {
			t.Errorf("%s: fetched again: %v", name, err)
		}
	}
}

func TestFolderThatIsALink(t *testing.T) {
	s := open(t, durable.OS(), filepath.Join(t.TempDir(), "store"))
	v, b := packed(t, tree...)
	stage(t, s, v, b)
	must(t, s.Seal(t.Context(), v))
	elsewhere := filepath.Join(s.dir, "elsewhere")
	must(t, os.Rename(filepath.Join(s.Dir(v), "share"), elsewhere))
	if err := os.Symlink(elsewhere, filepath.Join(s.Dir(v), "share")); err != nil {
		if runtime.GOOS == "windows" {
			return // links need a right there that tests do not have
		}
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), v); !errors.Is(err, ErrDamaged) {
		t.Errorf("the right files through a link: %v", err)
	}
}

func TestArchiveSurvivesEveryCut(t *testing.T) {
	v, b := packed(t, tree...)
	var done bool
	start := func() *durabletest.Disk {
		d := durabletest.New()
		sealed(t, open(t, d, "store"), v1)
		done = false
		return d
	}
	fetch := func(d durable.Disk, s *Store) error { return durable.WriteFile(d, s.Staged(v), b, 0o600) }
	run := func(d *durabletest.Disk) {
		s, err := Open(d, "store")
		if err == nil {
			err = fetch(d, s)
		}
		if err == nil {
			err = s.Seal(t.Context(), v)
		}
		done = err == nil
	}
	durabletest.Sweep(t, start, run, func(t *testing.T, d *durabletest.Disk, trial string) {
		s := open(t, d, "store")
		sound(t, s, trial)
		if s.Sealed(v) {
			if err := s.Verify(t.Context(), v); err != nil {
				t.Fatalf("%s: sealed, and %v", trial, err)
			}
		} else if done || !s.Sealed(v1) {
			t.Fatalf("%s: lost a sealed version", trial)
		}
		err := s.Seal(t.Context(), v)
		if errors.Is(err, ErrNotStaged) || errors.Is(err, ErrDigest) {
			must(t, fetch(d, s))
			err = s.Seal(t.Context(), v)
		}
		must(t, err)
		s = open(t, d.Crash(0), "store")
		if err := s.Verify(t.Context(), v); err != nil {
			t.Fatalf("%s: sealed after it, and %v", trial, err)
		}
	})
}

// Nothing is unpacked that the vendor's second signature does not open; the twin differs in the answer alone.
func TestArchiveIsAskedForBeforeItIsUnpacked(t *testing.T) {
	errForged := errors.New("the signature does not match")
	for _, c := range []struct {
		answer, want error
	}{{errForged, errForged}, {nil, nil}} {
		s := open(t, durable.OS(), filepath.Join(t.TempDir(), "store"))
		v, b := packed(t, tree...)
		s.Genuine = func(_ context.Context, asked journal.Version, file string) error {
			if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, b) || asked != v {
				t.Errorf("asked about %d bytes of %s: %v", len(got), asked.Number, err)
			}
			if made, err := os.ReadDir(s.tree(v)); err != nil || len(made) > 0 {
				t.Errorf("unpacked before the answer: %v, %v", made, err)
			}
			return c.answer
		}
		stage(t, s, v, b)
		for range 2 { // the second time from where the first has left it
			if err := s.Seal(t.Context(), v); !errors.Is(err, c.want) || s.Sealed(v) != (c.want == nil) {
				t.Errorf("got %v, want %v, sealed %v", err, c.want, s.Sealed(v))
			}
		}
		if made, err := os.ReadDir(s.tree(v)); err != nil || len(made) > 0 != (c.want == nil) {
			t.Errorf("after %v the tree holds %v, %v", c.answer, made, err)
		}
	}
}
