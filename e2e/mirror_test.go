package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

// nowhere is an address at which nobody answers.
func nowhere(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return "http://" + ln.Addr().String()
}

// copyOf is a folder with the repository as it is now.
func copyOf(t *testing.T, s *stage.Stage) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(s.Repo())); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sources sets where the launcher that is started next finds releases.
func sources(t *testing.T, s *stage.Stage, list ...string) {
	t.Helper()
	b, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, line := range strings.Split(string(b), "\n") {
		if strings.HasPrefix(line, "mirrors = ") {
			continue
		}
		if strings.HasPrefix(line, "url = ") {
			line = fmt.Sprintf("url = %q\nmirrors = [%s]", list[0], quoted(list[1:]))
		}
		lines = append(lines, line)
	}
	if err := os.WriteFile(s.Config, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func quoted(list []string) string {
	var out []string
	for _, s := range list {
		out = append(out, fmt.Sprintf("%q", s))
	}
	return strings.Join(out, ", ")
}

// again starts the launcher anew with other sources; the service runs on meanwhile.
func again(t *testing.T, s *stage.Stage, list ...string) {
	t.Helper()
	kill(t, s)
	sources(t, s, list...)
	launch(t, s)
}

// alter changes the one file of a copy that matches.
func alter(t *testing.T, dir, pattern string, f func([]byte) []byte) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %q, %v", pattern, names, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f(b), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// A mirror that lags is passed over for one that does not, one that lies is too, and what either has to do with
// the outcome when there is no other is told by the exit code.
func TestMirrors(t *testing.T) {
	s := staged(t, quick(nil))
	publish(t, s, "1.0.0", example(t, "1.0.0", ""))
	old, old2 := copyOf(t, s), copyOf(t, s)
	launch(t, s)
	serving(t, s, "1.0.0")
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	operator(t, s, 0, "update", "--now", "--follow")
	serving(t, s, "1.1.0")
	publish(t, s, "1.2.0", example(t, "1.2.0", ""))
	fresh := "file://" + copyOf(t, s)
	forged := copyOf(t, s)
	alter(t, forged, "metadata/timestamp.json", func(b []byte) []byte { return bytes.Replace(b, []byte(`"version": `), []byte(`"version": 9`), 1) })
	spoilt := copyOf(t, s)
	for _, dir := range []string{forged, spoilt} {
		alter(t, dir, "artifacts/*", func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	}
	down := nowhere(t)
	byOrder(t, s)

	for _, c := range []struct {
		name string
		list []string
		code int
		says string
	}{
		{"all are down", []string{down, nowhere(t)}, 12, "no source has an answer"},
		{"one is older, the other is down", []string{down, old}, 12, "older than what is known here"},
		{"all are older", []string{old, old2}, 11, "no source has an answer"},
		{"one is older and alone", []string{old}, 11, "older than what is known here"},
		{"one lies, the other is down", []string{down, forged}, 11, "signature not valid"},
		{"one sends wrong bytes, and is alone", []string{spoilt}, 11, "complete, but not the signed bytes"},
	} {
		again(t, s, c.list...)
		unmoved(t, s, func() {
			operator(t, s, c.code, "update", "--now", "--follow")
			says(t, s.Log(), c.says) // the whole of it; a terminal is shown the first line's beginning
		})
		if t.Failed() {
			t.Fatal(c.name)
		}
	}
	again(t, s, down, old, forged, spoilt, fresh)
	d := follow(t, s)
	operator(t, s, 0, "update", "--now", "--follow")
	serving(t, s, "1.2.0")
	for _, source := range []string{down, old, forged, spoilt} {
		d.await(t, "mirror", "")
		if !strings.Contains(s.Log(), source+" was passed over") {
			t.Errorf("nobody is told that %s was passed over", source)
		}
	}
}
