package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

func TestMistakesInTheCommandLine(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	program := b.build("1.0.0", "linux_amd64", "x")
	plain := filepath.Join(b.dist, "agent")
	empty := b.build("9.9.9", "linux_amd64", "")
	for _, name := range []string{plain, plain + "+"} {
		if err := os.WriteFile(name, []byte("x"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	links, files := tarball(t, "links.tar.gz", tar.TypeSymlink), tarball(t, "files.tgz", tar.TypeReg)
	noArchive := filepath.Join(b.dist, "no.zip")
	if err := os.WriteFile(noArchive, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(b.dist, "agent+odd")
	if err := os.WriteFile(odd, []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	published, root := filepath.Join(b.dir, "repo"), filepath.Join(b.dir, "repo", "metadata", "1.root.json")
	for _, c := range []struct{ args, says string }{
		{"frobnicate", "unknown command"},
		{"add", "requires at least 1 arg"},
		{"add v1.0.0 " + program, "write it as 1.2.3"},
		{"add 1.0.0+5 " + program, "build metadata"},
		{"add 1.0.0", "no files"},
		{"add 1.0.0 " + plain, "--platform linux/amd64=" + plain},
		{"add 1.0.0 --platform linux=" + plain, "os/arch=FILE"},
		{"add 1.0.0 --platform linux/amd46=" + plain, "no host is linux/amd46"},
		{"add 1.0.0 --platform win/amd64=" + plain, "no host is win/amd64"},
		{"add 1.0.0 --platform linux/amd64=" + plain + "+", "file name \"agent+\": use letters"},
		{"add 1.0.0 " + program + " --platform linux/amd64=" + plain, "two files"},
		{"add 1.0.0 --platform linux/amd64=" + b.dist, "not a file"},
		{"add 9.9.9 " + empty, "empty"},
		{"add 1.0.0 --platform linux/amd64=" + plain + "-missing", "agent-missing"},
		{"add 1.0.0 --platform linux/amd64=" + links, "--main bin/agent"},
		{"add 1.0.0 --platform linux/amd64=" + links + " --main app", "is a link"},
		{"add 1.0.0 --platform linux/amd64=" + files + " --main agent", "has no file agent, nor agent.exe"},
		{"add 1.0.0 --platform linux/amd64=" + noArchive + " --main app", "not an archive that can be a release"},
		{"add 1.0.0 " + program + " --channel nightly", "it has beta, stable"},
		{"add 1.0.0 " + program + " --protocol-min 5", "protocol range"},
		{"add 1.0.0 " + program + " --protocol-max 9999999", "from 1 to 1048576"},
		{"add 1.0.0 " + program + " --epoch 9999999999999999999", "must be between 1 and"},
		{"add 1.0.0 " + program + " --epoch 9999999999", "give a lower one"},
		{"add 1.0.0 --platform " + strings.Repeat("linux", 7) + "/amd64=" + plain, "name the platform as Go does"},
		{"add 1.0.0 --platform linux/amd64=" + odd, "use letters, digits"},
		{"add 1.0.0 " + program + " --colour", "unknown flag"},
		{"publish", "required flag"},
		{"publish --to ftp:x", "dir:PATH"},
		{"promote 1.0.0 --from beta --to beta", "both beta"},
		{"promote 1.0.0 --from beta --to nightly", "no channel"},
		{"promote 1.0.0 --from beta --to stable --share half", "write it as 25%"},
		{"promote v1 --from beta --to stable", "write it as 1.2.3"},
		{"rollout v1 --share 5%", "write it as 1.2.3"},
		{"floor v1", "write it as 1.2.3"},
		{"yank v1 --reason x", "write it as 1.2.3"},
		{"rollout 1.0.0", "required flag"},
		{"rollout 1.0.0 --share 101%", "100%"},
		{"rollout 1.0.0 --share 5% --channel nightly", "no channel"},
		{"floor 1.0.0 --channel nightly", "no channel"},
		{"add 1.0.0 " + program + " --share 5", "write it as 25%"},
		{"yank 1.0.0", "required flag"},
		{"yank 1.0.0 --reason=", "one line"},
		{"yank 1.0.0 --reason=a\x01b", "one line"},
		{"yank 1.0.0 --reason=" + strings.Repeat("a", 1025), "at most 1.0 KiB"},
		{"sign --role nobody", "no role"},
		{"sign nofile.json", "nofile.json: no such file"},
		{"verify /nowhere", "no folder and no URL"},
		{"verify " + published + " --root " + root + " --product Bad_Name --channel stable", "lower-case"},
		{"verify " + published + " --root " + root + " --product agent --channel Bad_Name", "lower-case"},
		{"mirror " + published + " " + b.public + " --root " + root + " --product Bad_Name --channel stable", "lower-case"},
		{"bundle x.tsb --from " + published + " --root " + root + " --product Bad_Name --channel stable", "lower-case"},
		{"serve /nowhere", "release publish"},
		{"serve . --addr 0.0.0.0:0", "loopback"},
		{"serve . --throttle fast", "bytes per second"},
		{"init Agent", "lower-case"},
		{"init agent --channel Bad_Name", "lower-case"},
		{"init agent --channel root", "TUF role"},
		{"init agent --channel artifact", "another name"},
		{"init agent --channel a --channel a", "twice"},
		{"init agent --channel a --channel a-2", "second one of a"},
		{"channel", "channel add NAME"},
		{"channel add root", "TUF role"},
		{"channel add stable-7", "second one of stable"},
		{"keys frobnicate", "unknown command"},
		{"keys add nobody", "no role"},
		{"keys add stable --threshold 3", "will have 2 keys"},
		{"keys add stable --signer exec:x", "needs --public"},
		{"keys add stable --public 00", "64 digits"},
		{"keys add stable --encrypt --public 00", "made here"},
		{"keys add artifact --threshold 2", "one artifact key signs"},
		{"keys replace root/root-9", "it has root-1"},
		{"keys replace artifact", "two steps"},
		{"keys remove stable", "1 key of stable must sign and 0"},
		{"keys remove artifact/artifact-7", "there is artifact"},
		{"keys threshold stable two", "write a number"},
		{"keys threshold stable 2", "stable has 1 key"},
		{"sign --role root --role targets x", "one --role and one FILE"},
	} {
		got := b.must(codeUsage, strings.Fields(c.args)...)
		contains(t, got.err, c.says)
		if strings.Contains(got.err, "verification failed") {
			t.Errorf("release %s: what was given is spoken of as something published: %s", c.args, got.err)
		}
		b.must(codeUsage, append(strings.Fields(c.args), "--json")...).result(t, nil)
	}
	contains(t, must(t, 2, "keys", "--dir", t.TempDir()).err, "release init")
	contains(t, b.must(13, "init", "other").err, "give another --dir")
	contains(t, b.must(13, "yank", "1.0.0", "--reason", "x").err, "1.0.0 is not offered in beta or stable")
	contains(t, b.must(13, "promote", "1.0.0", "--from", "beta", "--to", "stable").err, "it has none")
}

// tarball is a packed file app of some type.
func tarball(t *testing.T, name string, kind byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	err = w.WriteHeader(&tar.Header{Name: "app", Linkname: "elsewhere", Typeflag: kind, Mode: 0o755})
	if err := errors.Join(err, w.Close(), z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestProductFileIsStrict(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	file := filepath.Join(b.dir, productFile)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for text, says := range map[string]string{
		string(good) + "\ncolour = 'red'\n":                                                                               "colour",
		strings.Replace(string(good), "72h", "3 days", 1):                                                                 "expiry of timestamp",
		strings.Replace(string(good), "72h", "1s", 1):                                                                     "at least a minute",
		strings.Replace(string(good), "schema = 1", "schema = 2", 1):                                                      "schema is 2",
		strings.Replace(string(good), "'agent'", "'Agent'", 1):                                                            "lower-case",
		strings.Replace(string(good), "product = ", "product == ", 1):                                                     "product.toml",
		strings.Replace(string(good), "['stable']", "[]", 1):                                                              "channels",
		strings.Replace(string(good), "'stable'", "'stable', 'a'", 1):                                                     "the signed metadata has agent with stable",
		strings.Replace(string(good), "'stable'", "'a', 'b'", 1):                                                          `no role "stable"`,
		string(good) + "\n[[key]]\nname = 'root-4'\npublic = '00'\n":                                                      "64 hex digits",
		string(good) + strings.Repeat("\n[[key]]\nname = 'root-4'\npublic = '"+strings.Repeat("0a", 32)+"'\n", 2):         "may be there once",
		string(good) + "\n[[key]]\nname = 'root-4'\npublic = '" + strings.Repeat("0a", 32) + "'\nsigner = 'sh -c x'\n":    "exec:COMMAND ARGS",
		string(good) + "\n[[key]]\nname = 'root-4'\npublic = '" + strings.Repeat("0a", 32) + "'\nsigner = 'exec:\"a b'\n": "both quotes",
	} {
		if text == string(good) {
			t.Fatalf("the case of %q changes nothing in\n%s", says, good)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		contains(t, b.must(codeUsage, "keys").err, says)
	}
}

func TestKeyFilesThatOthersCanUse(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Go invents the mode bits on Windows: the folder's access list protects the keys there")
	}
	b := newBench(t)
	b.add("1.0.0")
	program := b.build("1.1.0", "linux_amd64", "x")
	for _, name := range []string{"stable.key", "timestamp.key", "artifact.key"} {
		file := filepath.Join(b.dir, "keys", name)
		for _, mode := range []os.FileMode{0o640, 0o604, 0o622, 0o000} {
			if err := os.Chmod(file, mode); err != nil {
				t.Fatal(err)
			}
			contains(t, b.must(13, "add", "1.1.0", program).err, "chmod 600 "+file)
			listed := b.must(13, "keys").out
			contains(t, listed, "chmod 600 "+file)
			contains(t, listed, "1 of 1 key must sign") // the file that cannot be used is no second key
			if strings.Contains(listed, "of 2 keys") || name != "artifact.key" && !strings.Contains(listed, "or in the file below that cannot be used") {
				t.Errorf("a file that cannot be used is taken for a key:\n%s", listed)
			}
			var r ring
			b.must(13, "keys", "--json").result(t, &r)
		}
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.must(0, "keys")
	b.publish()
	if got := b.verify(b.public).versions("stable"); got != "1.0.0" {
		t.Errorf("after the refusals stable has %q", got)
	}
}

func TestKeyFilesThatAreNoKeys(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	file := filepath.Join(b.dir, "keys", "stable.key")
	other, err := os.ReadFile(filepath.Join(b.dir, "keys", "snapshot.key"))
	if err != nil {
		t.Fatal(err)
	}
	program := b.build("1.0.0", "linux_amd64", "x")
	for data, says := range map[string]string{"garbage": "bring back", string(other): "no key of role stable", strings.Repeat("x", keyLimit+1): "larger"} {
		if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		contains(t, b.must(13, "add", "1.0.0", program).err, says)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	contains(t, b.must(13, "add", "1.0.0", program).err, "not a regular file")
}

// Every command documents its exit codes, and --help is text whatever else is asked.
func TestHelpDocumentsExitCodes(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"keys add", "keys remove", "keys replace", "keys threshold", "keys new", "keys encrypt", "keys decrypt", "keys passwd",
		"channel", "channel add", "init", "keys", "add", "sign", "publish", "promote", "yank", "rollout", "floor", "verify", "serve"} {
		contains(t, must(t, 0, append(strings.Fields(command), "--help", "--json")...).out, "Exit codes:", "   0  done", "   2  usage", "--json")
	}
}

func TestAnotherCommandIsAtWork(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	a := &app{dir: b.dir}
	w, err := a.open()
	if err != nil {
		t.Fatal(err)
	}
	contains(t, b.must(13, "keys").err, "in use by another release command")
	w.close()
	b.must(0, "keys")
}

// FuzzProduct: a product file that is read is written again and says the same.
func FuzzProduct(f *testing.F) {
	d := durabletest.New()
	p := newProduct("agent", []string{"stable", "beta"})
	p.Keys = []keyEntry{{Name: "root-1", Public: strings.Repeat("0a", 32), Signer: "exec:sign --key 7"}}
	if err := p.save(d, "."); err != nil {
		f.Fatal(err)
	}
	whole, err := durable.ReadFile(d, productFile, productLimit)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte("schema = 1\n[[key]]\nname = 'root-1'\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := durabletest.New()
		if err := durable.WriteFile(d, productFile, data, 0o644); err != nil {
			t.Fatal(err)
		}
		p, err := loadProduct(d, ".")
		if err != nil {
			return
		}
		saved := func(p product) string {
			err := p.save(d, ".")
			b, rerr := durable.ReadFile(d, productFile, 4*productLimit)
			if err := errors.Join(err, rerr); err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		want := saved(p)
		if again, err := loadProduct(d, "."); len(want) <= productLimit && (err != nil || saved(again) != want) {
			t.Errorf("%s comes back as %+v, %v", want, again, err)
		}
	})
}
