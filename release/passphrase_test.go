package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// pass writes a passphrase file.
func (b *bench) pass(name, text string) string {
	b.t.Helper()
	file := filepath.Join(b.dist, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return file
}

func (b *bench) keyData(name string) []byte {
	b.t.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, "keys", name+".key"))
	if err != nil {
		b.t.Fatal(err)
	}
	return data
}

func TestEncryptedKeyFiles(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	good, wrong := b.pass("good", "correct horse\n"), b.pass("wrong", "battery staple\n")
	plain := b.keyData("stable")

	contains(t, b.must(13, "keys", "encrypt", "stable").err, "--passphrase-file", "$RELEASE_PASSPHRASE", "terminal")
	var r rewritten
	b.must(0, "keys", "encrypt", "stable", "timestamp", "--passphrase-file", good, "--json").result(t, &r)
	if len(r.Files) != 2 {
		t.Errorf("encrypted %v", r.Files)
	}
	box := b.keyData("stable")
	contains(t, string(box), "ENCRYPTED SIGSTORE PRIVATE KEY")
	b.must(3, "keys", "encrypt", "stable", "--passphrase-file", good)
	contains(t, b.must(0, "keys").out, "stable.key, encrypted", "timestamp.key, encrypted")

	program := b.build("1.0.0", "linux_amd64", "x")
	contains(t, b.must(13, "add", "1.0.0", program).err, "is encrypted", "--passphrase-file")
	contains(t, b.must(13, "add", "1.0.0", program, "--passphrase-file", wrong).err, "wrong passphrase", "nothing was changed")
	b.must(13, "add", "1.0.0", program, "--passphrase-file", filepath.Join(b.dist, "none"))
	b.must(13, "add", "1.0.0", program, "--passphrase-file", b.pass("empty", "\n"))
	if exists(filepath.Join(b.dir, "draft")) {
		t.Error("a refusal left a draft")
	}
	b.must(0, "add", "1.0.0", program, "--passphrase-file", good)
	b.must(0, "publish", "--to", "dir:"+b.public, "--passphrase-file", good)
	if got := b.verify(b.public).versions("stable"); got != "1.0.0" {
		t.Errorf("stable has %q", got)
	}

	// One wrong passphrase among several files changes none of them.
	b.must(0, "keys", "passwd", "timestamp", "--passphrase-file", good, "--new-passphrase-file", wrong)
	b.must(13, "keys", "decrypt", "stable", "timestamp", "--passphrase-file", good)
	if !bytes.Equal(box, b.keyData("stable")) {
		t.Error("a refusal changed a key file")
	}
	b.must(0, "keys", "decrypt", "timestamp", "--passphrase-file", wrong)
	b.must(0, "keys", "decrypt", "stable", filepath.Join(b.dir, "keys", "timestamp.key"), "--passphrase-file", good)
	b.must(3, "keys", "decrypt", "stable")
	contains(t, b.must(13, "keys", "passwd", "stable", "--new-passphrase-file", wrong).err, "no passphrase")
	if !bytes.Equal(plain, b.keyData("stable")) {
		t.Error("the key comes back as another")
	}
	b.must(0, "keys")
}

func TestPassphraseFileThatOthersCanRead(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Go invents the mode bits on Windows: the folder's access list protects the file there")
	}
	b := newBench(t)
	file := b.pass("open", "correct horse")
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	contains(t, b.must(13, "keys", "encrypt", "stable", "--passphrase-file", file).err, "chmod 600")
}

// An init that had no passphrase leaves nothing that would stop the next one.
func TestInitWithoutPassphrase(t *testing.T) {
	b := newBench(t)
	b.dir = filepath.Join(t.TempDir(), "product")
	t.Setenv("RELEASE_PASSPHRASE", "")
	b.must(13, "init", "agent", "--encrypt")
	b.must(0, "init", "agent")
}

// init encrypts every key, each with a passphrase of its own if the environment has one. The artifact key is in
// minisign's format. Opening that one is made slow on purpose, so it is done as rarely as the test allows.
func TestInitEncrypts(t *testing.T) {
	if testing.Short() {
		t.Skip("minisign's format takes 1 GiB and seconds to open, under the race detector minutes: it is run in full without -short")
	}
	b := newBench(t)
	t.Setenv("RELEASE_PASSPHRASE", "for the rest")
	t.Setenv("RELEASE_PASSPHRASE_ARTIFACT", "for programs")
	b.dir = filepath.Join(t.TempDir(), "product")
	b.must(0, "init", "agent", "--encrypt")
	for _, name := range []string{"root-1", "targets-3", "stable", "snapshot", "timestamp"} {
		contains(t, string(b.keyData(name)), "ENCRYPTED SIGSTORE PRIVATE KEY")
	}
	contains(t, string(b.keyData("artifact")), "minisign encrypted secret key")
	contains(t, b.must(0, "keys").out, "root-1.key, encrypted", "artifact.key, encrypted")
	b.add("1.0.0")
	b.publish()
	if got := b.verify(b.public).versions("stable"); got != "1.0.0" {
		t.Errorf("stable has %q", got)
	}
	t.Setenv("RELEASE_PASSPHRASE_ARTIFACT", "")
	contains(t, b.must(13, "add", "1.1.0", b.build("1.1.0", "linux_amd64", "x")).err, "$RELEASE_PASSPHRASE_ARTIFACT is empty")
	t.Setenv("RELEASE_PASSPHRASE_ARTIFACT", "for Programs")
	contains(t, b.must(13, "add", "1.1.0", b.build("1.1.0", "linux_amd64", "x")).err, "wrong passphrase", "artifact.key")
}
