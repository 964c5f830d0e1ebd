package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever single file of a published tree is changed, a client refuses it.
func TestVerifyRefusesEveryTamperedFile(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	b.must(0, "add", "1.0.0", b.build("1.0.0", "linux_amd64", "elf"), b.build("1.0.0", "windows_amd64.exe", "pe"))
	b.must(0, "promote", "1.0.0", "--from", "beta", "--to", "stable")
	b.must(0, "sign", "--role", "root")
	b.publish()
	b.verify(b.public)
	list := files(t, b.public)
	if len(list) < 14 {
		t.Fatalf("only %d files were published: %v", len(list), list)
	}
	for _, file := range list {
		b.tamper(file)
	}
	b.verify(b.public)
}

// tamper changes a file in every way and puts it back.
func (b *bench) tamper(file string) {
	t := b.t
	t.Helper()
	name, _ := filepath.Rel(b.public, file)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	defer write(t, file, good)
	changes := map[string][]byte{"a bit": flip(good), "longer": append(bytes.Clone(good), '\n'), "shorter": good[:len(good)-1], "missing": nil}
	newRoot := strings.HasSuffix(name, "2.root.json")
	if newRoot || strings.HasSuffix(name, "timestamp.json") {
		// Nothing names the length of these two: a space after their end is as good as none.
		delete(changes, "longer")
		changes["shorter"] = good[:len(good)/2]
	}
	if newRoot {
		delete(changes, "missing") // a root that is not there is no new root
	}
	for how, data := range changes {
		want := codeVerify
		write(t, file, data)
		if data == nil {
			want = codeDownload
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
		got := release(t, "verify", b.public, "--dir", b.dir)
		if cut := how == "shorter" && got.code == codeDownload; got.code != want && !cut {
			t.Errorf("%s, %s: exit %d, want %d: %s%s", name, how, got.code, want, got.out, got.err)
		}
	}
}

// flip changes one bit in the middle, in metadata of a digit or letter of the part that is signed: one of
// three signatures may be damaged where two are enough.
func flip(data []byte) []byte {
	data = bytes.Clone(data)
	from := max(0, bytes.Index(data, []byte(`"signed"`)))
	data[(from+len(data))/2] ^= 1
	return data
}

func TestVerifyOfAnotherProduct(t *testing.T) {
	t.Parallel()
	mine, theirs := newBench(t), newBench(t)
	mine.add("1.0.0")
	mine.publish()
	theirs.add("1.0.0")
	theirs.publish()
	contains(t, mine.must(codeVerify, "verify", theirs.public).err, "not the root that is trusted")
	root := filepath.Join(mine.dir, "repo", "metadata", "1.root.json")
	must(t, 0, "verify", mine.public, "--root", root, "--product", "agent", "--channel", "stable", "--dir", t.TempDir())
	must(t, codeVerify, "verify", mine.public, "--root", root, "--product", "other", "--channel", "stable", "--dir", t.TempDir())
	must(t, codeUsage, "verify", mine.public, "--dir", t.TempDir())
	must(t, codeDownload, "verify", t.TempDir(), "--dir", mine.dir)
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
