package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

// patchable serves the example 1.0.0 and has 1.1.0 published with a patch from it.
func patchable(t *testing.T) (*stage.Stage, *middle) {
	t.Helper()
	s := staged(t, quick(nil))
	m := behind(t, s)
	publish(t, s, "1.0.0", example(t, "1.0.0", ""))
	launch(t, s)
	serving(t, s, "1.0.0")
	addPatched(t, s, "1.1.0", "3")
	return s, m
}

// addPatched publishes an example with patches from the newest n versions.
func addPatched(t *testing.T, s *stage.Stage, version, n string) {
	t.Helper()
	change(t, s, "add", version, "--platform", runtime.GOOS+"/"+runtime.GOARCH+"="+example(t, version, ""), "--channel", "stable", "--patches", n, "--pack=false")
}

// unstaged demands that nothing is left where downloads and patches lie.
func unstaged(t *testing.T, s *stage.Stage) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(s.State(), "store", "staging"))
	if err != nil || len(left) != 0 {
		t.Errorf("left in staging: %v, %v", left, err)
	}
}

// A host that has the version that a patch starts from downloads the patch and nothing else.
func TestUpdateByPatch(t *testing.T) {
	t.Parallel()
	s, m := patchable(t)
	m.is(nil)
	out := operator(t, s, 0, "update", "--now", "--follow")
	says(t, out, "by a patch of")
	serving(t, s, "1.1.0")
	requests, sent := m.seen()
	if size := fileSize(t, example(t, "1.1.0", "")); len(requests) != 1 || sent == 0 || sent > size/10 {
		t.Errorf("%d requests and %d bytes for a program of %d", len(requests), sent, size)
	}
	unstaged(t, s)
	says(t, toolSays(t, s, "verify", s.Repo()), "1 patch file: each makes the signed program")
}

func toolSays(t *testing.T, s *stage.Stage, args ...string) string {
	t.Helper()
	out, err := s.Tool(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A patch that is not the signed one is not looked into: the whole file is fetched, and the version is none the
// worse for it.
func TestUpdateByTamperedPatch(t *testing.T) {
	t.Parallel()
	s, m := patchable(t)
	size := fileSize(t, example(t, "1.1.0", ""))
	m.is(func(w http.ResponseWriter, whole []byte) {
		if int64(len(whole)) < size {
			flipped(w, whole)
			return
		}
		_, _ = w.Write(whole) // the reader may have gone
	})
	out := operator(t, s, 0, "update", "--now", "--follow")
	says(t, out, "by a patch of", "cannot be made by the patch", "complete, but not the signed bytes")
	serving(t, s, "1.1.0")
	if requests, sent := m.seen(); len(requests) != 2 || sent < size {
		t.Errorf("%d requests and %d bytes for a program of %d", len(requests), sent, size)
	}
	unstaged(t, s)
	if st := status(t, s); len(st.Quarantine) != 0 {
		t.Errorf("the release is blamed for its patch: %v", st.Quarantine)
	}
}

// A host that jumps over the version that the only patch starts from downloads the file.
func TestUpdateWithoutTheBase(t *testing.T) {
	t.Parallel()
	s, m := patchable(t)
	addPatched(t, s, "1.2.0", "1")
	m.is(nil)
	says(t, operator(t, s, 0, "update", "--now", "--follow"), "none from a version in the store")
	serving(t, s, "1.2.0")
	if _, sent := m.seen(); sent != fileSize(t, example(t, "1.2.0", "")) {
		t.Errorf("%d bytes were sent", sent)
	}
}
