package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// offers are those of a channel in the published folder.
func (b *bench) offers(channel string) verifiedChannel {
	b.t.Helper()
	for _, c := range b.verify(b.public).Channels {
		if c.Name == channel {
			return c
		}
	}
	b.t.Fatalf("no channel %s is published", channel)
	return verifiedChannel{}
}

func (c verifiedChannel) share(version string) int {
	for _, r := range c.Releases {
		if r.Version == version {
			return r.Share
		}
	}
	return -1
}

func TestRollout(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	b.add("1.0.0", "--share", "5%")
	b.must(0, "promote", "1.0.0", "--from", "beta", "--to", "stable", "--share", "0.25%")
	contains(t, b.must(3, "promote", "1.0.0", "--from", "beta", "--to", "stable").err, "to 0.25% of its hosts", "release rollout")
	b.publish()
	if beta, stable := b.offers("beta").share("1.0.0"), b.offers("stable").share("1.0.0"); beta != 500 || stable != 25 {
		t.Errorf("beta %d, stable %d", beta, stable)
	}
	var r rolled
	b.must(0, "rollout", "1.0.0", "--share", "25%", "--channel", "stable", "--json").result(t, &r)
	if r.Share != 2500 || !slices.Equal(r.Channels, []string{"stable"}) {
		t.Errorf("rolled out: %+v", r)
	}
	contains(t, b.must(0, "rollout", "1.0.0", "--share", "25%").out, "1.0.0 to 25% of beta")
	b.must(3, "rollout", "1.0.0", "--share", "25%")
	b.must(3, "rollout", "1.0.0", "--share", "25%", "--json").result(t, nil)
	b.publish()
	if beta, stable := b.offers("beta").share("1.0.0"), b.offers("stable").share("1.0.0"); beta != 2500 || stable != 2500 {
		t.Errorf("beta %d, stable %d", beta, stable)
	}
	contains(t, b.must(0, "verify", b.public).out, "offered to 25%")
	b.must(0, "rollout", "1.0.0", "--share", "0%")
	b.must(13, "rollout", "2.0.0", "--share", "1%")
	b.must(0, "yank", "1.0.0", "--reason", "leaks")
	contains(t, b.must(13, "rollout", "1.0.0", "--share", "100%").err, "leaks")
}

// A smaller number that is offered later is newer for the hosts, and whoever adds it is told.
func TestSmallerNumberIsToldOf(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	b.add("1.10.0")
	b.add("2.0.0")
	b.must(0, "yank", "2.0.0", "--reason", "loses data")
	got := b.must(0, "add", "1.9.0", b.build("1.9.0", "linux_amd64", "x"), "--json")
	var a added
	got.result(t, &a)
	if a.Leaves != "1.10.0" {
		t.Errorf("from 1.10.0 to 1.9.0: %+v", a)
	}
	contains(t, b.must(0, "add", "1.8.0", b.build("1.8.0", "linux_amd64", "x")).out, "warning", "hosts of beta go from it to 1.8.0")
	if out := b.must(0, "add", "1.8.0-rc.1", b.build("1.8.0-rc.1", "linux_amd64", "y"), "--channel", "stable").out; strings.Contains(out, "warning") {
		t.Errorf("the first of its channel: %s", out)
	}
}

// The bytes of one version under a second number are allowed, and told of, platform by platform.
func TestSameBytesAreToldOf(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	b.must(0, "add", "1.0.0", b.build("1.0.0", "linux_amd64", "x"), b.build("1.0.0", "windows_amd64.exe", "y"))
	b.must(0, "yank", "1.0.0", "--reason", "loses data")
	var a added
	b.must(0, "add", "1.1.0", b.build("1.1.0", "linux_amd64", "x"), b.build("1.1.0", "windows_amd64.exe", "z"), "--channel", "stable", "--json").result(t, &a)
	if a.Artifacts[0].SameAs != "1.0.0" || a.Artifacts[1].SameAs != "" {
		t.Errorf("x again, z for y: %+v", a.Artifacts)
	}
	contains(t, b.must(0, "add", "1.2.0", b.build("1.2.0", "linux_amd64", "z")).out, "next")
	contains(t, b.must(0, "add", "1.3.0", b.build("1.3.0", "linux_amd64", "z")).out, "warning", "linux/amd64 has the bytes of 1.2.0")
}

// A bundle that could not be written is not told as one.
func TestBundleIntoNoFolder(t *testing.T) {
	t.Parallel()
	b := newBench(t, "stable")
	contains(t, b.must(2, "bundle", "x.tsb", "--version", "9.9.9").err, "is on offer as version 9.9.9")
	b.add("1.0.0")
	got := b.must(1, "bundle", filepath.Join(t.TempDir(), "missing", "x.tsb"))
	if got.out != "" {
		t.Errorf("printed %s", got.out)
	}
	contains(t, got.err, "missing")
}

func TestShareIsWrittenOneWay(t *testing.T) {
	for text, want := range map[string]int{"0%": 0, "100%": 10000, "25%": 2500, "0.5%": 50, "33.33%": 3333, "99.99%": 9999, "7 %": 700} {
		if got, err := parseShare(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
		if back, err := parseShare(percent(want)); err != nil || back != want {
			t.Errorf("%d is printed as %s", want, percent(want))
		}
	}
	for _, text := range []string{"", "25", "-1%", "100.01%", "101%", "1.234%", "1e1%", "%", ".5%", " 5%"} {
		if got, err := parseShare(text); codeOf(err) != codeUsage {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

func TestFloor(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	for _, version := range []string{"1.0.0", "1.1.0", "1.2.0"} {
		b.add(version)
	}
	b.must(0, "promote", "1.1.0", "--from", "beta", "--to", "stable")
	var f floored
	b.must(0, "floor", "1.1.0", "--json").result(t, &f)
	if f.MinEpoch != 2 || !slices.Equal(f.Channels, []string{"beta", "stable"}) {
		t.Errorf("floor %+v", f)
	}
	b.must(3, "floor", "1.1.0")
	b.must(3, "floor", "1.0.0", "--channel", "beta")
	b.must(0, "yank", "1.2.0", "--reason", "leaks")
	contains(t, b.must(13, "floor", "1.2.0").err, "leaks")
	b.must(13, "floor", "9.0.0")
	b.publish()
	for _, channel := range []string{"beta", "stable"} {
		if got := b.offers(channel).MinEpoch; got != 2 {
			t.Errorf("%s has the floor %d", channel, got)
		}
	}
	contains(t, b.must(0, "verify", b.public).out, "nothing below epoch 2")
}
