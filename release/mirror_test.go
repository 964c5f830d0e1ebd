package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/release/repo"
)

// upstream serves a published folder and counts what it sends.
type upstream struct {
	t      *testing.T
	folder string

	mu     sync.Mutex
	url    string
	server *httptest.Server
	served []string // names answered with bytes
	left   int      // answers before the line breaks in the middle of one, -1 for never
}

func newUpstream(t *testing.T, folder string) *upstream {
	t.Helper()
	o := &upstream{t: t, folder: folder, left: -1}
	o.server = httptest.NewServer(http.HandlerFunc(o.serve))
	t.Cleanup(o.server.Close)
	o.url = o.server.URL
	return o
}

func (o *upstream) serve(w http.ResponseWriter, r *http.Request) {
	root, err := os.OpenRoot(o.folder)
	if err != nil {
		o.t.Error(err)
		return
	}
	defer root.Close()
	answer := httptest.NewRecorder()
	repo.Handler(root, 0).ServeHTTP(answer, r)
	o.mu.Lock()
	defer o.mu.Unlock()
	body := answer.Body.Bytes()
	for k, v := range answer.Header() {
		w.Header()[k] = v
	}
	if answer.Code < 300 {
		if o.left == 0 {
			w.WriteHeader(answer.Code)
			_, _ = w.Write(body[:len(body)/2]) // and no more
			panic(http.ErrAbortHandler)
		}
		o.left = max(o.left-1, -1)
		o.served = append(o.served, strings.TrimPrefix(r.URL.Path, "/"))
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(body) // a client that is gone needs no answer
}

// take returns what was sent since the last time, sorted.
func (o *upstream) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	served := slices.Sorted(slices.Values(o.served))
	o.served = nil
	return served
}

func (b *bench) mirror(code int, o *upstream, dir string, args ...string) mirrored {
	b.t.Helper()
	var m mirrored
	b.must(code, append([]string{"mirror", o.url, dir, "--json"}, args...)...).result(b.t, &m)
	return m
}

// names are the files of a tree by their names in it.
func names(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	for _, file := range files(t, dir) {
		name, err := filepath.Rel(dir, file)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, filepath.ToSlash(name))
	}
	slices.Sort(list)
	return list
}

// A mirror has what the repository has, byte for byte; in step it downloads the pointer and nothing else; then
// only what is new.
func TestMirror(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	b.add("1.0.0")
	b.must(0, "sign", "--role", "root") // a second root
	b.publish()
	o, dir := newUpstream(t, b.public), filepath.Join(t.TempDir(), "mirror")
	m := b.mirror(0, o, dir)
	if m.Written[len(m.Written)-1] != repo.Pointer || m.Timestamp == 0 {
		t.Errorf("mirrored %+v", m)
	}
	if got, want := names(t, dir), names(t, b.public); !slices.Equal(got, want) {
		t.Errorf("the mirror has %v, want %v", got, want)
	}
	for _, name := range names(t, b.public) {
		if !bytes.Equal(readFile(t, filepath.Join(dir, name)), readFile(t, filepath.Join(b.public, name))) {
			t.Errorf("%s has other bytes", name)
		}
	}
	if exists(filepath.Join(dir, mirrorParts)) {
		t.Error("parts are left")
	}
	b.verify(dir)
	o.take()
	if m := b.mirror(3, o, dir); len(m.Written) != 0 || !slices.Equal(o.take(), []string{repo.Pointer}) {
		t.Errorf("in step: %+v", m)
	}
	before := names(t, b.public)
	b.add("1.1.0")
	b.publish()
	fresh := slices.DeleteFunc(names(t, b.public), func(n string) bool { return slices.Contains(before, n) || strings.HasSuffix(n, ".minisig") })
	fresh = append(fresh, repo.Pointer)
	b.mirror(0, o, dir)
	if got := o.take(); !slices.Equal(got, slices.Sorted(slices.Values(fresh))) {
		t.Errorf("downloaded %v, new are %v", got, fresh)
	}
	if got := b.verify(dir).versions("beta"); got != "1.1.0 1.0.0" {
		t.Errorf("beta has %q", got)
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The line breaks in the middle of every answer in turn. The mirror is the old one or the new one; run again it
// comes to its end, and no artifact is sent twice.
func TestMirrorCutAnywhere(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add("1.0.0")
	b.publish()
	o, old := newUpstream(t, b.public), filepath.Join(t.TempDir(), "old")
	b.mirror(0, o, old)
	b.add("1.1.0")
	b.add("1.2.0")
	b.publish()
	cuts, seen := 0, map[string]int{}
	for ; ; cuts++ {
		dir := copyTree(t, old)
		o.take()
		o.mu.Lock()
		o.left = cuts
		o.mu.Unlock()
		// A transfer is tried again by itself, and breaks again.
		got := release(t, "mirror", o.url, dir, "--dir", b.dir)
		o.mu.Lock()
		o.left = -1
		o.mu.Unlock()
		if got.code == 0 {
			break
		}
		if got.code != codeDownload {
			t.Fatalf("cut at %d: %+v", cuts, got)
		}
		seen[b.verify(dir).versions("stable")]++
		first := artifacts(o.take())
		b.mirror(0, o, dir)
		for _, name := range artifacts(o.take()) {
			if slices.Contains(first, name) {
				t.Errorf("cut at %d: %s was sent twice", cuts, name)
			}
		}
		if got := b.verify(dir).versions("stable"); got != "1.2.0 1.1.0 1.0.0" {
			t.Errorf("cut at %d: in the end it has %q", cuts, got)
		}
	}
	if cuts < 6 || len(seen) != 1 {
		t.Errorf("%d cuts left %v", cuts, seen)
	}
}

// artifacts are the names of whole artifacts among those that were served.
func artifacts(served []string) []string {
	return slices.DeleteFunc(served, func(n string) bool { return !strings.HasPrefix(n, "artifacts/") })
}

// What a mirror refuses leaves it as it was: an older repository, another root, other bytes. Each has a twin, made
// the same way, that is taken.
func TestMirrorRefuses(t *testing.T) {
	t.Parallel()
	b, other := newBench(t), newBench(t)
	other.add("1.0.0")
	other.publish()
	b.add("1.0.0")
	b.publish()
	older := copyTree(t, b.public)
	b.add("1.1.0")
	b.publish()
	known := filepath.Join(t.TempDir(), "mirror")
	b.mirror(0, newUpstream(t, b.public), known)
	b.add("1.2.0")
	b.publish()
	there := names(t, known)
	written := func(change func([]byte) []byte) string {
		tree := copyTree(t, b.public)
		for _, file := range files(t, filepath.Join(tree, "artifacts")) {
			if !slices.Contains(there, "artifacts/"+filepath.Base(file)) {
				write(t, file, change(readFile(t, file)))
			}
		}
		return tree
	}
	for _, a := range []struct{ name, says, evil, twin string }{
		{"an older repository", "wrong version number", older, b.public},
		{"another vendor", "verification failed", other.public, b.public},
		{"other bytes", "not the signed bytes", written(bytes.ToUpper), written(bytes.Clone)},
	} {
		dir := copyTree(t, known)
		contains(t, b.must(11, "mirror", newUpstream(t, a.evil).url, dir).err, a.says)
		if got := b.verify(dir).versions("stable"); got != "1.1.0 1.0.0" {
			t.Errorf("%s: the mirror has %q", a.name, got)
		}
		b.mirror(0, newUpstream(t, a.twin), dir)
		if got := b.verify(dir).versions("stable"); got != "1.2.0 1.1.0 1.0.0" {
			t.Errorf("the twin of %s: the mirror has %q", a.name, got)
		}
	}
}

func TestMirrorPrunes(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add("1.0.0")
	b.must(0, "sign", "--role", "root")
	b.publish()
	o, dir := newUpstream(t, b.public), filepath.Join(t.TempDir(), "mirror")
	b.mirror(0, o, dir)
	stray := filepath.Join(dir, "artifacts", strings.Repeat("0", 64))
	write(t, stray, []byte("stray"))
	b.add("1.1.0")
	b.publish()
	b.mirror(0, o, dir)
	before := names(t, dir)
	m := b.mirror(0, o, dir, "--prune")
	for _, name := range m.Pruned {
		if strings.HasSuffix(name, ".root.json") || exists(filepath.Join(dir, name)) {
			t.Errorf("pruned %s", name)
		}
	}
	if !slices.Contains(m.Pruned, "artifacts/"+strings.Repeat("0", 64)) || len(names(t, dir))+len(m.Pruned) != len(before) {
		t.Errorf("pruned %v of %v", m.Pruned, before)
	}
	if got := b.verify(dir).versions("stable"); got != "1.1.0 1.0.0" {
		t.Errorf("stable has %q", got)
	}
	b.mirror(3, o, dir, "--prune")
}

// The second signature is looked at too: the digest alone is what the channel's key says.
func TestMirrorChecksBothSignatures(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add("1.0.0")
	b.publish()
	dir := filepath.Join(t.TempDir(), "mirror")
	contains(t, b.must(11, "mirror", newUpstream(t, b.reissued("1.0.0")).url, dir).err, "trusted comment names another artifact")
	b.mirror(0, newUpstream(t, b.reissued("1.1.0")), dir) // the twin
}

// reissued is the published tree with 1.1.0, which has the bytes of 1.0.0 and a second signature for some version.
func (b *bench) reissued(signed string) string {
	b.t.Helper()
	set, w := b.set()
	doc, _, _, err := loadRelease(set, "stable", "1.0.0")
	if err != nil {
		b.t.Fatal(err)
	}
	key, err := w.artifactKey(set)
	if err != nil {
		b.t.Fatal(err)
	}
	doc.Version, doc.Epoch = "1.1.0", 2
	for i, a := range doc.Artifacts {
		program := readFile(b.t, filepath.Join(b.public, manifest.HashPath(a.SHA256)))
		if doc.Artifacts[i].Minisig, err = manifest.SignArtifact(key, set.Product(), signed, a, bytes.NewReader(program)); err != nil {
			b.t.Fatal(err)
		}
	}
	if err := offer(set, "stable", doc, doc.Bytes(), manifest.AllHosts); err != nil {
		b.t.Fatal(err)
	}
	for _, role := range []string{"stable", "snapshot", "timestamp"} {
		if err := w.sign(set, role); err != nil {
			b.t.Fatal(err)
		}
	}
	tree := copyTree(b.t, b.public)
	if err := w.write(b.t.Context(), repo.Dir(w.disk, tree), set.Files()); err != nil {
		b.t.Fatal(err)
	}
	return tree
}
