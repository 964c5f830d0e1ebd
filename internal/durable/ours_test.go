package durable

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file with a second name is not ours alone, on every system; when the other name is gone it is again.
func TestOursAloneHasOneName(t *testing.T) {
	name, second := filepath.Join(t.TempDir(), "file"), filepath.Join(t.TempDir(), "second")
	look := func() error {
		info, err := os.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		return OursAlone(name, info)
	}
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := look(); err != nil {
		t.Error(err)
	}
	if err := os.Link(name, second); err != nil {
		t.Fatal(err)
	}
	if err := look(); !errors.Is(err, ErrNotOurs) || !strings.Contains(err.Error(), name) {
		t.Errorf("with a second name: %v", err)
	}
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	if err := look(); err != nil {
		t.Error(err)
	}
}
