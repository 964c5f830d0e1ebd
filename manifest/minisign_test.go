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

// opening is all that the second signature is held against.
type opening struct {
	trust            Trust
	product, version string
	a                Artifact
	data             []byte
}

// artifactAttack is one change of an opening with the value that is attacked, and with a legal one.
type artifactAttack struct {
	name       string
	want       error
	evil, twin func(*opening)
}

func openedBy[T any](name string, want error, change func(*opening, T), evil, twin T) artifactAttack {
	return artifactAttack{name, want, func(o *opening) { change(o, evil) }, func(o *opening) { change(o, twin) }}
}

func artifactAttacks(stranger, trusted string, sizeBytes int) []artifactAttack {
	return []artifactAttack{
		openedBy("flipped bit", ErrMismatch, func(o *opening, mask byte) { o.data[100] ^= mask }, 1, 0),
		openedBy("too short", ErrMismatch, func(o *opening, n int) { o.data = o.data[:n] }, sizeBytes-1, sizeBytes),
		openedBy("too long", ErrMismatch, func(o *opening, n int) { o.data = append(o.data, make([]byte, n)...) }, 1, 0),
		// A publisher's mistake that only the second signature finds.
		openedBy("other bytes than signed", ErrSignature, func(o *opening, mask byte) {
			o.data[100] ^= mask
			o.a.SHA256 = digestOf(o.data)
		}, 1, 0),
		openedBy("key not trusted", ErrSignature, func(o *opening, key string) { o.trust.Minisign[0] = key }, stranger, trusted),
		openedBy("altered comment", ErrSignature, func(o *opening, version string) {
			o.version = version
			o.a.Minisig = strings.Replace(o.a.Minisig, "version=1.1.0", "version="+version, 1)
		}, "1.2.0", "1.1.0"),
		openedBy("another version", ErrComment, func(o *opening, version string) { o.version = version }, "1.2.0", "1.1.0"),
		openedBy("another platform", ErrComment, func(o *opening, os string) { o.a.OS = os }, "windows", "linux"),
		openedBy("another product", ErrComment, func(o *opening, name string) { o.product, o.trust.Product = name, name }, "other", "demo"),
		openedBy("trust of another product", ErrWrongProduct, func(o *opening, name string) { o.product = name }, "other", "demo"),
		openedBy("garbage", ErrDocument, func(o *opening, text string) { o.a.Minisig += text }, "garbage", ""),
	}
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

	opened := func(change func(*opening)) error {
		o := opening{Trust{Schema, "demo", []string{key.Public()}}, "demo", "1.1.0", good, bytes.Clone(data)}
		change(&o)
		return verify(o.trust, o.product, o.version, o.a, o.data)
	}
	for _, a := range artifactAttacks(other.Public(), key.Public(), len(data)) {
		t.Run(a.name, func(t *testing.T) {
			refused(t, opened(a.evil), a.want)
			if err := opened(a.twin); err != nil {
				t.Errorf("the twin is refused: %v", err)
			}
		})
	}

	err := trust.VerifyArtifact("demo", "1.1.0", good, iotest.ErrReader(errNowhere))
	if !errors.Is(err, errNowhere) || errors.Is(err, ErrVerify) {
		t.Errorf("the reader's error must pass through: %v", err)
	}
	if _, err := SignArtifact(key, "demo", "1.1.0", good, bytes.NewReader(data[1:])); !errors.Is(err, ErrMismatch) {
		t.Errorf("signed what was not described: %v", err)
	}
}

// A key number is only a hint: a stranger may give his key the number of a trusted one.
func TestForgedKeyID(t *testing.T) {
	trust, key, a, data := signed(t)
	numbered := func(signer ArtifactKey) error {
		a.Minisig = must(SignArtifact(signer, "demo", "1.1.0", a, bytes.NewReader(data)))(t)
		var s minisign.Signature
		if err := s.UnmarshalText([]byte(a.Minisig)); err != nil {
			t.Fatal(err)
		}
		s.KeyID = key.key.ID()
		a.Minisig = s.String()
		return trust.VerifyArtifact("demo", "1.1.0", a, bytes.NewReader(data))
	}
	refused(t, numbered(must(NewArtifactKey())(t)), ErrSignature)
	if err := numbered(key); err != nil {
		t.Errorf("the twin: %v", err)
	}
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
