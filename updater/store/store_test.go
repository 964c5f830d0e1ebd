package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/updater/journal"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// bytesOf is a program of several sectors.
func bytesOf(number string) []byte { return bytes.Repeat([]byte(number+" "), 300) }

func version(number string, epoch uint64) journal.Version {
	b := bytesOf(number)
	sum := sha256.Sum256(b)
	return journal.Version{Number: number, Digest: hex.EncodeToString(sum[:]), Epoch: epoch, File: "app.exe",
		SizeBytes: int64(len(b)), Minisig: "untrusted comment: x\n<&>\n"}
}

var v1, v2, v3 = version("1.0.0", 1), version("1.1.0", 2), version("2.0.0-rc.1", 3)

func open(t testing.TB, d durable.Disk, dir string) *Store {
	t.Helper()
	s, err := Open(d, dir)
	must(t, err)
	return s
}

func stage(t testing.TB, s *Store, v journal.Version, b []byte) {
	t.Helper()
	must(t, durable.WriteFile(s.disk, s.Staged(v), b, 0o600))
}

func sealed(t testing.TB, s *Store, versions ...journal.Version) {
	t.Helper()
	for _, v := range versions {
		stage(t, s, v, bytesOf(v.Number))
		must(t, s.Seal(t.Context(), v))
	}
}

func exists(d durable.Disk, name string) bool { _, err := d.Lstat(name); return err == nil }

func TestSealOnThisMachine(t *testing.T) {
	s := open(t, durable.OS(), filepath.Join(t.TempDir(), "state", "store"))
	if err := s.Verify(t.Context(), v1); !errors.Is(err, ErrNotSealed) || s.Sealed(v1) {
		t.Errorf("verify before anything: %v", err)
	}
	if err := s.Seal(t.Context(), v1); !errors.Is(err, ErrNotStaged) {
		t.Errorf("seal before anything: %v", err)
	}
	if err := s.Prove(v1); !errors.Is(err, ErrNotSealed) {
		t.Errorf("prove before anything: %v", err)
	}
	sealed(t, s, v1)
	must(t, s.Seal(t.Context(), v1))
	must(t, s.Verify(t.Context(), v1))
	if !s.Sealed(v1) || exists(s.disk, s.Staged(v1)) {
		t.Error("not sealed, or still staged")
	}
	if b, err := os.ReadFile(s.File(v1)); err != nil || !bytes.Equal(b, bytesOf("1.0.0")) {
		t.Errorf("file: %d bytes, %v", len(b), err)
	}
}

// Payloads run under other accounts: they must be able to run a version, and unable to change it.
func TestModes(t *testing.T) {
	s := open(t, durabletest.New(), "store")
	sealed(t, s, v1)
	must(t, s.Prove(v1))
	s.disk = s.disk.(*durabletest.Disk).Crash(0)
	for _, name := range []string{s.dir, s.home(v1), s.Dir(v1), s.File(v1)} {
		info, err := s.disk.Lstat(name)
		if err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	for _, name := range []string{sealName(s.home(v1)), proofName(s.home(v1))} {
		info, err := s.disk.Lstat(name)
		if err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		bytes []byte
		want  error
		kept  bool
	}{
		"short":     {bytesOf("1.0.0")[:100], ErrNotStaged, true},
		"empty":     {nil, ErrNotStaged, true},
		"long":      {append(bytesOf("1.0.0"), 'x'), ErrDigest, false},
		"different": {bytes.Replace(bytesOf("1.0.0"), []byte("1"), []byte("7"), 1), ErrDigest, false},
	} {
		s := open(t, durabletest.New(), "store")
		stage(t, s, v1, tc.bytes)
		if err := s.Seal(t.Context(), v1); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
		if s.Sealed(v1) || exists(s.disk, s.Staged(v1)) != tc.kept || exists(s.disk, s.File(v1)) {
			t.Errorf("%s: sealed %v, staged %v", name, s.Sealed(v1), exists(s.disk, s.Staged(v1)))
		}
		sealed(t, s, v1) // and the right bytes are still welcome
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("the operator said stop")
	cancel(stop)
	s := open(t, durabletest.New(), "store")
	stage(t, s, v1, bytesOf("1.0.0"))
	if err := s.Seal(ctx, v1); !errors.Is(err, stop) || !exists(s.disk, s.Staged(v1)) {
		t.Errorf("stopped: %v", err)
	}
	sealed(t, s, v1)
	if err := s.Verify(ctx, v1); !errors.Is(err, stop) || errors.Is(err, ErrDamaged) {
		t.Errorf("stopped: %v", err)
	}
}

func TestImpossibleNames(t *testing.T) {
	s := open(t, durabletest.New(), "store")
	for _, change := range []func(v *journal.Version){
		func(v *journal.Version) { v.Number = "../1.0.0" },
		func(v *journal.Version) { v.Number = "1.0.0-RC.1" },
		func(v *journal.Version) { v.Number = "1.0.0-a/../../x" },
		func(v *journal.Version) { v.Number = "" },
		func(v *journal.Version) { v.Number = "1.0.0-" + strings.Repeat("a", 100) },
		func(v *journal.Version) { v.Digest = "abc" },
		func(v *journal.Version) { v.Digest = strings.ToUpper(v.Digest) },
		func(v *journal.Version) { v.Digest = "../" + v.Digest[3:] },
		func(v *journal.Version) { v.File = "" },
		func(v *journal.Version) { v.File = ".." },
		func(v *journal.Version) { v.File = ".hidden" },
		func(v *journal.Version) { v.File = "a/b" },
		func(v *journal.Version) { v.File = `a\b` },
		func(v *journal.Version) { v.File = "app:stream" },
		func(v *journal.Version) { v.File = "dot." },
		func(v *journal.Version) { v.File = "new\nline" },
	} {
		v := v1
		change(&v)
		if err := s.Seal(t.Context(), v); !errors.Is(err, ErrName) {
			t.Errorf("%q %q %q: sealed: %v", v.Number, v.Digest, v.File, err)
		}
		if err := s.Verify(t.Context(), v); !errors.Is(err, ErrName) {
			t.Errorf("%q %q %q: verified: %v", v.Number, v.Digest, v.File, err)
		}
		if s.Staged(v) != "" || s.Dir(v) != "" || s.File(v) != "" || s.Sealed(v) {
			t.Errorf("%q %q %q: has a path", v.Number, v.Digest, v.File)
		}
		sealed(t, s, v2)
		if _, err := s.Collect([]journal.Version{v2, v}); !errors.Is(err, ErrName) || !s.Sealed(v2) {
			t.Errorf("%q %q %q: collected: %v", v.Number, v.Digest, v.File, err)
		}
		if removed, err := s.Collect([]journal.Version{v}); !errors.Is(err, ErrName) || len(removed) > 0 || !s.Sealed(v2) {
			t.Errorf("%q %q %q: a list that names nothing removed %v (%v)", v.Number, v.Digest, v.File, removed, err)
		}
	}
}

// What Verify must see, and what Seal does about it once the bytes were fetched again.
func TestDamageIsSeenAndRepaired(t *testing.T) {
	for name, damage := range map[string]func(s *Store) error{
		"one bit":   func(s *Store) error { return flip(s.disk, s.File(v1), 900) },
		"truncated": func(s *Store) error { return durable.WriteFile(s.disk, s.File(v1), bytesOf("1.0.0")[:99], 0o755) },
		"zeros":     func(s *Store) error { return durable.WriteFile(s.disk, s.File(v1), make([]byte, v1.SizeBytes), 0o755) },
		"missing":   func(s *Store) error { return s.disk.Remove(s.File(v1)) },
		"a folder":  func(s *Store) error { return errors.Join(s.disk.Remove(s.File(v1)), s.disk.Mkdir(s.File(v1), 0o755)) },
		"more files": func(s *Store) error {
			return durable.WriteFile(s.disk, filepath.Join(s.Dir(v1), "evil.dll"), nil, 0o755)
		},
		"another name": func(s *Store) error { return s.disk.Rename(s.File(v1), filepath.Join(s.Dir(v1), "other.exe")) },
		"no tree":      func(s *Store) error { return durable.RemoveAll(s.disk, s.Dir(v1)) },
		"seal bit":     func(s *Store) error { return flip(s.disk, sealName(s.home(v1)), 60) },
		"seal empty":   func(s *Store) error { return durable.WriteFile(s.disk, sealName(s.home(v1)), nil, 0o644) },
		"seal zeros":   func(s *Store) error { return durable.WriteFile(s.disk, sealName(s.home(v1)), make([]byte, 500), 0o644) },
		"seal huge": func(s *Store) error {
			return durable.WriteFile(s.disk, sealName(s.home(v1)), make([]byte, maxBytes+1), 0o644)
		},
		"other's seal": func(s *Store) error {
			return durable.WriteFile(s.disk, sealName(s.home(v1)), encode(sealOf(v2)), 0o644)
		},
	} {
		s := open(t, durabletest.New(), "store")
		sealed(t, s, v1, v2)
		must(t, s.Prove(v1))
		must(t, damage(s))
		if err := s.Verify(t.Context(), v1); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if seal := strings.Contains(name, "seal"); seal == s.Sealed(v1) {
			t.Errorf("%s: sealed: %v", name, s.Sealed(v1))
		}
		must(t, s.Verify(t.Context(), v2))
		// Bytes that are wrong again repair nothing and cost nothing.
		stage(t, s, v1, bytes.Repeat([]byte{'x'}, int(v1.SizeBytes)))
		if err := s.Seal(t.Context(), v1); !errors.Is(err, ErrDigest) {
			t.Errorf("%s: sealed wrong bytes: %v", name, err)
		}
		sealed(t, s, v1)
		if err := s.Verify(t.Context(), v1); err != nil || exists(s.disk, s.Staged(v1)) {
			t.Errorf("%s: fetched again, and still %v", name, err)
		}
		if proven, err := s.Proven(); err != nil || !slices.Equal(proven, []journal.Version{v1}) {
			t.Errorf("%s: proven after the repair: %v, %v", name, proven, err)
		}
		stage(t, s, v1, bytesOf("1.0.0")) // fetched once more for nothing
		must(t, s.Seal(t.Context(), v1))
		if exists(s.disk, s.Staged(v1)) {
			t.Errorf("%s: what is not needed stays staged", name)
		}
	}
}

func flip(d durable.Disk, name string, at int) error {
	b, err := durable.ReadFile(d, name, maxBytes)
	if err != nil {
		return err
	}
	b[at] ^= 1
	return durable.WriteFile(d, name, b, 0o755)
}

func TestLinksAreNotFiles(t *testing.T) {
	s := open(t, durable.OS(), t.TempDir())
	sealed(t, s, v1)
	must(t, os.Rename(s.File(v1), filepath.Join(s.dir, "elsewhere")))
	if err := os.Symlink(filepath.Join(s.dir, "elsewhere"), s.File(v1)); err != nil {
		t.Skipf("no links here: %v", err)
	}
	if err := s.Verify(t.Context(), v1); !errors.Is(err, ErrDamaged) {
		t.Errorf("a link to the right bytes: %v", err)
	}
	outside := t.TempDir()
	must(t, os.WriteFile(sealName(outside), nil, 0o600))
	must(t, os.Symlink(outside, s.home(v2)))
	if _, err := s.Collect(nil); err != nil || !exists(s.disk, sealName(outside)) || exists(s.disk, s.home(v2)) {
		t.Errorf("collected through a link: %v", err)
	}
}

func TestProven(t *testing.T) {
	s := open(t, durabletest.New(), "store")
	if proven, err := s.Proven(); err != nil || len(proven) > 0 {
		t.Errorf("an empty store: %v, %v", proven, err)
	}
	sealed(t, s, v1, v2, v3)
	for _, v := range []journal.Version{v1, v3, v2, v3} {
		must(t, s.Prove(v))
	}
	if proven, err := s.Proven(); err != nil || !slices.Equal(proven, []journal.Version{v3, v2, v1}) {
		t.Errorf("%v, %v", proven, err)
	}
	must(t, s.disk.Remove(sealName(s.home(v1)))) // as after a cut in Collect
	must(t, flip(s.disk, proofName(s.home(v3)), 30))
	must(t, durable.MkdirAll(s.disk, filepath.Join(s.dir, "not-ours"), 0o755))
	proven, err := s.Proven()
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), homeName(v3)) || !slices.Equal(proven, []journal.Version{v2}) {
		t.Errorf("%v, %v", proven, err)
	}
	must(t, s.Prove(v3)) // known again from the seal
	if proven, err := s.Proven(); err != nil || !slices.Equal(proven, []journal.Version{v3, v2}) {
		t.Errorf("%v, %v", proven, err)
	}
	// A proof and a seal that do not agree, each well formed.
	other := v2
	other.Epoch = 99
	must(t, durable.WriteFile(s.disk, proofName(s.home(v2)), encode(proof{schema, other}), 0o644))
	if proven, err := s.Proven(); !errors.Is(err, ErrDamaged) || !slices.Equal(proven, []journal.Version{v3}) {
		t.Errorf("a forged epoch: %v, %v", proven, err)
	}
}

func TestCollect(t *testing.T) {
	s := open(t, durabletest.New(), "store")
	sealed(t, s, v1, v2, v3)
	must(t, s.disk.Remove(s.File(v1)))
	for _, v := range []journal.Version{v1, v2} {
		stage(t, s, v, []byte("some"))
		must(t, durable.WriteFile(s.disk, s.Staged(v)+".etag", []byte("x"), 0o600))
	}
	for _, name := range []string{"README", "lost+found", "1.0.0", filepath.Join("staging", "junk")} {
		must(t, durable.WriteFile(s.disk, filepath.Join(s.dir, name), nil, 0o600))
	}
	removed, err := s.Collect([]journal.Version{v2})
	want := []string{homeName(v1), homeName(v3), "staging/" + v1.Digest + ".part", "staging/" + v1.Digest + ".part.etag", "staging/junk"}
	slices.Sort(want)
	for i := range removed {
		removed[i] = filepath.ToSlash(removed[i])
	}
	slices.Sort(removed)
	if err != nil || !slices.Equal(removed, want) {
		t.Errorf("removed %v, %v\nwant %v", removed, err, want)
	}
	must(t, s.Verify(t.Context(), v2))
	for _, name := range []string{"README", "lost+found", "1.0.0"} {
		if !exists(s.disk, filepath.Join(s.dir, name)) {
			t.Errorf("removed %s, which is not the store's", name)
		}
	}
	if !exists(s.disk, s.Staged(v2)) || !exists(s.disk, s.Staged(v2)+".etag") {
		t.Error("removed a download that is to be kept")
	}
}

// A version that cannot be removed does not keep the others.
func TestCollectGoesOn(t *testing.T) {
	d := durabletest.New()
	s := open(t, d, "store")
	sealed(t, s, v1, v2, v3)
	held := errors.New("the file is in use")
	d.Fail(func(op durabletest.Op) error {
		if op.Kind == "remove" && op.Name == s.File(v1) {
			return held
		}
		return nil
	})
	removed, err := s.Collect([]journal.Version{v3})
	if !errors.Is(err, held) || !slices.Equal(removed, []string{homeName(v2)}) || s.Sealed(v1) {
		t.Errorf("removed %v, %v; still sealed: %v", removed, err, s.Sealed(v1))
	}
	d.Fail(nil)
	if removed, err := s.Collect([]journal.Version{v3}); err != nil || !slices.Equal(removed, []string{homeName(v1)}) {
		t.Errorf("the next time: %v, %v", removed, err)
	}
}

// BenchmarkVerify prints how fast a version is read and hashed before it is started.
func BenchmarkVerify(b *testing.B) {
	s := open(b, durable.OS(), b.TempDir())
	program := bytes.Repeat([]byte("turnstone"), 20<<20/9)
	sum := sha256.Sum256(program)
	v := journal.Version{Number: "1.0.0", Digest: hex.EncodeToString(sum[:]), File: "app", SizeBytes: int64(len(program))}
	stage(b, s, v, program)
	must(b, s.Seal(b.Context(), v))
	b.SetBytes(v.SizeBytes)
	for b.Loop() {
		must(b, s.Verify(b.Context(), v))
	}
}

// A seal names the whole version for a process of which only number and digest are known.
func TestNamed(t *testing.T) {
	s := open(t, durabletest.New(), "store")
	if _, err := s.Named(v1.Number, v1.Digest); !errors.Is(err, ErrNotSealed) {
		t.Errorf("before anything: %v", err)
	}
	sealed(t, s, v1)
	if v, err := s.Named(v1.Number, v1.Digest); err != nil || v != v1 {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := s.Named("1.0.0/..", v1.Digest); !errors.Is(err, ErrName) {
		t.Errorf("an impossible name: %v", err)
	}
	other := v1.Digest[:63] + string('0'+(v1.Digest[63]+1)%8)
	if _, err := s.Named(v1.Number, other); !errors.Is(err, ErrDamaged) {
		t.Errorf("another digest that begins the same: %v", err)
	}
}
