package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/manifest"
)

func TestLife(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	linux, windows := b.build("1.0.0", "linux_amd64", "elf"), b.build("1.0.0", "windows_amd64.exe", "pe")
	other := filepath.Join(b.dist, "Agent")
	if err := os.WriteFile(other, []byte("mach-o"), 0o755); err != nil {
		t.Fatal(err)
	}
	var a added
	b.must(0, "add", "1.0.0", linux, windows, "--platform", "darwin/arm64="+other, "--json").result(t, &a)
	if a.Channel != "beta" || a.Epoch != 1 || len(a.Artifacts) != 3 || a.Artifacts[0].Platform != "darwin/arm64" || a.Artifacts[0].Name != "Agent" {
		t.Errorf("added %+v", a)
	}
	var p published
	b.must(0, "publish", "--to", "dir:"+b.public, "--json").result(t, &p)
	if len(p.Written) == 0 || p.Written[len(p.Written)-1] != "metadata/timestamp.json" {
		t.Errorf("wrote %v", p.Written)
	}
	v := b.verify(b.public)
	if v.Artifacts != 3 || v.versions("beta") != "1.0.0" || v.versions("stable") != "" {
		t.Errorf("verified %+v", v)
	}
	if got := v.Channels[0].Releases[0].Platforms; !slices.Equal(got, []string{"darwin/arm64", "linux/amd64", "windows/amd64"}) {
		t.Errorf("platforms %v", got)
	}

	b.must(0, "promote", "1.0.0", "--from", "beta", "--to", "stable")
	b.add("1.1.0")
	b.publish()
	if v = b.verify(b.public); v.versions("beta") != "1.1.0 1.0.0" || v.versions("stable") != "1.0.0" {
		t.Errorf("verified %+v", v)
	}

	var c changed
	b.must(0, "yank", "1.0.0", "--reason", "loses mail", "--json").result(t, &c)
	if !slices.Equal(c.Channels, []string{"beta", "stable"}) {
		t.Errorf("yanked from %v", c.Channels)
	}
	b.publish()
	if v = b.verify(b.public); v.versions("beta") != "1.1.0 !1.0.0" || v.versions("stable") != "!1.0.0" {
		t.Errorf("verified %+v", v)
	}
	contains(t, b.must(0, "verify", b.public).out, "yanked: loses mail", "signatures, digests and dates are right")
	contains(t, b.must(13, "promote", "1.0.0", "--from", "beta", "--to", "stable").err, "loses mail")
}

// Promoting signs the channel's list and nothing else: the release document and the programs are the same files.
func TestPromoteSignsNoProgram(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	b.add("1.0.0")
	b.publish()
	if err := os.Remove(filepath.Join(b.dir, "keys", "artifact.key")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(b.dir, "keys", "beta.key")); err != nil {
		t.Fatal(err)
	}
	before := files(t, filepath.Join(b.public, "artifacts"))
	b.must(0, "promote", "1.0.0", "--from", "beta", "--to", "stable")
	b.publish()
	if after := files(t, filepath.Join(b.public, "artifacts")); !slices.Equal(before, after) {
		t.Errorf("artifacts were %v, are %v", before, after)
	}
	if got := b.verify(b.public).versions("stable"); got != "1.0.0" {
		t.Errorf("stable has %q", got)
	}
}

func TestASecondTimeThereIsNothingToDo(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	b.must(3, "init", "agent")
	b.add("1.0.0")
	program := b.build("1.0.0", "linux_amd64", "program 1.0.0")
	contains(t, b.must(3, "add", "1.0.0", program).err, "nothing to do", "same bytes")
	b.publish()
	for range 2 {
		var p published
		b.must(3, "publish", "--to", "dir:"+b.public, "--json").result(t, &p)
		if len(p.Written) != 0 || p.Same == 0 {
			t.Errorf("published %+v", p)
		}
	}
	b.must(0, "promote", "1.0.0", "--from", "beta", "--to", "stable")
	b.must(3, "promote", "1.0.0", "--from", "beta", "--to", "stable")
	b.must(0, "yank", "1.0.0", "--reason", "bad")
	b.must(3, "yank", "1.0.0", "--reason", "worse")
	b.must(3, "sign")
	b.must(3, "sign", "--discard")
}

func TestAVersionNeverChanges(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	b.add("1.0.0")
	same := b.build("1.0.0", "linux_amd64", "program 1.0.0")
	contains(t, b.must(13, "add", "1.0.0", same, "--channel", "stable").err, "release promote 1.0.0 --from beta --to stable")
	more := b.build("1.0.0", "windows_amd64.exe", "pe")
	contains(t, b.must(13, "add", "1.0.0", same, more).err, "platforms", "new number")
	contains(t, b.must(13, "add", "1.0.0", same, "--protocol-max", "9").err, "protocol")
	other := b.build("1.0.0", "linux_amd64", "another build")
	for _, channel := range []string{"beta", "stable"} {
		contains(t, b.must(13, "add", "1.0.0", other, "--channel", channel).err, "other bytes", "new number")
	}
	b.publish()
	if got := b.verify(b.public).versions("beta"); got != "1.0.0" {
		t.Errorf("beta has %q", got)
	}
}

// Two folders of one product that went different ways must not publish over each other.
func TestPublishFromAnotherCopyIsRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add("1.0.0")
	b.publish()
	fork := *b
	fork.dir = copyTree(t, b.dir)
	closeKeys(t, fork.dir)
	b.add("1.1.0")
	b.publish()
	contains(t, fork.must(13, "publish", "--to", "dir:"+b.public).err, "another copy")
	fork.must(0, "sign", "--role", "stable")
	fork.must(0, "sign", "--role", "stable")
	fork.must(0, "sign", "--role", "stable")
	contains(t, fork.must(13, "publish", "--to", "dir:"+b.public).err, "another copy")
	fork.must(0, "add", "1.1.0", fork.build("1.1.0", "linux_amd64", "a different build"))
	contains(t, fork.must(13, "publish", "--to", "dir:"+b.public).err, "version 1.1.0", "other bytes")
	if got := b.verify(b.public).versions("stable"); got != "1.1.0 1.0.0" {
		t.Errorf("stable has %q", got)
	}
}

// The same program may be released twice, and for two platforms.
func TestSameBytesTwice(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	script := b.build("1.0.0", "linux_amd64", "#!/bin/sh")
	b.must(0, "add", "1.0.0", script, "--platform", "darwin/arm64="+script)
	b.must(0, "add", "1.0.1", "--platform", "linux/amd64="+script)
	b.publish()
	if v := b.verify(b.public); v.versions("stable") != "1.0.1 1.0.0" || v.Artifacts != 3 {
		t.Errorf("verified %+v", v)
	}
}

func TestTheOldestOffersLeave(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add("1.0.0")
	set, w := b.set()
	doc, _, _, err := loadRelease(set, "stable", "1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := loadChannel(set, "agent", "stable")
	if err != nil {
		t.Fatal(err)
	}
	for i := 2; i <= keepOffers; i++ {
		c.Offers = append([]manifest.Offer{{Version: "2.0." + strconv.Itoa(i), Epoch: uint64(i)}}, c.Offers...)
	}
	if err := saveChannel(set, c); err != nil {
		t.Fatal(err)
	}
	doc.Version, doc.Epoch = "3.0.0", keepOffers+1
	if err := offer(set, "stable", doc, doc.Bytes(), manifest.AllHosts); err != nil {
		t.Fatal(err)
	}
	if c, err = loadChannel(set, "agent", "stable"); err != nil {
		t.Fatal(err)
	}
	if _, there := c.Offer("1.0.0"); there || len(c.Offers) != keepOffers || c.Offers[0].Version != "3.0.0" {
		t.Errorf("%d offers, the newest %s, 1.0.0 there: %v", len(c.Offers), c.Offers[0].Version, there)
	}
	if paths := set.Targets("stable"); slices.Contains(paths, "stable/1.0.0.json") || !slices.Contains(paths, "stable/3.0.0.json") {
		t.Errorf("documents: %v", paths)
	}
	if got, err := nextEpoch(set, w.product); err != nil || got != keepOffers+2 {
		t.Errorf("next epoch %d, %v", got, err)
	}
}

func TestNotesAreSigned(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	notes := filepath.Join(b.dist, "notes.md")
	if err := os.WriteFile(notes, []byte("faster <b>&\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b.add("1.0.0", "--notes", notes)
	set, _ := b.set()
	release, _, there, err := loadRelease(set, "stable", "1.0.0")
	if err != nil || !there || release.Notes != "faster <b>&\n" {
		t.Errorf("%q, %v, %v", release.Notes, there, err)
	}
	if err := os.WriteFile(notes, []byte(strings.Repeat("x", notesLimit+1)), 0o644); err != nil {
		t.Fatal(err)
	}
	b.must(2, "add", "1.1.0", b.build("1.1.0", "linux_amd64", "x"), "--notes", notes)
}
