package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/release/repo"
)

// host is a client of the published folder with a trust folder of its own.
func (b *bench) host(channel string) *manifest.Client {
	b.t.Helper()
	root, err := os.ReadFile(filepath.Join(b.dir, "repo", "metadata", "1.root.json"))
	if err != nil {
		b.t.Fatal(err)
	}
	c, err := manifest.Open(durable.OS(), filepath.Join(b.t.TempDir(), "trust"), root, manifest.Host{Product: "agent", Channel: channel})
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

func (b *bench) refresh(c *manifest.Client) (*manifest.View, error) {
	b.t.Helper()
	return c.Refresh(b.t.Context(), repo.Dir(durable.OS(), b.public))
}

// drop removes the file of a key that counts no more.
func (b *bench) drop(name string) {
	b.t.Helper()
	if err := os.Remove(filepath.Join(b.dir, "keys", name+".key")); err != nil {
		b.t.Fatal(err)
	}
}

// Every key of every role is replaced, five times over, by the commands that a person would use. A host that saw
// the first publication alone takes the last one, and so does one that is born with the first root.
func TestEveryKeyIsReplaced(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	b.add("1.0.0")
	b.publish()
	old := b.host("beta")
	if _, err := b.refresh(old); err != nil {
		t.Fatal(err)
	}
	rounds := 5
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		var r ring
		b.must(0, "keys", "--json").result(t, &r)
		for _, s := range r.Roles {
			if s.Role == artifactRole {
				b.must(0, "keys", "add", artifactRole)
				b.add("1." + strings.Repeat("1", round+1) + ".0")
				b.must(0, "keys", "remove", artifactRole+"/"+s.Keys[0].Name, "--yank")
				b.drop(s.Keys[0].Name)
				continue
			}
			for _, k := range s.Keys {
				b.must(0, "keys", "replace", s.Role+"/"+k.Name)
				b.drop(k.Name)
			}
		}
		b.must(0, "keys")
		b.publish()
	}
	// In each round the three of root, the three of targets, snapshot and timestamp make a root of their own.
	roots := int64(1 + rounds*8)
	newest := "1." + strings.Repeat("1", rounds) + ".0"
	for name, c := range map[string]*manifest.Client{"old": old, "new": b.host("beta")} {
		view, err := b.refresh(c)
		if err != nil || view.RootVersion != roots || view.Channel.Offers[0].Version != newest || len(view.Trust.Minisign) != 1 {
			t.Errorf("%s: %+v, %v", name, view, err)
		}
	}
	if v := b.verify(b.public); v.Root != roots || !strings.HasPrefix(v.versions("beta"), newest+" !") || strings.Count(v.versions("beta"), "!") != rounds {
		t.Errorf("verified %+v", v)
	}
}

// One root key burns with its machine. The two others put a new one in its place, on their own machines, and the
// burnt one counts no more.
func TestLostRootKey(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.publish()
	host := b.host("stable")
	if _, err := b.refresh(host); err != nil {
		t.Fatal(err)
	}
	stick := b.away("root-1", "root-2", "root-3")
	var change altered
	b.must(0, "keys", "replace", "root/root-2", "--json").result(t, &change)
	if change.Added.Name != "root-4" || change.Removed.Name != "root-2" || change.Threshold != 2 || change.Keys != 3 || change.Missing["root"] != 2 {
		t.Errorf("replaced: %+v", change)
	}
	contains(t, b.must(13, "publish", "--to", "dir:"+b.public).err, "not the draft")
	b.must(0, "sign", "--key", filepath.Join(stick, "root-1.key"))
	b.must(0, "sign", "--key", filepath.Join(stick, "root-3.key"))
	listed := b.must(0, "keys").out
	contains(t, listed, "root-1, elsewhere", "root-4.key", "root-3, elsewhere")
	product, err := os.ReadFile(filepath.Join(b.dir, productFile))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(listed+string(product), "root-2") {
		t.Errorf("the lost key is still listed:\n%s\n%s", listed, product)
	}
	sheet, err := os.ReadFile(filepath.Join(b.dir, "RECOVERY.txt"))
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(sheet), "root-4", change.Added.ID)
	if bytes.Contains(sheet, []byte(change.Removed.ID)) {
		t.Error("the recovery sheet still has the lost key")
	}
	b.publish()
	if view, err := b.refresh(host); err != nil || view.RootVersion != 2 {
		t.Errorf("%+v, %v", view, err)
	}
	// The lost key turns up again, in the hands of a thief: it signs for nothing.
	contains(t, b.must(13, "sign", "--role", "root", "--key", filepath.Join(stick, "root-2.key")).err, "no key of a role")
	b.must(0, "sign", "--role", "root", "--key", filepath.Join(stick, "root-3.key"))
}

// A change that waits can be dropped, and the names that came with it go too.
func TestDiscardForgetsKeysAndChannels(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	stick := b.away("root-1", "root-2", "root-3", "targets-1", "targets-2", "targets-3")
	product := func() string {
		data, err := os.ReadFile(filepath.Join(b.dir, productFile))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	before := product()
	b.must(0, "keys", "replace", "timestamp")
	b.must(0, "channel", "add", "nightly")
	contains(t, b.must(0, "keys").out, "nightly", "timestamp-2.key")
	b.must(13, "publish", "--to", "dir:"+b.public) // the old timestamp key goes on
	b.must(0, "sign", "--discard")
	if after := product(); after != before {
		t.Errorf("the product file was\n%s\nand is\n%s", before, after)
	}
	b.drop("timestamp-2")
	b.drop("nightly")
	b.must(0, "keys")
	b.must(0, "sign", "--role", "root", "--key", filepath.Join(stick, "root-1.key"), "--key", filepath.Join(stick, "root-2.key"))
	b.publish()
}

// Two machines that have never met, each with one root key and no product. One file goes to the first and to the
// second; neither signature alone is enough.
func TestTwoMachines(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.publish()
	stick := b.away("root-1", "root-2", "root-3")
	machines := []string{t.TempDir(), t.TempDir()}
	for i, dir := range machines {
		if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o700); err != nil {
			t.Fatal(err)
		}
		name := []string{"root-1.key", "root-2.key"}[i]
		if err := os.Rename(filepath.Join(stick, name), filepath.Join(dir, "keys", name)); err != nil {
			t.Fatal(err)
		}
	}
	b.must(0, "keys", "replace", "timestamp")
	out := filepath.Join(b.dir, "draft", "metadata", "2.root.json")
	for i, dir := range machines {
		travels := filepath.Join(t.TempDir(), "2.root.json")
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		write(t, travels, data)
		contains(t, b.must(3, "sign", travels).err, "in the draft already")
		contains(t, must(t, 13, "sign", "--role", "targets", travels, "--dir", dir).err, "not of targets")
		var s signedFile
		must(t, 0, "sign", "--role", "root", travels, "--dir", dir, "--json").result(t, &s)
		if s.Version != 2 || len(s.Added) != 1 || len(s.SignedBy) != i+1 || len(s.Roles) != 4 || len(s.Strangers) != 0 {
			t.Errorf("machine %d signed %+v", i, s)
		}
		must(t, 3, "sign", "--role", "root", travels, "--dir", dir)
		contains(t, b.must(13, "publish", "--to", "dir:"+b.public).err, "not the draft")
		b.must(0, "sign", travels)
	}
	b.publish()
	if v := b.verify(b.public); v.Root != 2 {
		t.Errorf("verified %+v", v)
	}
}

// A file that comes back with another content, or another's signature, is not taken into the draft.
func TestFileThatComesBackChanged(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.away("root-1", "root-2", "root-3")
	b.must(0, "keys", "replace", "timestamp")
	good, err := os.ReadFile(filepath.Join(b.dir, "draft", "metadata", "2.root.json"))
	if err != nil {
		t.Fatal(err)
	}
	thief, file := filepath.Join(t.TempDir(), "thief.key"), filepath.Join(t.TempDir(), "2.root.json")
	must(t, 0, "keys", "new", thief)
	write(t, file, good)
	contains(t, must(t, 0, "sign", "--role", "root", "--key", thief, file, "--dir", t.TempDir()).out, "no root key of this file")
	contains(t, b.must(13, "sign", file).err, "not a key of this role")
	write(t, file, bytes.Replace(good, []byte(`"threshold": 2`), []byte(`"threshold": 1`), 1))
	contains(t, b.must(codeVerify, "sign", file).err, "does not say what the draft says")
	write(t, file, []byte("{}"))
	b.must(codeVerify, "sign", file)
}

// A product folder that was carried to an offline machine names a command for the root's key. Signing a file with
// the key that is there does not run it; signing with whatever the folder names does.
func TestCarriedProductRunsNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	stick := b.away("root-1", "root-2", "root-3")
	b.must(0, "sign", "--role", "root", "--key", filepath.Join(stick, "root-1.key"))
	b.setSigner("root-2", `exec:"`+os.Args[0]+`" `+deviceMode+` locked "`+filepath.Join(stick, "root-3.key")+`"`)
	file := filepath.Join(b.dir, "draft", "metadata", "2.root.json")
	contains(t, b.must(13, "sign", "--role", "root", file).err, "the card")
	b.must(0, "sign", "--role", "root", "--key", filepath.Join(stick, "root-2.key"), file)
}

// A channel that is added later has a key of its own, and can be made to need two.
func TestChannelIsAdded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add("1.0.0")
	b.publish()
	b.must(0, "channel", "add", "nightly")
	b.must(3, "channel", "add", "nightly")
	b.must(3, "channel", "add", "stable")
	b.must(0, "promote", "1.0.0", "--from", "stable", "--to", "nightly")
	b.must(0, "keys", "add", "nightly", "--threshold", "2")
	b.must(3, "keys", "threshold", "nightly", "2")
	b.publish()
	if v := b.verify(b.public); v.versions("nightly") != "1.0.0" {
		t.Errorf("verified %+v", v)
	}
	if view, err := b.refresh(b.host("nightly")); err != nil || view.Channel.Offers[0].Version != "1.0.0" {
		t.Errorf("%+v, %v", view, err)
	}
	// One of the two keys is with a person.
	stick := b.away("nightly-2")
	contains(t, b.must(0, "yank", "1.0.0", "--reason", "leaks", "--channel", "nightly").out, "1 signature of nightly")
	b.must(13, "publish", "--to", "dir:"+b.public)
	b.must(0, "sign", "--key", filepath.Join(stick, "nightly-2.key"))
	b.publish()
	if v := b.verify(b.public); v.versions("nightly") != "!1.0.0" || v.versions("stable") != "1.0.0" {
		t.Errorf("verified %+v", v)
	}
	b.must(0, "keys", "remove", "nightly-2", "--threshold", "1")
	b.must(0, "keys")
}

// The thief of beta's key, who also has the online keys and a copy of the product, cannot sign into stable: not
// with the tool, and not with what the tool would have made.
func TestBetaKeySignsNothingElse(t *testing.T) {
	t.Parallel()
	b := newBench(t, "stable", "beta")
	b.add("1.0.0")
	b.publish()
	host := b.host("stable")
	if _, err := b.refresh(host); err != nil {
		t.Fatal(err)
	}
	stick := b.away("stable")
	program := b.build("1.1.0", "linux_amd64", "x")
	contains(t, b.must(0, "add", "1.1.0", program).out, "1 signature of stable")
	beta := filepath.Join(b.dir, "keys", "beta.key")
	contains(t, b.must(13, "sign", "--key", beta).err, "no key of a role that lacks")

	draft := filepath.Join(b.dir, "draft", "metadata", "3.stable.json")
	good, err := os.ReadFile(draft)
	if err != nil {
		t.Fatal(err)
	}
	must(t, 0, "sign", "--role", "stable", "--key", beta, draft, "--dir", t.TempDir())
	forged, err := os.ReadFile(draft)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, b.must(codeVerify, "keys").err, "signature not valid")
	contains(t, b.must(codeVerify, "sign").err, "signature not valid")
	write(t, draft, good)
	b.must(0, "sign", "--key", filepath.Join(stick, "stable.key"))
	b.publish()

	// The same forgery in the published tree; the twin is what was published.
	published := filepath.Join(b.public, "metadata", "3.stable.json")
	signed, err := os.ReadFile(published)
	if err != nil {
		t.Fatal(err)
	}
	if len(forged) != len(signed) {
		t.Fatalf("the forgery has %d bytes, the file %d", len(forged), len(signed))
	}
	write(t, published, forged)
	if _, err := b.refresh(host); !errors.Is(err, manifest.ErrMismatch) {
		t.Errorf("the forgery: %v", err)
	}
	write(t, published, signed)
	if view, err := b.refresh(host); err != nil || view.Channel.Offers[0].Version != "1.1.0" {
		t.Errorf("the twin: %+v, %v", view, err)
	}
}

// A stolen CI key is replaced: hosts that have looked since take nothing more from it.
func TestStolenChannelKey(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add("1.0.0")
	b.publish()
	thief := *b
	thief.dir = copyTree(t, b.dir)
	closeKeys(t, thief.dir)
	thief.drop("targets-1") // the thief has what the pipeline had
	thief.drop("targets-2")
	thief.public = filepath.Join(t.TempDir(), "public")
	host := b.host("stable")
	b.must(0, "keys", "replace", "stable")
	b.must(0, "keys", "replace", "snapshot")
	b.must(0, "keys", "replace", "timestamp")
	b.publish()
	if _, err := b.refresh(host); err != nil {
		t.Fatal(err)
	}
	for range 9 { // versions above all that is published
		thief.must(0, "sign", "--role", "stable")
	}
	thief.add("6.6.6")
	thief.publish()
	if _, err := thief.refresh(host); !errors.Is(err, manifest.ErrSignature) {
		t.Errorf("what the thief publishes: %v", err)
	}
	// A host that has not looked since believes the thief until it does, and comes back.
	late := b.host("stable")
	if view, err := thief.refresh(late); err != nil || view.Channel.Offers[0].Version != "6.6.6" {
		t.Errorf("before it has looked: %+v, %v", view, err)
	}
	if view, err := b.refresh(late); err != nil || view.Channel.Offers[0].Version != "1.0.0" {
		t.Errorf("after: %+v, %v", view, err)
	}
}
