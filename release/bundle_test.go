package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/updater/bundle"
)

func (b *bench) bundle(code int, args ...string) (string, bundled) {
	b.t.Helper()
	out := filepath.Join(b.t.TempDir(), "x.tsb")
	var got bundled
	b.must(code, append([]string{"bundle", out, "--json"}, args...)...).result(b.t, &got)
	return out, got
}

// unpacked writes a bundle's files where a client can read them as a folder.
func unpacked(t *testing.T, file string) string {
	t.Helper()
	b, err := bundle.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	dir := t.TempDir()
	for _, name := range b.Names() {
		data, err := b.Get(t.Context(), name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, path, data)
	}
	return dir
}

// A bundle holds what was published, less the loose signatures for people, and the same bytes each time,
// whether it is made from the product, the published folder, or its URL.
func TestBundle(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	b.must(0, "add", "1.0.0", b.build("1.0.0", "linux_amd64", "elf"), b.build("1.0.0", "windows_amd64.exe", "pe"))
	b.must(0, "sign", "--role", "root")
	b.add("1.1.0")
	b.must(0, "promote", "1.0.0", "--from", "beta", "--to", "stable")
	b.publish()
	first, got := b.bundle(0)
	if got.Files == 0 || got.SizeBytes != int64(len(readFile(t, first))) || len(got.Channels) != 2 {
		t.Errorf("bundled %+v", got)
	}
	want := slices.DeleteFunc(names(t, b.public), func(n string) bool { return strings.HasSuffix(n, ".minisig") })
	if have := names(t, unpacked(t, first)); !slices.Equal(have, want[:len(want):len(want)]) {
		t.Errorf("the bundle has %v, want %v", have, want)
	}
	for _, from := range [][]string{nil, {"--from", b.public}, {"--from", newUpstream(t, b.public).url}} {
		if second, _ := b.bundle(0, from...); !bytes.Equal(readFile(t, second), readFile(t, first)) {
			t.Errorf("%v: another time it has other bytes", from)
		}
	}
}

func TestBundleOfAPart(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	b.must(0, "add", "1.0.0", b.build("1.0.0", "linux_amd64", "elf"), b.build("1.0.0", "windows_amd64.exe", "pe"))
	b.add("1.1.0")
	b.add("1.2.0")
	b.must(0, "rollout", "1.1.0", "--share", "25%")
	b.must(0, "floor", "1.0.0")
	b.must(0, "yank", "1.2.0", "--reason", "bad")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"one channel":    {[]string{"--channel", "beta"}, "beta: 1.2.0 linux/amd64, 1.1.0 linux/amd64, 1.0.0 linux/amd64 windows/amd64"},
		"an empty one":   {[]string{"--channel", "beta", "--channel", "stable", "--version", "1.0.0"}, "beta: 1.0.0 linux/amd64 windows/amd64; stable: "},
		"one platform":   {[]string{"--channel", "beta", "--platform", "windows/amd64"}, "beta: 1.0.0 windows/amd64"},
		"one version":    {[]string{"--channel", "beta", "--version", "1.0.0", "--platform", "linux/amd64"}, "beta: 1.0.0 linux/amd64"},
		"the newest one": {[]string{"--channel", "beta", "--version", "newest"}, "beta: 1.1.0 linux/amd64"},
	} {
		t.Run(name, func(t *testing.T) {
			file, got := b.bundle(0, c.args...)
			var channels []string
			programs := 0
			for _, ch := range got.Channels {
				var releases []string
				if len(ch.Releases) > 0 && ch.MinEpoch != 1 {
					t.Errorf("%s has min_epoch %d", ch.Name, ch.MinEpoch)
				}
				for _, r := range ch.Releases {
					if want := map[string]int{"1.1.0": 2500}[r.Version]; r.Share != cmp.Or(want, manifest.AllHosts) {
						t.Errorf("%s is offered to %s", r.Version, percent(r.Share))
					}
					releases = append(releases, r.Version+" "+strings.Join(r.Platforms, " "))
					programs += len(r.Platforms)
				}
				channels = append(channels, ch.Name+": "+strings.Join(releases, ", "))
			}
			if text := strings.Join(channels, "; "); text != c.want {
				t.Errorf("it has %s, want %s", text, c.want)
			}
			if have := artifacts(names(t, unpacked(t, file))); len(have) != programs {
				t.Errorf("it has %v, want %d programs", have, programs)
			}
		})
	}
	for _, args := range [][]string{{"--version", "9.9.9"}, {"--platform", "plan9/386"}, {"--from", "/nowhere"}} {
		b.must(2, append([]string{"bundle", filepath.Join(t.TempDir(), "x.tsb")}, args...)...)
	}
}

// A repository that does not verify makes no bundle.
func TestBundleRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add("1.0.0")
	b.publish()
	for _, file := range files(t, b.public) {
		if strings.HasSuffix(file, ".minisig") || strings.HasSuffix(file, ".root.json") {
			continue
		}
		good := readFile(t, file)
		write(t, file, flip(good))
		out := filepath.Join(t.TempDir(), "x.tsb")
		b.must(11, "bundle", out, "--from", b.public)
		if exists(out) || exists(out+".part") {
			t.Errorf("%s: a bundle was left", file)
		}
		write(t, file, good)
	}
	b.bundle(0, "--from", b.public)
}

// Whatever an entry of a release document names by digest and size is carried, wherever in the entry it stands.
func TestContentsOfAnEntry(t *testing.T) {
	digest := func(c string) string { return strings.Repeat(c, 64) }
	type patch struct {
		From      string `json:"from"`
		SHA256    string `json:"sha256"`
		SizeBytes int64  `json:"size_bytes"`
	}
	entry := struct {
		manifest.Artifact
		Patches   []patch
		Encodings map[string]patch
	}{
		Artifact:  manifest.Artifact{OS: "linux", SHA256: digest("a"), SizeBytes: 3},
		Patches:   []patch{{digest("0"), digest("b"), 2}, {digest("1"), digest("c"), 1}},
		Encodings: map[string]patch{"zstd": {"", digest("d"), 4}},
	}
	var got []string
	for _, c := range contents(entry) {
		got = append(got, c.SHA256[:1])
	}
	if slices.Sort(got); strings.Join(got, "") != "abcd" {
		text, _ := json.Marshal(entry) // it was marshalled before
		t.Errorf("found %v in %s", got, text)
	}
}
