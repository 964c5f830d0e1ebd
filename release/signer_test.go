package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/manifest"
)

const deviceMode = "sign-as-a-device"

// device is a program that signs as a key service would: MODE KEYFILE, the bytes on stdin, the signature on stdout.
func device(args []string) int {
	message, err := io.ReadAll(os.Stdin)
	if err != nil || len(args) != 2 {
		return 2
	}
	data, err := os.ReadFile(args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	key, err := manifest.ParseKey(data)
	if err != nil {
		return 2
	}
	signature, _ := key.Sign(message) // never fails
	switch args[0] {
	case "raw":
		_, _ = os.Stdout.Write(signature)
	case "base64":
		fmt.Println(base64.StdEncoding.EncodeToString(signature))
	case "other-message":
		signature, _ = key.Sign(append(message, 0))
		_, _ = os.Stdout.Write(signature)
	case "text":
		fmt.Println("signed, all is well")
	case "locked":
		fmt.Fprintln(os.Stderr, "the card\x1b[31m is\nlocked")
		return 7
	case "endless":
		for {
			if _, err := os.Stdout.Write(make([]byte, 1<<12)); err != nil {
				return 1
			}
		}
	case "silent":
		time.Sleep(time.Hour)
	case "environment":
		for _, v := range os.Environ() {
			if strings.HasPrefix(v, passphraseEnv) || strings.HasPrefix(v, newPassphraseEnv) {
				fmt.Fprintln(os.Stderr, "it was given", v)
				return 8
			}
		}
		_, _ = os.Stdout.Write(signature)
	}
	return 0
}

// inDevice moves a key out of keys/ and returns the signer that reaches it.
func (b *bench) inDevice(name, mode string) (signer, public string) {
	b.t.Helper()
	stick := b.t.TempDir()
	file := filepath.Join(stick, name+".key")
	var made newKeyMade
	must(b.t, 0, "keys", "new", file, "--json").result(b.t, &made)
	return fmt.Sprintf(`exec:"%s" %s %s "%s"`, os.Args[0], deviceMode, mode, file), made.Public
}

// setSigner changes the command of a key in the product file.
func (b *bench) setSigner(name, signer string) {
	b.t.Helper()
	p, err := loadProduct((&app{dir: b.dir}).workspace().disk, b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	i := slices.IndexFunc(p.Keys, func(e keyEntry) bool { return e.Name == name })
	if i < 0 {
		b.t.Fatalf("the product file has no key %s", name)
	}
	p.Keys[i].Signer = signer
	if err := p.save((&app{dir: b.dir}).workspace().disk, b.dir); err != nil {
		b.t.Fatal(err)
	}
}

// Keys behind commands sign a whole release: the channel's, the timestamp's and the artifact key.
func TestCommandSigns(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for role, mode := range map[string]string{"stable": "base64", "timestamp": "raw"} {
		signer, public := b.inDevice(role, mode)
		b.must(0, "keys", "replace", role, "--public", public, "--signer", signer)
		b.away(role)
	}
	signer, public := b.inDevice("artifact", "raw")
	b.must(0, "keys", "add", "artifact", "--public", public, "--signer", signer)
	contains(t, b.must(0, "keys").out, "stable-2, exec:", "artifact-2, exec:")
	b.add("1.0.0")
	b.must(0, "keys", "remove", "artifact/artifact")
	b.away("artifact")
	b.add("1.1.0")
	b.publish()
	if v := b.verify(b.public); v.versions("stable") != "1.1.0 1.0.0" || v.Root != 2 {
		t.Errorf("verified %+v", v)
	}
}

// A command that does not answer with the signature changes nothing, and says why.
func TestCommandThatDoesNotSign(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	signer, public := b.inDevice("stable", "raw")
	b.must(0, "keys", "replace", "stable", "--public", public, "--signer", signer)
	b.away("stable")
	b.publish()
	before := files(t, filepath.Join(b.dir, "repo", "metadata"))
	for mode, says := range map[string]string{
		"other-message": "no signature of this key",
		"text":          "64 bytes, or their base64",
		"locked":        "exit status 7: the card [31m is locked",
		"endless":       "more than 4.0 KiB",
	} {
		b.setSigner("stable-2", strings.Replace(signer, " raw ", " "+mode+" ", 1))
		contains(t, b.must(codePreflight, "sign", "--role", "stable").err, says)
		if after := files(t, filepath.Join(b.dir, "repo", "metadata")); !slices.Equal(before, after) || exists(filepath.Join(b.dir, "draft")) {
			t.Errorf("%s: something was written: %v", mode, after)
		}
	}
	if file := filepath.Join(b.dir, productFile); runtime.GOOS != "windows" {
		b.setSigner("stable-2", signer)
		if err := os.Chmod(file, 0o664); err != nil {
			t.Fatal(err)
		}
		contains(t, b.must(codePreflight, "sign", "--role", "stable").err, "chmod go-w "+file)
	}
	// Another machine, which has no such command: the key is elsewhere.
	b.setSigner("stable-2", "exec:no-such-command-here")
	contains(t, b.must(0, "add", "1.0.0", b.build("1.0.0", "linux_amd64", "x")).out, "1 signature of stable")
	b.setSigner("stable-2", signer)
	b.must(0, "sign")
	b.publish()
	if got := b.verify(b.public).versions("stable"); got != "1.0.0" {
		t.Errorf("stable has %q", got)
	}
}

func TestCommandIsBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	file := filepath.Join(b.dir, "keys", "stable.key")
	key, err := (&app{dir: b.dir}).workspace().readKey(file)
	if err != nil {
		t.Fatal(err)
	}
	s := execSigner{t.Context(), "stable", key.Public(), []string{os.Args[0], deviceMode, "silent", file}, 100 * time.Millisecond}
	if _, err := s.Sign([]byte("x")); codeOf(err) != codePreflight || !strings.Contains(err.Error(), "no signature within") {
		t.Errorf("a silent command: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.ctx, s.limit = ctx, execTime
	if _, err := s.Sign([]byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted one: %v", err)
	}
}

// A command that signs is not told what opens other keys.
func TestCommandGetsNoPassphrase(t *testing.T) {
	t.Setenv("RELEASE_PASSPHRASE", "a secret")
	t.Setenv("RELEASE_PASSPHRASE_ROOT_1", "another")
	t.Setenv("RELEASE_NEW_PASSPHRASE", "a third")
	b := newBench(t)
	signer, public := b.inDevice("stable", "environment")
	b.must(0, "keys", "replace", "stable", "--public", public, "--signer", signer)
}

func TestSignerIsWrittenOneWay(t *testing.T) {
	for text, want := range map[string][]string{
		"exec:sign":                          {"sign"},
		"exec:sign  --key  7":                {"sign", "--key", "7"},
		`exec:"C:\Program Files\s.exe" "" x`: {`C:\Program Files\s.exe`, "", "x"},
		`exec:a"b c"d`:                       {"ab cd"},
	} {
		if got, err := parseExec(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "sign", "exec:", "exec: ", `exec:"a`, `exec:"" x`} {
		if got, err := parseExec(text); codeOf(err) != codeUsage {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}

// FuzzSignerAnswer: whatever a command wrote, it is 64 bytes or an error.
func FuzzSignerAnswer(f *testing.F) {
	whole := bytes.Repeat([]byte{0xfb}, ed25519Bytes)
	f.Add(whole)
	f.Add([]byte(base64.StdEncoding.EncodeToString(whole) + "\n"))
	f.Add([]byte(base64.RawStdEncoding.EncodeToString(whole)))
	f.Add([]byte("permission denied\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		got, err := parseSignature(out)
		if err != nil {
			return
		}
		again, err := parseSignature([]byte(base64.StdEncoding.EncodeToString(got)))
		if len(got) != ed25519Bytes || err != nil || !bytes.Equal(again, got) {
			t.Errorf("%q is a signature of %d bytes, and comes back as %x, %v", out, len(got), again, err)
		}
	})
}

// FuzzExec: a command line comes back as it was when its parts are put in quotes.
func FuzzExec(f *testing.F) {
	for _, text := range []string{"exec:sign --key 7", `exec:"C:\Program Files\s.exe" "" x`, `exec:a"b c"d`, "exec:", "sign", `exec:"`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		argv, err := parseExec(text)
		if err != nil {
			return
		}
		again, err := parseExec(execPrefix + `"` + strings.Join(argv, `" "`) + `"`)
		if err != nil || argv[0] == "" || !slices.Equal(again, argv) {
			t.Errorf("%q comes back as %q, %v", argv, again, err)
		}
	})
}
