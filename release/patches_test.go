package main

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/manifest"
)

// lineBuild is one of a line of builds that differ a little.
func lineBuild(build byte) string {
	b := make([]byte, 100_000)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	for i := range build {
		b[1000*int(i)] ^= build
	}
	return string(b)
}

func (b *bench) patches(version string, args ...string) []manifest.Patch {
	b.t.Helper()
	file := b.build(version, "linux_amd64", lineBuild(version[2]))
	var a added
	b.must(0, append([]string{"add", version, file, "--json"}, args...)...).result(b.t, &a)
	return a.Artifacts[0].Patches
}

// A file that zstd makes smaller is stored packed as well, for hosts that have nothing to start from.
func TestPacked(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var a added
	b.must(0, "add", "1.0.0", b.build("1.0.0", "linux_amd64", strings.Repeat("the same again, ", 1000)), "--json").result(t, &a)
	all := a.Artifacts[0].Patches
	if len(all) != 1 || all[0].Kind != manifest.PatchPacked || all[0].From != "" || all[0].SizeBytes > 1000 {
		t.Fatalf("%+v", all)
	}
	contains(t, b.must(0, "add", "1.1.0", b.build("1.1.0", "linux_amd64", strings.Repeat("nearly the same, ", 1000))).out, "packed file")
	b.publish()
	if v := b.verify(b.public); v.Packed != 2 || v.Patches != 0 {
		t.Errorf("%d packed files and %d patches were tried", v.Packed, v.Patches)
	}
	if text := b.must(0, "verify", b.public).out; !strings.Contains(text, "2 packed files: each holds") || strings.Contains(text, "patch file") {
		t.Error(text)
	}
	file := filepath.Join(b.public, filepath.FromSlash(manifest.HashPath(all[0].SHA256)))
	packed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	packed[len(packed)/2] ^= 1
	if err := errors.Join(os.Remove(file), os.WriteFile(file, packed, 0o644)); err != nil {
		t.Fatal(err)
	}
	b.must(codeVerify, "verify", b.public)
}

func TestPatches(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	for i, v := range []string{"1.0.0", "1.1.0", "1.2.0", "1.3.0"} {
		if p := b.patches(v); len(p) != i {
			t.Errorf("%s: %d patches", v, len(p))
		}
	}
	b.must(0, "promote", "1.0.0", "--from", "beta", "--to", "stable")
	b.must(0, "yank", "1.3.0", "--reason", "bad")
	p := b.patches("1.4.0", "--patches", "1")
	var from []string
	for _, v := range []string{"1.0.0", "1.2.0"} { // the newest of each channel that is not yanked
		_, digest, err := digestFile(filepath.Join(b.dist, "agent_"+v+"_linux_amd64"))
		if err != nil {
			t.Fatal(err)
		}
		from = append(from, digest)
	}
	slices.Sort(from)
	if len(p) != 2 || p[0].From != from[0] || p[1].From != from[1] || p[0].Kind != manifest.PatchPlain || p[0].SizeBytes > 2000 {
		t.Errorf("patches %+v, want from %v", p, from)
	}
	b.must(3, "add", "1.4.0", filepath.Join(b.dist, "agent_1.4.0_linux_amd64"))
	if p := b.patches("1.5.0", "--patches", "0"); len(p) != 0 {
		t.Errorf("unwanted patches %+v", p)
	}
	b.must(2, "add", "1.6.0", b.build("1.6.0", "linux_amd64", lineBuild('6')), "--patches", "9")
	b.publish()
	if v := b.verify(b.public); v.Patches != 1+2+3+2 {
		t.Errorf("%d patches were tried", v.Patches)
	}
	var a added
	b.must(0, "add", "1.7.0", b.build("1.7.0", "linux_amd64", strings.ToUpper(lineBuild('7')[2500:2700])+"another program"), "--json").result(t, &a)
	for _, p := range a.Artifacts[0].Patches {
		if p.Kind == manifest.PatchPacked {
			continue
		}
		t.Errorf("a patch of %d bytes for 215", p.SizeBytes)
	}
}

// A published patch that is not the signed one, or that is and makes other bytes, or is for another platform, is
// found. The twin is TestPatches.
func TestVerifyRefusesWrongPatches(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	b.patches("1.0.0")
	good := b.patches("1.1.0")
	b.publish()
	file := filepath.Join(b.public, filepath.FromSlash(manifest.HashPath(good[0].SHA256)))
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(data)
	bad[len(bad)/2] ^= 1
	write(t, file, bad)
	contains(t, b.must(11, "verify", b.public).err, "patch from", "not the signed bytes")
	write(t, file, data)
	b.verify(b.public)

	other := b.patches("1.2.0", "--patches", "0")
	if len(other) != 0 {
		t.Fatal("a patch")
	}
	_, windows, err := digestFile(b.build("1.3.0", "windows_amd64.exe", lineBuild('9')))
	if err != nil {
		t.Fatal(err)
	}
	b.must(0, "add", "1.3.0", filepath.Join(b.dist, "agent_1.3.0_windows_amd64.exe"))
	for version, c := range map[string]struct {
		err  error
		from string
	}{"1.4.0": {manifest.ErrMismatch, good[0].From}, "1.5.0": {manifest.ErrWrongPlatform, windows}} {
		clone := *b
		clone.dir, clone.public = copyTree(t, b.dir), t.TempDir()
		closeKeys(t, clone.dir)
		wrong := good[0] // makes 1.1.0
		wrong.From = c.from
		clone.addWith(version, wrong)
		clone.publish()
		contains(t, clone.must(11, "verify", clone.public).err, "version "+version, c.err.Error())
	}
}

// addWith adds a version with a patch that the tool did not make.
func (b *bench) addWith(version string, patch manifest.Patch) {
	b.t.Helper()
	set, w := b.set()
	files, err := binaries([]string{b.build(version, "linux_amd64", lineBuild(version[2]))}, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	doc, err := w.describe(addition{version: version, protocol: manifest.Protocol{Min: 1, Max: 1}}, files)
	if err != nil {
		b.t.Fatal(err)
	}
	doc.Artifacts[0].Patches = []manifest.Patch{patch}
	if _, err := w.addRelease(b.t.Context(), set, doc, files, target{channel: "beta", share: manifest.AllHosts}); err != nil {
		b.t.Fatal(err)
	}
}
