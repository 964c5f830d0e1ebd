package manifest

import (
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestEncryptedKey(t *testing.T) {
	k := must(NewKey())(t)
	box := must(k.Encrypt([]byte("correct horse")))(t)
	if back := must(DecryptKey(box, []byte("correct horse")))(t); back.Public() != k.Public() {
		t.Error("the key comes back as another")
	}
	if !Encrypted(box) || Encrypted(k.Bytes()) || bytes.Contains(box, k.Bytes()[30:60]) {
		t.Error("what is encrypted and what is not cannot be told")
	}
	if _, err := ParseKey(box); !errors.Is(err, ErrKey) {
		t.Errorf("without a passphrase: %v", err)
	}
	for _, wrong := range []string{"", "correct horse ", "Correct horse"} {
		if _, err := DecryptKey(box, []byte(wrong)); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if _, err := k.Encrypt(nil); !errors.Is(err, ErrPassphrase) {
		t.Errorf("an empty passphrase: %v", err)
	}
	block, _ := pem.Decode(box)
	block.Bytes[len(block.Bytes)/2] ^= 1
	for name, data := range map[string][]byte{
		"damaged": pem.EncodeToMemory(block), "plain": k.Bytes(), "two": append(bytes.Clone(box), box...), "garbage": []byte("garbage"),
		"empty box": pem.EncodeToMemory(&pem.Block{Type: pemEncrypted, Bytes: []byte("{}")}),
	} {
		if _, err := DecryptKey(data, []byte("correct horse")); !errors.Is(err, ErrPassphrase) && !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The keys of RFC 8410, section 10: what other tools write, we read.
const (
	rfcPrivate = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n"
	rfcPublic  = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"
)

func TestPublicPEM(t *testing.T) {
	k := must(ParseKey([]byte(rfcPrivate)))(t)
	if p := must(ParsePublicPEM([]byte(rfcPublic)))(t); p != k.Public() {
		t.Error("another key")
	}
	for _, bad := range []string{"", rfcPrivate, strings.Replace(rfcPublic, "MCow", "MCox", 1), rfcPublic[:60]} {
		if _, err := ParsePublicPEM([]byte(bad)); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// device is a signer whose answer a test decides.
type device struct {
	Key
	answer func(message []byte) ([]byte, error)
}

func (d device) Sign(message []byte) ([]byte, error) { return d.answer(message) }

var errDevice = errors.New("the device is locked")

// Whatever a device answers that is not the signature which was asked for leaves the set as it was.
func TestDevice(t *testing.T) {
	v := newVendor(t)
	good, other := v.keys["stable"][0], v.newKey()
	v.bump("stable", 0)
	before := v.set.roles["stable"].bytes()
	for name, c := range map[string]struct {
		answer func([]byte) ([]byte, error)
		want   error
	}{
		"another key":     {func(m []byte) ([]byte, error) { return other.Sign(m) }, ErrSigner},
		"another message": {func(m []byte) ([]byte, error) { return good.Sign(m[1:]) }, ErrSigner},
		"too long":        {func(m []byte) ([]byte, error) { return append(ed25519.Sign(good.key, m), 0), nil }, ErrSigner},
		"nothing":         {func(m []byte) ([]byte, error) { return nil, nil }, ErrSigner},
		"an error":        {func(m []byte) ([]byte, error) { return nil, errDevice }, errDevice},
	} {
		if err := v.set.Sign("stable", device{good, c.answer}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if v.set.Missing()["stable"] != 1 || !bytes.Equal(v.set.roles["stable"].bytes(), before) {
			t.Errorf("%s: the set has changed", name)
		}
	}
	if err := v.set.Sign("stable", device{good, good.Sign}); err != nil || v.set.Missing()["stable"] != 0 {
		t.Errorf("the twin: %v", err)
	}
	v.publish()
	refresh(t, v.host(), v.folder())
}

// An artifact key in a device makes the same signature files as minisign's own.
func TestDeviceArtifactKey(t *testing.T) {
	secret, stranger := must(NewKey())(t), must(NewKey())(t)
	public := ArtifactPublic(secret.Public())
	if p := must(ParseArtifactPublic(public))(t); p != secret.Public() {
		t.Error("the public key comes back as another")
	}
	k := must(DeviceArtifactKey(public, secret))(t)
	data := []byte("an artifact\n")
	a := Artifact{OS: "linux", Arch: "amd64", Name: "demo", SizeBytes: int64(len(data)), SHA256: digestOf(data)}
	a.Minisig = must(SignArtifact(k, "demo", "1.1.0", a, bytes.NewReader(data)))(t)
	trust := Trust{Schema, "demo", []string{k.Public()}}
	if err := trust.VerifyArtifact("demo", "1.1.0", a, bytes.NewReader(data)); err != nil {
		t.Error(err)
	}
	if id := must(ArtifactID(a.Minisig))(t); id != k.ID() || id != must(ArtifactID(public))(t) {
		t.Errorf("signed by %s, the key is %s", id, k.ID())
	}
	minisignAccepts(t, a.Minisig, public, data)
	wrong := must(DeviceArtifactKey(public, stranger))(t)
	wrong.device = device{secret, stranger.Sign}
	if _, err := SignArtifact(wrong, "demo", "1.1.0", a, bytes.NewReader(data)); !errors.Is(err, ErrSigner) {
		t.Errorf("a device with another key: %v", err)
	}
}

func minisignAccepts(t *testing.T, signature, public string, data []byte) {
	t.Helper()
	program, err := exec.LookPath("minisign")
	if err != nil {
		return // TestMinisignProgram says that it is not there
	}
	file := filepath.Join(t.TempDir(), "demo")
	for name, text := range map[string]string{file: string(data), file + ".minisig": signature} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(program, "-V", "-m", file, "-P", public).CombinedOutput(); err != nil {
		t.Errorf("minisign: %s", out)
	}
}

// A root goes to two people as one file, and each adds a signature without having anything else.
func TestFileTravels(t *testing.T) {
	v := newVendor(t)
	c := v.host()
	v.bump(RoleRoot, 0)
	file := v.set.file(RoleRoot, true).Data
	s := must(ReadStatement(file))(t)
	if s.Kind != RoleRoot || s.Version != 2 || len(s.Roles[RoleRoot].Keys) != 3 || s.Roles[RoleRoot].Threshold != 2 || len(s.SignedBy) != 0 {
		t.Errorf("it says %+v", s)
	}
	for i, want := range []int{1, 0} {
		file = must(SignFile(file, v.keys[RoleRoot][i]))(t)
		file = must(SignFile(file, v.keys[RoleRoot][i]))(t) // twice is once
		role, added, err := v.set.Merge(file)
		if err != nil || role != RoleRoot || len(added) != 1 || added[0] != v.keys[RoleRoot][i].Public() {
			t.Errorf("merged %s, %v: %v", role, added, err)
		}
		if n := v.set.Missing()[RoleRoot]; n != want {
			t.Errorf("%d signatures missing, want %d", n, want)
		}
	}
	if s := must(ReadStatement(file))(t); len(s.SignedBy) != 2 {
		t.Errorf("it says %+v", s)
	}
	v.publish()
	if view := refresh(t, c, v.folder()); view.RootVersion != 2 {
		t.Errorf("root %d", view.RootVersion)
	}
}

// A file that comes back changed, or signed by others, is not taken.
func TestMergeRefuses(t *testing.T) {
	v := newVendor(t)
	v.bump(RoleRoot, 0)
	v.bump("stable", 0)
	file := v.set.file(RoleRoot, true).Data
	good := must(SignFile(file, v.keys[RoleRoot][0]))(t)
	weaker := must(SignFile(bytes.Replace(file, []byte(`"threshold": 2`), []byte(`"threshold": 1`), 1), v.keys[RoleRoot][0]))(t)
	forged := bytes.Replace(good, []byte(`"sig": "`), []byte(`"sig": "00`), 1)
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"another threshold": {weaker, ErrMismatch},
		"a stranger":        {must(SignFile(file, v.newKey()))(t), ErrNotAKey},
		"another role's":    {must(SignFile(file, v.keys[RoleTimestamp][0]))(t), ErrNotAKey},
		"beta for stable":   {must(SignFile(v.set.file("stable", true).Data, v.keys["beta"][0]))(t), ErrNotAKey},
		"no signature":      {forged, ErrNotAKey},
		"garbage":           {[]byte("garbage"), ErrDocument},
		"nothing":           {[]byte("{}"), ErrDocument},
		"an old version":    {v.readFile("metadata/1.root.json"), ErrMismatch},
	} {
		if _, _, err := v.set.Merge(c.data); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if n := v.set.Missing(); n[RoleRoot] != 2 || n["stable"] != 1 {
			t.Fatalf("%s: missing %v", name, n)
		}
	}
	// Spaced otherwise it says the same.
	if _, added, err := v.set.Merge(bytes.ReplaceAll(good, []byte("\n"), []byte("\n\n"))); err != nil || len(added) != 1 {
		t.Errorf("the twin: %v, %v", added, err)
	}
}

func FuzzStatement(f *testing.F) {
	v := newVendorIn(f, f.TempDir())
	for _, file := range v.set.Files() {
		if strings.HasPrefix(file.Name, "metadata/") {
			f.Add(file.Data)
		}
	}
	f.Add([]byte(`{"signed":{"_type":"targets","delegations":{"roles":null,"keys":null}}}`))
	k := v.newKey()
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := ReadStatement(data); err != nil {
			if !errors.Is(err, ErrVerify) {
				t.Errorf("not a refusal: %v", err)
			}
			return
		}
		signed, err := SignFile(data, k)
		if err != nil {
			return
		}
		if s, err := ReadStatement(signed); err != nil || s.SignedBy[len(s.SignedBy)-1] != k.ID() {
			t.Errorf("what was signed does not come back: %v", err)
		}
	})
}
