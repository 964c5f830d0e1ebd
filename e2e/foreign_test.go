package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
)

// need finds a program that nobody here wrote.
func need(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing: go run ./scripts/test -part tools installs it", name)
		}
		t.Skipf("%s is not installed here", name)
	}
	return path
}

// page writes a release of the python server: the page is the whole program.
func page(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "index.html")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func fetched(t *testing.T, s *stage.Stage) string {
	t.Helper()
	resp, err := http.Get("http://" + s.Listen + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(body))
}

// A server that knows nothing of a launcher, python3 -m http.server, is switched and rolled back behind the
// proxy without a lost connection. Its releases are pages.
func TestUnmodifiedProgramBehindProxy(t *testing.T) {
	python := need(t, "python3")
	s := staged(t, stage.Options{Config: map[string]string{
		"payload":   fmt.Sprintf("kind = \"plain\"\nuser = \"same\"\ncommand = [%q, \"-m\", \"http.server\", \"--bind\", \"127.0.0.1\", \"--directory\", \"{{.Dir}}\", \"{{.Port}}\"]\n", python),
		"health":    "probe = \"http\"\npath = \"/index.html\"\ninterval = \"100ms\"\ngood = 2\nready_timeout = \"10s\"\n",
		"probation": "time = \"1s\"\nmin_requests = 20\n",
	}})
	publish(t, s, "1.0.0", page(t, "one"))
	launch(t, s)
	serving(t, s, "1.0.0")
	r := underLoad(t, s, load.Options{NoSlow: true, Workers: map[load.Class]int{load.Fresh: 16}}, func(*load.Load) {
		publish(t, s, "1.1.0", page(t, "two"))
		operator(t, s, 0, "update", "--now", "--follow")
		if got := fetched(t, s); got != "two" {
			t.Errorf("after the switch the page is %q", got)
		}
		operator(t, s, 0, "rollback", "--follow")
		if got := fetched(t, s); got != "one" {
			t.Errorf("after the rollback the page is %q", got)
		}
	})
	nothingLost(t, r)
}

// gunicorn takes its socket by LISTEN_FDS and cannot run beside its predecessor: connections wait while one
// ends and the next starts, and none is refused.
func TestSocketActivation(t *testing.T) {
	gunicorn := need(t, "gunicorn")
	app := func(text string) string {
		file := filepath.Join(t.TempDir(), "app.py")
		source := "def app(env, start):\n    start('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', '3')])\n    return [b'" + text + "']\n"
		if err := os.WriteFile(file, []byte(source), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	s := staged(t, stage.Options{Config: map[string]string{
		"payload":   fmt.Sprintf("kind = \"activation\"\nuser = \"same\"\ncommand = [%q, \"--chdir\", \"{{.Dir}}\", \"--workers\", \"1\", \"app:app\"]\nenv = { PYTHONDONTWRITEBYTECODE = \"1\" }\n", gunicorn),
		"health":    "probe = \"none\"\nnotify = true\nready_timeout = \"20s\"\n",
		"probation": "time = \"1s\"\nmin_requests = 0\n",
	}})
	publish(t, s, "1.0.0", app("one"))
	launch(t, s)
	serving(t, s, "1.0.0")
	r := underLoad(t, s, load.Options{NoSlow: true, Workers: map[load.Class]int{load.Fresh: 8}}, func(*load.Load) {
		publish(t, s, "1.1.0", app("two"))
		out := operator(t, s, 0, "update", "--now", "--follow")
		if !strings.Contains(out, "longest_hold") {
			t.Errorf("the hold is not told:\n%s", out)
		}
		if got := fetched(t, s); got != "two" {
			t.Errorf("after the switch gunicorn says %q", got)
		}
		operator(t, s, 0, "rollback", "--follow")
		if got := fetched(t, s); got != "one" {
			t.Errorf("after the rollback gunicorn says %q", got)
		}
	})
	if r.Refused > 0 || r.Failed > 0 {
		t.Errorf("lost requests: %+v", r)
	}
}
