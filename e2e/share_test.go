package e2e

import (
	"os"
	"testing"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

// The Windows launcher updates from a repository on a share, named as Windows names it or by a file URL. When the
// share is gone that is no network, and the service goes on; when it is back, so are updates.
func TestShareAsRepository(t *testing.T) {
	programs, m := windows(t)
	s, err := stage.New(t.Context(), programs, stage.Options{Machine: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the launcher's log:\n%s", s.Log())
		}
		_ = s.Close() // the launcher ends with the machine
	})
	release := func(version string) {
		t.Helper()
		file, err := programs.Example(t.Context(), version, "")
		if err != nil {
			t.Fatal(err)
		}
		publish(t, s, version, file)
	}
	if err := m.Share("server", "our releases", s.Repo()); err != nil {
		t.Fatal(err)
	}
	const path, url = `'\\server\our releases'`, `"file://server/our%20releases"`
	edit(t, s, `"`+s.URL+`"`, path)
	release("1.0.0")
	launch(t, s)
	serving(t, s, "1.0.0")
	release("1.1.0")
	operator(t, s, 0, "update", "--now", "--follow")
	serving(t, s, "1.1.0")

	away := s.Repo() + "-away"
	if err := os.Rename(s.Repo(), away); err != nil {
		t.Fatal(err)
	}
	says(t, operator(t, s, 12, "check"), "is it there, and mounted?")
	serving(t, s, "1.1.0")
	if err := os.Rename(away, s.Repo()); err != nil {
		t.Fatal(err)
	}
	operator(t, s, 3, "check")

	byOrder(t, s)
	if out, err := m.Run(t.Context(), "taskkill", "/f", "/im", "launcher.exe"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	edit(t, s, path, url)
	release("1.2.0")
	launch(t, s)
	operator(t, s, 0, "update", "--now", "--follow")
	serving(t, s, "1.2.0")
}
