package durable_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, d durable.Disk, name string) string {
	t.Helper()
	b, err := durable.ReadFile(d, name, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return "missing"
	}
	must(t, err)
	return string(b)
}

func TestReadFileIsBounded(t *testing.T) {
	d, name := durable.OS(), filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(name, []byte("12345"), 0o600))
	if b, err := durable.ReadFile(d, name, 5); err != nil || string(b) != "12345" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := durable.ReadFile(d, name, 4); !errors.Is(err, durable.ErrTooLarge) {
		t.Errorf("5 bytes where 4 are allowed: %v", err)
	}
	if _, err := durable.ReadFile(d, name+"x", 4); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestWriteFileOnThisMachine(t *testing.T) {
	d, dir := durable.OS(), t.TempDir()
	name := filepath.Join(dir, "f")
	// A link planted where the temporary file goes must not be followed.
	victim := filepath.Join(dir, "victim")
	must(t, os.WriteFile(victim, []byte("precious"), 0o600))
	if err := os.Symlink(victim, name+".tmp"); err != nil {
		t.Logf("without a planted link: %v", err)
	}
	for _, text := range []string{"one", "two"} {
		must(t, durable.WriteFile(d, name, []byte(text), 0o666))
		if got := read(t, d, name); got != text {
			t.Errorf("wrote %q, read %q", text, got)
		}
	}
	info, err := os.Lstat(name)
	must(t, err)
	if info.Mode() != 0o666 {
		t.Errorf("mode %v: the umask took part of it", info.Mode())
	}
	if got := read(t, d, victim); got != "precious" {
		t.Errorf("wrote through a link: %q", got)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestWriteFileSurvivesEveryCut(t *testing.T) {
	var done bool
	old, fresh := strings.Repeat("old", 400), strings.Repeat("fresh", 500)
	start := func() *durabletest.Disk {
		d := durabletest.New()
		must(t, durable.WriteFile(d, "dir-less", []byte(old), 0o600))
		return d
	}
	run := func(d *durabletest.Disk) { done = durable.WriteFile(d, "dir-less", []byte(fresh), 0o640) == nil }
	durabletest.Sweep(t, start, run, func(t *testing.T, d *durabletest.Disk, trial string) {
		got := read(t, d, "dir-less")
		if got != fresh && (done || got != old) {
			t.Errorf("%s (done: %v): neither old nor new: %.40q (%d bytes)", trial, done, got, len(got))
		}
		info, err := d.Lstat("dir-less")
		if err != nil || done && info.Mode() != 0o640 {
			t.Errorf("%s: mode %v, %v", trial, info.Mode(), err)
		}
		must(t, durable.WriteFile(d, "dir-less", []byte("next"), 0o600)) // whatever is left is no obstacle
		if got := read(t, d.Crash(0), "dir-less"); got != "next" {
			t.Errorf("%s: the next write gave %q", trial, got)
		}
	})
}

func TestMkdirAllSurvivesEveryCut(t *testing.T) {
	var done bool
	run := func(d *durabletest.Disk) { done = durable.MkdirAll(d, "a/b/c", 0o700) == nil }
	durabletest.Sweep(t, durabletest.New, run, func(t *testing.T, d *durabletest.Disk, trial string) {
		if _, err := d.Lstat("a/b/c"); done && err != nil {
			t.Errorf("%s: made, then gone: %v", trial, err)
		}
		// The second attempt may find directories that only a killed process saw.
		must(t, durable.MkdirAll(d, "a/b/c", 0o700))
		if _, err := d.Crash(0).Lstat("a/b/c"); err != nil {
			t.Errorf("%s: made again, then gone: %v", trial, err)
		}
	})
}

func TestMkdirAllRefusesAFile(t *testing.T) {
	d, dir := durable.OS(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o600))
	if err := durable.MkdirAll(d, filepath.Join(dir, "f", "sub"), 0o755); err == nil {
		t.Error("made a directory inside a file")
	}
	must(t, durable.MkdirAll(d, filepath.Join(dir, "real"), 0o755))
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Logf("no links here: %v", err)
		return
	}
	must(t, durable.MkdirAll(d, filepath.Join(dir, "link", "sub"), 0o755))
}

func TestRemoveAllSurvivesEveryCut(t *testing.T) {
	var done bool
	start := func() *durabletest.Disk {
		d := durabletest.New()
		must(t, durable.MkdirAll(d, "a/b", 0o700))
		for i := range 3 {
			must(t, durable.WriteFile(d, fmt.Sprintf("a/b/%d", i), []byte("x"), 0o600))
		}
		return d
	}
	run := func(d *durabletest.Disk) { done = durable.RemoveAll(d, "a") == nil }
	durabletest.Sweep(t, start, run, func(t *testing.T, d *durabletest.Disk, trial string) {
		if _, err := d.Lstat("a"); done && err == nil {
			t.Errorf("%s: removed, then there again", trial)
		}
		must(t, durable.RemoveAll(d, "a"))
		if _, err := d.Crash(0).Lstat("a"); err == nil {
			t.Errorf("%s: removed again, then there", trial)
		}
	})
}

func TestRemoveAllDoesNotFollowLinks(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "keep"), 0o755))
	must(t, os.MkdirAll(filepath.Join(dir, "go", "deep"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "keep", "f"), nil, 0o600))
	if err := os.Symlink(filepath.Join(dir, "keep"), filepath.Join(dir, "go", "deep", "link")); err != nil {
		t.Skipf("no links here: %v", err)
	}
	must(t, durable.RemoveAll(durable.OS(), filepath.Join(dir, "go")))
	if _, err := os.Lstat(filepath.Join(dir, "keep", "f")); err != nil {
		t.Errorf("removed through a link: %v", err)
	}
}

func TestFullDisk(t *testing.T) {
	for _, kind := range []string{"create", "write", "chmod", "sync", "rename", "syncdir"} {
		d := durabletest.New()
		must(t, durable.WriteFile(d, "f", []byte("old"), 0o600))
		d.Fail(func(op durabletest.Op) error {
			if op.Kind == kind {
				return syscall.ENOSPC
			}
			return nil
		})
		if err := durable.WriteFile(d, "f", []byte("new"), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s failed, the answer was %v", kind, err)
		}
		if got := read(t, d, "f"); got != "old" && kind != "syncdir" {
			t.Errorf("%s failed and left %q", kind, got)
		}
		if _, err := d.Lstat("f.tmp"); err == nil {
			t.Errorf("%s failed and left the temporary file", kind)
		}
	}
}

// What was allocated is not what was written, on any system.
func TestAllocate(t *testing.T) {
	d, name := durable.OS(), filepath.Join(t.TempDir(), "f")
	f, err := d.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	_, err = f.Write([]byte("abc"))
	must(t, err)
	must(t, f.Allocate(1<<20))
	must(t, f.Allocate(1)) // less than there is: nothing
	if info, err := f.Stat(); err != nil || info.Size() != 3 {
		t.Errorf("the length is %d, %v", info.Size(), err)
	}
	_, err = f.Write([]byte("def"))
	must(t, errors.Join(err, f.Sync(), f.Close()))
	if got := read(t, d, name); got != "abcdef" {
		t.Errorf("%q", got)
	}
	if free, err := d.Free(filepath.Dir(name)); err != nil || free <= 0 {
		t.Errorf("%d bytes are free, %v", free, err)
	}
}
