package durable

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// What is only read may have a second name, as long as nobody else may write to the file, by whichever name.
func TestOursMayHaveTwoNames(t *testing.T) {
	name, second := filepath.Join(t.TempDir(), "file"), filepath.Join(t.TempDir(), "second")
	if err := errors.Join(os.WriteFile(name, nil, 0o644), os.Link(name, second)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := Ours(name, info); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(second, 0o646); err != nil {
		t.Fatal(err)
	}
	if info, err = os.Lstat(name); err != nil {
		t.Fatal(err)
	}
	if err := Ours(name, info); !errors.Is(err, ErrNotOurs) {
		t.Errorf("writable by its second name: %v", err)
	}
}
