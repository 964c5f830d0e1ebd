package host

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A held program runs, and cannot be written, renamed or removed.
func TestHeldProgramCannotBeReplaced(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "program.exe")
	if err := os.WriteFile(file, text, 0o755); err != nil {
		t.Fatal(err)
	}
	h, err := Hold(file)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := os.OpenFile(file, os.O_WRONLY, 0); err == nil {
		t.Error("it can be written", f.Close())
	}
	if err := os.Rename(file, file+".old"); err == nil {
		t.Error("it can be renamed")
	}
	if err := os.Remove(file); err == nil {
		t.Error("it can be removed")
	}
	if out, err := exec.Command(file, "-test.run=^$").CombinedOutput(); err != nil {
		t.Errorf("it cannot be run: %v: %s", err, out)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(file); err != nil {
		t.Errorf("after it was let go: %v", err)
	}
}
