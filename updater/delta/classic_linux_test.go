package delta

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The classic tools read our patches, and we theirs.
func TestClassicTools(t *testing.T) {
	for _, tool := range []string{"bsdiff", "bspatch"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip("install the package bsdiff: ", err)
		}
	}
	for name, p := range pairs() {
		if len(p[0]) == 0 || len(p[1]) == 0 {
			continue // bsdiff maps its files, and cannot map nothing
		}
		dir := t.TempDir()
		file := func(f string) string { return filepath.Join(dir, f) }
		for f, data := range map[string][]byte{"old": p[0], "new": p[1], "ours": mustMake(t, p[0], p[1])} {
			if err := os.WriteFile(file(f), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.Command("bspatch", file("old"), file("made"), file("ours")).CombinedOutput(); err != nil {
			t.Errorf("%s: bspatch: %v: %s", name, err, out)
		} else if made, err := os.ReadFile(file("made")); err != nil || !bytes.Equal(made, p[1]) {
			t.Errorf("%s: bspatch makes %d other bytes, %v", name, len(made), err)
		}
		if out, err := exec.Command("bsdiff", file("old"), file("new"), file("theirs")).CombinedOutput(); err != nil {
			t.Errorf("%s: bsdiff: %v: %s", name, err, out)
			continue
		}
		theirs, err := os.ReadFile(file("theirs"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := applied(p[0], theirs, len(p[1])); err != nil || !bytes.Equal(got, p[1]) {
			t.Errorf("%s: we make %d other bytes of theirs, %v", name, len(got), err)
		}
	}
}
