package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// away moves keys off the machine and returns where they are.
func (b *bench) away(names ...string) string {
	b.t.Helper()
	stick := b.t.TempDir()
	for _, name := range names {
		if err := os.Rename(filepath.Join(b.dir, "keys", name+".key"), filepath.Join(stick, name+".key")); err != nil {
			b.t.Fatal(err)
		}
	}
	return stick
}

// Two people renew the root one after the other, while the pipeline goes on publishing.
func TestRootIsSignedByTwo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	stick := b.away("root-1", "root-2", "root-3", "targets-1", "targets-2", "targets-3")
	b.add("1.0.0")
	b.publish()
	contains(t, b.must(13, "sign", "--role", "root").err, "no key here", "--key")

	var s signatures
	b.must(0, "sign", "--role", "root", "--key", filepath.Join(stick, "root-1.key"), "--json").result(t, &s)
	if s.Missing["root"] != 1 || len(s.Completed) != 0 {
		t.Errorf("after one signature: %+v", s)
	}
	contains(t, b.must(13, "sign", "--key", filepath.Join(stick, "root-1.key")).err, "no key here can add")
	contains(t, b.must(13, "sign", "--key", filepath.Join(stick, "targets-1.key")).err, "no key of a role that lacks")
	contains(t, b.must(13, "publish", "--to", "dir:"+b.public).err, "not the draft")
	if v := b.verify(b.public); v.Root != 1 {
		t.Errorf("a root with one signature was published: %+v", v)
	}

	// The online keys renew the timestamp meanwhile, more than once.
	for _, hours := range []string{"1000h", "2000h"} {
		b.lifetime("timestamp", hours)
		var p published
		b.must(13, "publish", "--to", "dir:"+b.public, "--json").result(t, &p)
		if !slices.Contains(p.Written, "metadata/timestamp.json") || p.Timestamp == 0 || p.Missing["root"] != 1 {
			t.Errorf("beside the draft: %+v", p)
		}
	}
	contains(t, b.must(0, "add", "1.1.0", b.build("1.1.0", "linux_amd64", "x")).out, "waiting", "1 signature of root")
	b.must(0, "sign", "--key", filepath.Join(stick, "root-3.key"), "--json").result(t, &s)
	if len(s.Missing) != 0 && !slices.Contains(s.Completed, "root") {
		t.Errorf("after two signatures: %+v", s)
	}
	b.publish()
	if v := b.verify(b.public); v.Root != 2 || v.versions("stable") != "1.1.0 1.0.0" {
		t.Errorf("published %+v", v)
	}
}

// lifetime changes an expiry in the product file, so that what was signed for less is past half of its time.
func (b *bench) lifetime(role, text string) {
	b.t.Helper()
	file := filepath.Join(b.dir, productFile)
	data, err := os.ReadFile(file)
	if err != nil {
		b.t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, role+" =") {
			lines[i] = role + " = '" + text + "'"
		}
	}
	write(b.t, file, []byte(strings.Join(lines, "\n")))
}

func TestDiscardDropsTheDraft(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.away("root-1", "root-2")
	b.must(0, "sign", "--role", "root")
	b.must(0, "sign", "--discard")
	b.must(3, "sign")
	b.add("1.0.0")
	b.publish()
	if v := b.verify(b.public); v.Root != 1 || v.versions("stable") != "1.0.0" {
		t.Errorf("published %+v", v)
	}
}

// A channel whose key is elsewhere: the version waits, and is not published before it is signed.
func TestAddWithoutTheChannelKey(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.publish()
	stick := b.away("stable")
	var a added
	b.must(0, "add", "1.0.0", b.build("1.0.0", "linux_amd64", "x"), "--json").result(t, &a)
	if a.Missing["stable"] != 1 {
		t.Errorf("missing %v", a.Missing)
	}
	contains(t, b.must(13, "publish", "--to", "dir:"+b.public).err, "1 signature of stable (not signed by stable ", "release sign --key FILE", "--discard")
	if got := b.verify(b.public).versions("stable"); got != "" {
		t.Errorf("stable has %q", got)
	}
	b.must(0, "sign", "--key", filepath.Join(stick, "stable.key"))
	b.publish()
	if got := b.verify(b.public).versions("stable"); got != "1.0.0" {
		t.Errorf("stable has %q", got)
	}
}

func TestPublishRenewsWhatIsPastHalf(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add("1.0.0")
	b.publish()
	before := b.verify(b.public)
	b.lifetime("timestamp", "200h")
	var p published
	b.must(0, "publish", "--to", "dir:"+b.public, "--json").result(t, &p)
	if !slices.Equal(p.Renewed, []string{"timestamp"}) || !slices.Equal(p.Written, []string{"metadata/timestamp.json"}) {
		t.Errorf("renewed %v, wrote %v", p.Renewed, p.Written)
	}
	if after := b.verify(b.public); !after.Expires.After(before.Expires) {
		t.Errorf("expires %v, was %v", after.Expires, before.Expires)
	}
	b.lifetime("targets", "20000h")
	contains(t, b.must(3, "publish", "--to", "dir:"+b.public).out, "release sign --role targets")
	// A channel whose key is elsewhere is not renewed, and its end is announced.
	b.lifetime("channel", "20000h")
	stick := b.away("stable")
	contains(t, b.must(3, "publish", "--to", "dir:"+b.public).out, "release sign --role stable")
	b.must(0, "sign", "--role", "stable", "--key", filepath.Join(stick, "stable.key"))
	if out := b.must(0, "publish", "--to", "dir:"+b.public).out; strings.Contains(out, "release sign --role stable") {
		t.Errorf("after it was renewed: %s", out)
	}
}
