package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

// Every role's keys are replaced while a launcher runs, the root's among them, and it goes on updating. A thief who
// has the old keys and the server then offers a version with higher numbers: it is refused, and the service serves.
func TestKeysAreReplaced(t *testing.T) {
	s := launched(t, quick(nil))
	stolen := copiedTree(t, filepath.Join(s.Home, "product"))
	for _, key := range []string{"root/root-1", "root/root-2", "targets/targets-1", "targets/targets-2", "stable", "snapshot", "timestamp"} {
		tool(t, s, "keys", "replace", key)
	}
	tool(t, s, "keys", "add", "artifact")
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	change(t, s, "keys", "remove", "artifact/artifact", "--yank")
	operator(t, s, 0, "update", "--follow")
	serving(t, s, "1.1.0")

	honest := copiedTree(t, s.Repo())
	forged := filepath.Join(t.TempDir(), "www")
	for range 12 { // timestamps above all that were published
		thief(t, s, stolen, "sign", "--role", "stable")
	}
	thief(t, s, stolen, "add", "6.6.6", "--platform", runtime.GOOS+"/"+runtime.GOARCH+"="+example(t, "6.6.6", ""), "--channel", "stable", "--patches", "0", "--pack=false")
	thief(t, s, stolen, "publish", "--to", "dir:"+forged)
	swap(t, s.Repo(), forged)
	says(t, asked(t, s, 11, "check").Error, "signature not valid")
	serving(t, s, "1.1.0")

	swap(t, s.Repo(), honest)
	publish(t, s, "1.2.0", example(t, "1.2.0", ""))
	operator(t, s, 0, "update", "--follow")
	serving(t, s, "1.2.0")
}

func tool(t *testing.T, s *stage.Stage, args ...string) {
	t.Helper()
	if out, err := s.Tool(t.Context(), args...); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

// thief runs the release tool on another copy of the product.
func thief(t *testing.T, s *stage.Stage, product string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), s.Release, append([]string{"--dir", product}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

// copiedTree is a copy of a folder, with key files that only the owner can read.
func copiedTree(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	keys, err := filepath.Glob(filepath.Join(to, "keys", "*.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if err := os.Chmod(key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// swap replaces what a folder holds, not the folder, which a server has open.
func swap(t *testing.T, dir, with string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(dir, os.DirFS(with)); err != nil {
		t.Fatal(err)
	}
}
