package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/manifest"
)

// said is what one run of the program came to.
type said struct {
	code     int
	out, err string
}

// release runs the program in this process.
func release(t *testing.T, args ...string) said {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(context.Background(), args, &stdout, &stderr)
	return said{code, stdout.String(), stderr.String()}
}

// must runs the program and wants the exit code.
func must(t *testing.T, code int, args ...string) said {
	t.Helper()
	got := release(t, args...)
	if got.code != code {
		t.Fatalf("release %s: exit %d, want %d\n%s%s", strings.Join(args, " "), got.code, code, got.out, got.err)
	}
	return got
}

// result reads the one JSON object of a run into into, and checks its head.
func (s said) result(t *testing.T, into any) {
	t.Helper()
	var e struct {
		Schema  int
		Command string
		Exit    status
		Error   string
		Result  json.RawMessage
	}
	if err := json.Unmarshal([]byte(s.out), &e); err != nil {
		t.Fatalf("%v in %q", err, s.out)
	}
	if e.Schema != schema || e.Command == "" || e.Exit.Code != s.code || e.Exit.Reason == "" || (s.code != 0) != (e.Error != "") {
		t.Errorf("head of %s", s.out)
	}
	if s.err != "" {
		t.Errorf("with --json there is text on stderr: %s", s.err)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(e.Result, into); err != nil {
		t.Fatalf("%v in %s", err, e.Result)
	}
}

// bench is a product in a temporary folder.
type bench struct {
	t      *testing.T
	dir    string // of the product
	public string // where it is published
	dist   string // of the built programs
}

func newBench(t *testing.T, channels ...string) *bench {
	t.Helper()
	top := t.TempDir()
	b := &bench{t, filepath.Join(top, "product"), filepath.Join(top, "public"), filepath.Join(top, "dist")}
	args := []string{"init", "agent"}
	for _, c := range channels {
		args = append(args, "--channel", c)
	}
	b.must(0, args...)
	if err := os.Mkdir(b.dist, 0o755); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) must(code int, args ...string) said {
	b.t.Helper()
	return must(b.t, code, append(args, "--dir", b.dir)...)
}

// build writes a program of a version for a platform, like linux_amd64.
func (b *bench) build(version, platform, content string) string {
	b.t.Helper()
	file := filepath.Join(b.dist, "agent_"+version+"_"+platform)
	if err := os.WriteFile(file, []byte(content), 0o755); err != nil {
		b.t.Fatal(err)
	}
	return file
}

// add builds a version and adds it.
func (b *bench) add(version string, args ...string) {
	b.t.Helper()
	b.must(0, append([]string{"add", version, b.build(version, "linux_amd64", "program "+version)}, args...)...)
}

func (b *bench) publish() {
	b.t.Helper()
	b.must(0, "publish", "--to", "dir:"+b.public)
}

// verify reads a published folder as a client and returns what it saw.
func (b *bench) verify(public string) verified {
	b.t.Helper()
	var v verified
	b.must(0, "verify", public, "--json").result(b.t, &v)
	return v
}

// versions are those of a channel, newest first; yanked ones have a ! in front.
func (v verified) versions(channel string) string {
	var list []string
	for _, c := range v.Channels {
		for _, r := range c.Releases {
			if c.Name != channel {
				continue
			}
			if r.Yanked != "" {
				r.Version = "!" + r.Version
			}
			list = append(list, r.Version)
		}
	}
	return strings.Join(list, " ")
}

// files lists the regular files of a folder, without those that readers are not shown.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func copyTree(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// closeKeys gives the keys of a copied product their modes back.
func closeKeys(t *testing.T, dir string) {
	t.Helper()
	for _, key := range files(t, filepath.Join(dir, "keys")) {
		if err := os.Chmod(key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}

// set loads the product's metadata.
func (b *bench) set() (*manifest.Set, *workspace) {
	b.t.Helper()
	a := &app{dir: b.dir}
	w, err := a.open()
	if err != nil {
		b.t.Fatal(err)
	}
	defer w.close()
	set, err := w.load(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	return set, w
}
