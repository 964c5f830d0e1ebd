package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/manifest"
)

// TestMain lets the test's own binary be the client: started with this variable, it is nothing else.
func TestMain(m *testing.M) {
	if os.Getenv("TUFCLIENT") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// user is one who runs the client against a repository.
type user struct {
	r        *repo
	url      string
	dir      string
	fakeTime string
}

// newUser has a client that was born with root 1 and has seen nothing.
func newUser(r *repo) *user {
	u := &user{r: r, url: r.serve().URL, dir: r.t.TempDir()}
	root := filepath.Join(u.dir, "initial")
	if err := os.WriteFile(root, r.files["/metadata/1.root.json"], 0o600); err != nil {
		r.t.Fatal(err)
	}
	if text, err := u.run("init", root); err != nil {
		r.t.Fatalf("init: %v: %s", err, text)
	}
	if asked := r.requests(); len(asked) > 0 {
		r.t.Errorf("init asked for %v", asked)
	}
	return u
}

// run returns what the client says, and its exit code as an error.
func (u *user) run(args ...string) (string, error) {
	cmd := exec.Command(os.Args[0], append([]string{"--metadata-dir", filepath.Join(u.dir, "trusted")}, args...)...)
	cmd.Env = append(cmd.Environ(), "TUFCLIENT=1", "FAKETIME="+u.fakeTime, "TZ=UTC")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() != 1 {
		u.r.t.Errorf("exit code %d: %s", exit.ExitCode(), out)
	}
	return string(out), err
}

func (u *user) refresh() (string, error) {
	return u.run("--metadata-url", u.url+"/metadata", "refresh")
}

func (u *user) download(names ...string) (string, error) {
	args := []string{"--metadata-url", u.url + "/metadata", "--target-base-url", u.url + "/targets", "--target-dir", u.dir}
	for _, n := range names {
		args = append(args, "--target-name", n)
	}
	return u.run(append(args, "download")...)
}

func (u *user) trusted(role string) string {
	data, _ := os.ReadFile(filepath.Join(u.dir, "trusted", role+".json")) // "" if there is none
	return string(data)
}

// served says that the client trusts what the repository serves for a role now.
func (u *user) served(role, name string) {
	u.r.t.Helper()
	if got := u.trusted(role); got != string(u.r.files["/metadata/"+name]) {
		u.r.t.Errorf("%s is %.200s", role, got)
	}
}

func TestRefresh(t *testing.T) {
	r := newRepo(t)
	u := newUser(r)
	if text, err := u.refresh(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	want := "/metadata/2.root.json /metadata/timestamp.json /metadata/1.snapshot.json /metadata/1.targets.json"
	if got := strings.Join(r.requests(), " "); got != want {
		t.Errorf("asked for %s", got)
	}
	u.served("root", "1.root.json")
	u.served("timestamp", "timestamp.json")
	u.served("snapshot", "1.snapshot.json")
	u.served("targets", "1.targets.json")
	if u.trusted("stable") != "" {
		t.Error("a refresh brought in a delegated role")
	}
}

func TestDownload(t *testing.T) {
	r := newRepo(t)
	u := newUser(r)
	if text, err := u.download("hello.txt", "stable/app"); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for file, want := range map[string]string{"hello.txt": "hello", "stable%2Fapp": "one"} {
		if data, err := os.ReadFile(filepath.Join(u.dir, file)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", file, data, err)
		}
	}
	u.served("stable", "1.stable.json")
	r.requests()
	text, err := u.download("hello.txt")
	if asked := r.requests(); err != nil || len(asked) != 2 {
		t.Errorf("again: %v: %s, asked for %v", err, text, asked)
	}
	if text, err := u.download("stable/none"); err == nil || !strings.Contains(text, manifest.ErrNoTarget.Error()) {
		t.Errorf("a target that is not there: %v: %s", err, text)
	}
	for name := range r.files {
		if strings.HasPrefix(name, "/targets/stable/") {
			r.files[name] = []byte("two")
		}
	}
	r.requests()
	other := newUser(r)
	if text, err := other.download("stable/app"); err == nil || !strings.Contains(text, manifest.ErrMismatch.Error()) {
		t.Errorf("other bytes: %v: %s", err, text)
	}
}

// A client that was born with root 1 follows every change of keys up to the last, and keeps the way.
func TestRotations(t *testing.T) {
	r := newRepo(t)
	u := newUser(r)
	for range 3 {
		old := r.keys["root"]
		r.keys["root"] = []key{newKey(t), newKey(t), newKey(t)}
		r.signers["root"] = append(old[:2:2], r.keys["root"]...)
		r.publish("root")
	}
	r.keys["timestamp"] = []key{newKey(t)}
	r.publish("root", "timestamp")
	if text, err := u.refresh(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	u.served("root", "5.root.json")
	kept, err := filepath.Glob(filepath.Join(u.dir, "trusted", "roots", "*.root.json"))
	if err != nil || len(kept) != 5 {
		t.Errorf("kept %v, %v", kept, err)
	}
}

func TestFakeTime(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"": now, "+10": now.Add(10 * time.Second), "-2h": now.Add(-2 * time.Hour), "+1.5d": now.Add(36 * time.Hour),
		"@2030-01-02 03:04:05": time.Date(2030, 1, 2, 3, 4, 5, 0, time.Local).UTC(),
	} {
		if got, err := fakeTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	if _, err := fakeTime("soon", now); err == nil {
		t.Error("anything is a time")
	}
}
