package durable

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A file that came into our folder by a second name has kept its own access list, which nobody has looked at.
func TestOursHasOneName(t *testing.T) {
	name, second := filepath.Join(t.TempDir(), "file"), filepath.Join(t.TempDir(), "second")
	if err := errors.Join(os.WriteFile(name, nil, 0o644), os.Link(name, second)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := Ours(name, info); !errors.Is(err, ErrNotOurs) {
		t.Errorf("with a second name: %v", err)
	}
}
