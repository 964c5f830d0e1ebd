package manifest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"aead.dev/minisign"
)

// signed is an artifact with its signature and the trust document that opens it.
func signed(t *testing.T) (Trust, ArtifactKey, Artifact, []byte) {
	t.Helper()
	key := must(NewArtifactKey())(t)
	data := bytes.Repeat([]byte("an artifact\n"), 10000)
	a := Artifact{OS: "linux", Arch: "amd64", Name: "demo", SizeBytes: int64(len(data)), SHA256: digestOf(data)}
	a.Minisig = must(SignArtifact(key, "demo", "1.1.0", a, bytes.NewReader(data)))(t)
	return Trust{Schema, "demo", []string{key.Public()}}, key, a, data
}

func TestVerifyArtifact(t *testing.T) {
	trust, key, good, data := signed(t)
	verify := func(trust Trust, product, version string, a Artifact, data []byte) error {
		return trust.VerifyArtifact(product, version, a, bytes.NewReader(data))
	}
	if err := verify(trust, "demo", "1.1.0", good, data); err != nil {
		t.Fatal(err)
	}
	other := must(NewArtifactKey())(t)
	both := Trust{Schema, "demo", []string{other.Public(), key.Public()}}
	if err := verify(both, "demo", "1.1.0", good, data); err != nil {
		t.Errorf("during a rotation: %v", err)
	}

	flipped := bytes.Clone(data)
	flipped[100] ^= 1
	sameDigest := good // a publisher's mistake that only the second signature finds
	sameDigest.SHA256 = digestOf(flipped)
	windows := good
	windows.OS = "windows"
	altered := good
	altered.Minisig = strings.Replace(good.Minisig, "version=1.1.0", "version=1.2.0", 1)
	garbage := good
	garbage.Minisig = "garbage"
	elsewhere := Trust{Schema, "other", trust.Minisign}
	for _, c := range []struct {
		name             string
		trust            Trust
		product, version string
		a                Artifact
		data             []byte
		want             error
	}{
		{"flipped bit", trust, "demo", "1.1.0", good, flipped, ErrMismatch},
		{"too short", trust, "demo", "1.1.0", good, data[1:], ErrMismatch},
		{"too long", trust, "demo", "1.1.0", good, append(bytes.Clone(data), 0), ErrMismatch},
		{"other bytes than signed", trust, "demo", "1.1.0", sameDigest, flipped, ErrSignature},
		{"key not trusted", Trust{Schema, "demo", []string{other.Public()}}, "demo", "1.1.0", good, data, ErrSignature},
		{"altered comment", trust, "demo", "1.2.0", altered, data, ErrSignature},
		{"another version", trust, "demo", "1.2.0", good, data, ErrComment},
		{"another platform", trust, "demo", "1.1.0", windows, data, ErrComment},
		{"another product", elsewhere, "other", "1.1.0", good, data, ErrComment},
		{"trust of another product", trust, "other", "1.1.0", good, data, ErrWrongProduct},
		{"garbage", trust, "demo", "1.1.0", garbage, data, ErrDocument},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, verify(c.trust, c.product, c.version, c.a, c.data), c.want) })
	}

	err := trust.VerifyArtifact("demo", "1.1.0", good, iotest.ErrReader(errNowhere))
	if !errors.Is(err, errNowhere) || errors.Is(err, ErrVerify) {
		t.Errorf("the reader's error must pass through: %v", err)
	}
	if _, err := SignArtifact(key, "demo", "1.1.0", good, bytes.NewReader(flipped)); !errors.Is(err, ErrMismatch) {
		t.Errorf("signed what was not described: %v", err)
	}
}

// A key number is only a hint: a stranger may give his key the number of a trusted one.
func TestForgedKeyID(t *testing.T) {
	trust, key, a, data := signed(t)
	stranger := must(NewArtifactKey())(t)
	a.Minisig = must(SignArtifact(stranger, "demo", "1.1.0", a, bytes.NewReader(data)))(t)
	var s minisign.Signature
	if err := s.UnmarshalText([]byte(a.Minisig)); err != nil {
		t.Fatal(err)
	}
	s.KeyID = key.key.ID()
	a.Minisig = s.String()
	refused(t, trust.VerifyArtifact("demo", "1.1.0", a, bytes.NewReader(data)), ErrSignature)
}

func TestArtifactKey(t *testing.T) {
	key := must(NewArtifactKey())(t)
	back := must(ParseArtifactKey(key.Bytes(), ""))(t)
	if !back.key.Equal(key.key) || back.Public() != key.Public() || back.ID() != key.ID() {
		t.Error("the key comes back as another")
	}
	for _, data := range []string{"", "garbage", string(key.PublicFile())} {
		if _, err := ParseArtifactKey([]byte(data), ""); err == nil {
			t.Errorf("%q is accepted", data)
		}
	}
}

// The program minisign accepts what we sign, and we accept what it signs, with each other's key files.
func TestMinisignProgram(t *testing.T) {
	program, err := exec.LookPath("minisign")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("the program minisign is not installed, and under CI=true this may not be skipped; install the package minisign")
		}
		t.Skip("the program minisign is not installed (package minisign): its agreement with our signatures is not tested")
	}
	trust, key, a, data := signed(t)
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	run := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
		return string(out), err
	}
	artifact, public, secret := file("demo", data), file("demo.pub", key.PublicFile()), file("demo.key", key.Bytes())
	file("demo.minisig", []byte(a.Minisig))

	for _, args := range [][]string{{"-V", "-m", artifact, "-p", public}, {"-V", "-H", "-m", artifact, "-P", key.Public()}} {
		out, err := run(args...)
		if err != nil || !strings.Contains(out, TrustedComment("demo", "1.1.0", a)) {
			t.Errorf("minisign %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	file("demo", append(bytes.Clone(data), '!'))
	if out, err := run("-V", "-m", artifact, "-p", public); err == nil {
		t.Errorf("minisign accepts other bytes:\n%s", out)
	}
	file("demo", data)

	out, err := run("-S", "-s", secret, "-m", artifact, "-t", TrustedComment("demo", "1.1.0", a))
	if err != nil {
		t.Fatalf("minisign -S with our key file: %v\n%s", err, out)
	}
	theirs, err := os.ReadFile(filepath.Join(dir, "demo.minisig"))
	if err != nil {
		t.Fatal(err)
	}
	a.Minisig = string(theirs)
	if err := trust.VerifyArtifact("demo", "1.1.0", a, bytes.NewReader(data)); err != nil {
		t.Errorf("signed by minisign: %v\n%s", err, theirs)
	}
}

func FuzzSignature(f *testing.F) {
	f.Add(exampleMinisig)
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := parseSignature(text); err == nil {
			same(t, []byte(text), []byte(s.String()))
		}
	})
}

func FuzzArtifactPublicKey(f *testing.F) {
	f.Add(exampleTrust().Minisign[0])
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := parseArtifactPublicKey(text); err == nil {
			same(t, []byte(text), []byte(k.String()))
		}
	})
}

func FuzzArtifactKey(f *testing.F) {
	key, err := NewArtifactKey()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(key.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if minisign.IsEncrypted(data) {
			return // opening one takes 1 GiB and a second
		}
		k, err := ParseArtifactKey(data, "")
		if err != nil {
			return
		}
		back, err := ParseArtifactKey(k.Bytes(), "")
		if err != nil || !back.key.Equal(k.key) {
			t.Errorf("%q does not come back: %v", data, err)
		}
	})
}
