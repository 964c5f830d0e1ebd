package durable

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// A name leads nowhere else, be it by its own parts or by a link that lies in its way.
func TestBelowStaysInside(t *testing.T) {
	home := t.TempDir()
	dir, other := filepath.Join(home, "dir"), filepath.Join(home, "other")
	for _, name := range []string{dir, other} {
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	in, err := Below(OS(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := in.Mkdir("a", 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := in.Create("a/b", 0o644)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, name := range []string{"../other/x", "/etc/x", "a/../../other/x", ""} {
		if f, err := in.Create(name, 0o644); err == nil {
			f.Close()
			t.Errorf("%q was made", name)
		}
	}
	if _, err := in.Create("a/b", 0o644); err == nil {
		t.Error("a file was made twice")
	}
	if runtime.GOOS == "windows" {
		return // links need a right there that tests do not have
	}
	if err := os.Symlink(other, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if f, err := in.Create("link/x", 0o644); err == nil {
		f.Close()
		t.Error("a link was followed out of the folder")
	}
	if err := in.Mkdir("link/y", 0o755); err == nil {
		t.Error("a link was followed out of the folder")
	}
	if err := in.Chmod("link", 0o777); err == nil {
		t.Error("what a link leads to was changed")
	}
	if left, err := os.ReadDir(other); err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}
