package main

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/turnstone-go/turnstone/manifest"
)

// Two artifact keys count during a rotation. What only the old one signed must be off the list before it goes.
func TestArtifactKeyIsReplaced(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	b.add("1.0.0")
	b.must(0, "promote", "1.0.0", "--from", "beta", "--to", "stable")
	contains(t, b.must(13, "keys", "remove", "artifact/artifact").err, "only artifact key")
	b.must(0, "keys", "add", "artifact")
	contains(t, b.must(13, "keys", "add", "artifact").err, "two artifact keys")
	b.must(0, "keys")
	b.add("1.1.0") // with the newer key
	b.publish()
	b.verify(b.public)
	contains(t, b.must(13, "keys", "remove", "artifact/artifact").err, "1.0.0", "--yank")
	var change altered
	b.must(0, "keys", "remove", "artifact/artifact", "--yank", "--json").result(t, &change)
	if !slices.Equal(change.Yanked, []string{"1.0.0"}) || change.Keys != 1 {
		t.Errorf("removed: %+v", change)
	}
	b.publish()
	if v := b.verify(b.public); v.versions("beta") != "1.1.0 !1.0.0" || v.versions("stable") != "!1.0.0" {
		t.Errorf("verified %+v", v)
	}
	b.must(0, "mirror", b.public, filepath.Join(t.TempDir(), "mirror"))
	b.drop("artifact-2")
	contains(t, b.must(13, "add", "1.2.0", b.build("1.2.0", "linux_amd64", "x")).err, "is not trusted")
	contains(t, b.must(13, "keys").out, "no key of role artifact (any more)")
}

// What is on offer must be signed by a trusted artifact key; what was taken back need not be any more.
func TestVerifyAsksForTheSecondSignature(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add("1.0.0")
	w, err := (&app{dir: b.dir}).open()
	if err != nil {
		t.Fatal(err)
	}
	set, err := w.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other, err := manifest.NewArtifactKey()
	if err != nil {
		t.Fatal(err)
	}
	trust := manifest.Trust{Schema: manifest.Schema, Product: "agent", Minisign: []string{other.Public()}}
	_, err = w.setTrust(t.Context(), set, altered{}, trust) // as the commands do not
	w.close()
	if err != nil {
		t.Fatal(err)
	}
	b.publish()
	contains(t, b.must(codeVerify, "verify", b.public).err, "is not trusted")
	contains(t, b.must(codeVerify, "mirror", b.public, filepath.Join(t.TempDir(), "mirror")).err, "is not trusted")
	b.must(0, "yank", "1.0.0", "--reason", "signed by a stranger")
	b.publish()
	b.verify(b.public)
	b.must(0, "mirror", b.public, filepath.Join(t.TempDir(), "mirror"))
}
