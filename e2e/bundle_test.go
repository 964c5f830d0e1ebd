package e2e

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/release/repo"
	"github.com/turnstone-go/turnstone/updater/bundle"
)

// offline is a stage whose launcher reaches no repository.
func offline(t *testing.T) *stage.Stage {
	t.Helper()
	s := staged(t, quick(nil))
	edit(t, s, s.URL, "http://127.0.0.1:9") // nobody listens there
	return s
}

// bundled makes a bundle of what the product has now.
func bundled(t *testing.T, s *stage.Stage, args ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "agent.tsb")
	if _, err := s.Tool(t.Context(), append([]string{"bundle", out}, args...)...); err != nil {
		t.Fatal(err)
	}
	return out
}

// kept is a digest of everything in the state folder that outlives a process.
func kept(t *testing.T, s *stage.Stage) string {
	t.Helper()
	if _, err := os.Lstat(s.State()); err != nil {
		return "no state folder"
	}
	all := ""
	for _, name := range []string{"journal", "store", "trust", "bundle.tsb", "bundle.new", "history.jsonl", "host-id", "data"} {
		if _, err := os.Lstat(filepath.Join(s.State(), name)); err == nil {
			all += tree(t, filepath.Join(s.State(), name))
		}
	}
	return all
}

// A host that never had a network is set up and updated from files, by the same steps and the same trust; a dry
// run tells what would be and changes not one byte; what is older is refused.
func TestBundleWithoutNetwork(t *testing.T) {
	s := offline(t)
	publish(t, s, "1.0.0", example(t, "1.0.0", ""))
	first := bundled(t, s, "--channel", "stable")
	says(t, operator(t, s, 0, "bundle", "import", "--dry-run", first), "genuine", "1.0.0 will be installed here", "nothing was changed")
	if got := kept(t, s); got != "no state folder" {
		t.Errorf("a dry run made a state folder: %s", got)
	}
	says(t, operator(t, s, 0, "bundle", "import", first), "no launcher runs")
	launch(t, s)
	serving(t, s, "1.0.0")
	settled(t, s)

	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	second := bundled(t, s, "--version", "newest")
	before := kept(t, s)
	says(t, operator(t, s, 0, "bundle", "import", "--dry-run", second), "1.1.0 will be installed here")
	if kept(t, s) != before {
		t.Error("a dry run changed the state folder")
	}
	unmoved(t, s, func() {}) // and nothing comes of it
	nothingLost(t, underLoad(t, s, load.Options{Workers: everyone}, func(*load.Load) {
		operator(t, s, 0, "bundle", "import", "--now", "--follow", second)
	}))
	serving(t, s, "1.1.0")
	settled(t, s)
	says(t, operator(t, s, 3, "bundle", "import", second), "knows all of it already")

	before = kept(t, s)
	says(t, operator(t, s, 11, "bundle", "import", first), "older than what this host has seen")
	says(t, operator(t, s, 11, "bundle", "import", "--dry-run", first), "older than what this host has seen")
	if kept(t, s) != before {
		t.Error("a refused bundle changed the state folder")
	}
	serving(t, s, "1.1.0")
	operator(t, s, 3, "check") // the bundle goes on being a repository
}

// A bundle may carry less than the channel in it offers: what it carries is installed, and what is missing is told.
func TestBundleOfAnOlderVersion(t *testing.T) {
	t.Parallel()
	s := offline(t)
	publish(t, s, "1.0.0", example(t, "1.0.0", ""))
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	older := bundled(t, s, "--version", "1.0.0")
	says(t, operator(t, s, 0, "bundle", "import", older), "1.0.0 will be installed here")
	launch(t, s)
	serving(t, s, "1.0.0")
	settled(t, s)
	says(t, operator(t, s, 12, "check"), "1.1.0", "the imported bundle does not carry it")
	operator(t, s, 0, "bundle", "import", "--now", "--follow", bundled(t, s)) // the same metadata, and more programs
	serving(t, s, "1.1.0")
	settled(t, s)
	operator(t, s, 3, "check")
}

// A bundle that is ahead of the repository counts, and goes when the repository has caught up.
func TestBundleBesideARepository(t *testing.T) {
	t.Parallel()
	s := launched(t, quick(nil))
	settled(t, s)
	if _, err := s.Tool(t.Context(), "add", "1.1.0", "--platform", runtime.GOOS+"/"+runtime.GOARCH+"="+example(t, "1.1.0", "")); err != nil {
		t.Fatal(err)
	}
	operator(t, s, 0, "bundle", "import", "--now", "--follow", bundled(t, s))
	serving(t, s, "1.1.0")
	settled(t, s)
	operator(t, s, 3, "check") // the repository is behind, which is no error while the bundle speaks for it
	kept := filepath.Join(s.State(), "bundle.tsb")
	if _, err := os.Lstat(kept); err != nil {
		t.Errorf("the bundle is gone: %v", err)
	}
	publish(t, s, "1.2.0", example(t, "1.2.0", ""))
	operator(t, s, 0, "update", "--now", "--follow")
	serving(t, s, "1.2.0")
	if _, err := os.Lstat(kept); err == nil {
		t.Error("the repository has overtaken the bundle, which is still there")
	}
}

// settled waits until no update is under way.
func settled(t *testing.T, s *stage.Stage) {
	t.Helper()
	for range 600 {
		if status(t, s).Phase == "idle" {
			return
		}
		stage.Wait(t.Context(), 50*time.Millisecond)
	}
	t.Fatalf("still in %s", status(t, s).Phase)
}

// A host whose memory of versions was lost with its trust folder still does not go back: the journal knows.
func TestBundleBelowTheHighWaterMark(t *testing.T) {
	t.Parallel()
	s := offline(t)
	publish(t, s, "1.0.0", example(t, "1.0.0", ""))
	old := bundled(t, s)
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	operator(t, s, 0, "bundle", "import", bundled(t, s))
	launch(t, s)
	serving(t, s, "1.1.0")
	settled(t, s)
	if err := s.Quit(); err != nil {
		t.Fatal(err)
	}
	for _, lost := range []string{"trust", "bundle.tsb"} {
		if err := os.RemoveAll(filepath.Join(s.State(), lost)); err != nil {
			t.Fatal(err)
		}
	}
	says(t, operator(t, s, 3, "bundle", "import", "--dry-run", old), "1.1.0 is active")
	operator(t, s, 0, "bundle", "import", old)
	launch(t, s)
	operator(t, s, 3, "check")
	serving(t, s, "1.1.0")
}

// bundleAttack is a bundle that must be refused, and its twin, made by the same change with a legal value.
type bundleAttack struct {
	name, says string
	evil, twin []byte
}

func bundledBy[T any](name, says string, change func(T) []byte, evil, twin T) bundleAttack {
	return bundleAttack{name, says, change(evil), change(twin)}
}

// bundleAttacks are made of a good bundle; another vendor has one too.
func bundleAttacks(t *testing.T, good []byte, other []byte) []bundleAttack {
	b, err := bundle.Read(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	whole := func(data []byte) []byte { return data }
	short := func(n int) []byte { return good[:n] }
	longer := func(more int) []byte { return append(bytes.Clone(good), make([]byte, more)...) }
	without := func(prefix string) []byte {
		return repacked(t, b, func(name string, d []byte) []byte {
			if strings.HasPrefix(name, prefix) {
				return nil
			}
			return d
		})
	}
	flipped := func(part string) func(mask byte) []byte {
		return func(mask byte) []byte {
			return repacked(t, b, func(name string, d []byte) []byte {
				if strings.Contains(name, part) {
					d = bytes.Clone(d)
					d[len(d)/2] ^= mask
				}
				return d
			})
		}
	}
	dated := func(millennium string) []byte {
		return repacked(t, b, func(name string, d []byte) []byte {
			if strings.HasSuffix(name, "timestamp.json") {
				d = bytes.Replace(d, []byte(`"expires": "2`), []byte(`"expires": "`+millennium), 1)
			}
			return d
		})
	}
	padded := func(sizeBytes int) []byte {
		return repacked(t, b, func(name string, d []byte) []byte {
			if strings.HasSuffix(name, "timestamp.json") {
				d = append(bytes.Clone(d), bytes.Repeat([]byte(" "), sizeBytes-len(d))...)
			}
			return d
		})
	}
	with := func(name string) []byte { return hostileTar(t, b, name) }
	return []bundleAttack{
		bundledBy("cut short", "cut short", short, len(good)/2, len(good)),
		bundledBy("cut at the end", "cut short", short, len(good)-1, len(good)),
		bundledBy("empty", "cut short", short, 0, len(good)),
		bundledBy("more at the end", "bytes behind the end", longer, 512, 0),
		bundledBy("not a bundle", "not a bundle that can be used: malformed", whole, read(t, programs.Release)[:64<<10], good),
		bundledBy("another vendor", manifest.ErrSignature.Error(), whole, other, good),
		bundledBy("leaves the tree", "name not allowed", with, "a/../../../etc/passwd", "a/etc/passwd"),
		bundledBy("a name twice", "each one once", with, "metadata/1.root.json", "metadata/1.root.json2"),
		bundledBy("another program", "differs from the signed one", flipped("artifacts/"), 1, 0),
		bundledBy("another release", "differs from the signed one", flipped(".1.0.0.json"), 1, 0),
		bundledBy("another channel", "differs from the signed one", flipped("channel.json"), 1, 0),
		bundledBy("another timestamp", manifest.ErrSignature.Error(), dated, "9", "2"),
		bundledBy("a huge timestamp", "longer than it may be", padded, 16<<10+1, 16<<10),
		bundledBy("no program", "lacks what this host needs", without, "artifacts/", "none/"),
		bundledBy("no metadata", "lacks what this host needs", without, "metadata/", "none/"),
	}
}

// Nothing of a bundle that is not what the vendor signed for this host gets into the state folder.
func TestBundleHostile(t *testing.T) {
	t.Parallel()
	s, stranger := offline(t), staged(t, quick(nil))
	publish(t, s, "1.0.0", example(t, "1.0.0", ""))
	publish(t, stranger, "1.0.0", example(t, "1.0.0", ""))
	good := bundled(t, s)
	for _, a := range bundleAttacks(t, read(t, good), read(t, bundled(t, stranger))) {
		file := filepath.Join(t.TempDir(), "hostile.tsb")
		bundle := func(data []byte) string {
			if err := os.WriteFile(file, data, 0o644); err != nil {
				t.Fatal(err)
			}
			return file
		}
		says(t, operator(t, s, 0, "bundle", "import", "--dry-run", bundle(a.twin)), "1.0.0 will be installed here")
		for _, args := range [][]string{{"bundle", "import", "--dry-run", bundle(a.evil)}, {"bundle", "import", bundle(a.evil)}} {
			out, code := s.Operator(t.Context(), args...)
			if code != 11 || !strings.Contains(out, a.says) {
				t.Errorf("%s: exit code %d, want 11 and %q:\n%s", a.name, code, a.says, out)
			}
		}
		for _, left := range []string{"bundle.tsb", "bundle.new", "trust", "store"} {
			if _, err := os.Lstat(filepath.Join(s.State(), left)); err == nil {
				t.Errorf("%s: %s was left", a.name, left)
			}
		}
	}
	operator(t, s, 0, "bundle", "import", good)
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// repacked is a bundle with every file as change says; nil leaves one out.
func repacked(t *testing.T, b *bundle.Bundle, change func(name string, data []byte) []byte) []byte {
	t.Helper()
	var files []bundle.File
	for _, name := range b.Names() {
		data, err := fs.ReadFile(b, name)
		if err != nil {
			t.Fatal(err)
		}
		if data = change(name, data); data != nil {
			files = append(files, bundle.File{Name: name, SizeBytes: int64(len(data)), Open: func() (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(data)), nil
			}})
		}
	}
	var out bytes.Buffer
	if err := bundle.Write(&out, files); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// hostileTar is a bundle with one more file, which may have a name that no bundle has.
func hostileTar(t *testing.T, b *bundle.Bundle, name string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, n := range slices.Sorted(slices.Values(append(b.Names(), name))) {
		data, err := fs.ReadFile(b, n)
		if err != nil && n != name {
			t.Fatal(err)
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: n, Mode: 0o644, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// A bundle that has expired is taken only by a host whose configuration says for how long that does not matter.
func TestBundleExpired(t *testing.T) {
	t.Parallel()
	s := offline(t)
	publish(t, s, "1.0.0", example(t, "1.0.0", ""))
	aged(t, s, 10*24*time.Hour, 24*time.Hour) // it expired nine days ago
	b := repackedFolder(t, filepath.Join(s.Home, "product", "repo"))
	says(t, operator(t, s, 11, "bundle", "import", b), "expired", "repository.max_staleness")
	edit(t, s, "poll = \"1m\"", "poll = \"1m\"\nmax_staleness = \"192h\"") // eight days
	says(t, operator(t, s, 11, "bundle", "import", b), "expired", "repository.max_staleness")
	edit(t, s, "192h", "240h")
	operator(t, s, 0, "bundle", "import", b)
	launch(t, s)
	serving(t, s, "1.0.0")
}

// aged signs everything online as it would have been signed some time ago, for a time.
func aged(t *testing.T, s *stage.Stage, ago, lifetime time.Duration) {
	t.Helper()
	product := filepath.Join(s.Home, "product")
	store := repo.Dir(durable.OS(), filepath.Join(product, "repo"))
	set, err := manifest.LoadSet(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	data, _ := set.Target("stable", "stable/channel.json")
	channel, err := manifest.ParseChannel(data)
	if err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-ago)
	channel.SignedAt = then.UTC().Truncate(time.Second)
	if err := set.SetTarget("stable", "stable/channel.json", channel.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := signAndKeepAt(t.Context(), set, product, store, then, lifetime); err != nil {
		t.Fatal(err)
	}
}

// repackedFolder makes a bundle of a folder without looking at what is in it.
func repackedFolder(t *testing.T, dir string) string {
	t.Helper()
	var files []bundle.File
	root := os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			return err
		}
		data, err := fs.ReadFile(root, name)
		files = append(files, bundle.File{Name: name, SizeBytes: int64(len(data)), Open: func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(data)), nil
		}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := bundle.Write(&out, files); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "folder.tsb")
	if err := os.WriteFile(name, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}
