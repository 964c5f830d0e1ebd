package manifest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"aead.dev/minisign"
)

// ArtifactKey is the secret minisign key with which a vendor signs artifacts. It is independent of the
// TUF keys: whoever holds only one of the two sorts cannot make a host run anything.
type ArtifactKey struct{ key minisign.PrivateKey }

// NewArtifactKey makes a key from the system's random numbers.
func NewArtifactKey() (ArtifactKey, error) {
	_, key, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		return ArtifactKey{}, fmt.Errorf("make artifact key: %w", err)
	}
	return ArtifactKey{key}, nil
}

// ParseArtifactKey reads a minisign secret key file. The password is needed for a file that minisign -G
// protected with one, and ignored otherwise; opening such a file takes about 1 GiB of memory.
func ParseArtifactKey(data []byte, password string) (ArtifactKey, error) {
	if minisign.IsEncrypted(data) {
		key, err := minisign.DecryptKey(password, data)
		if err != nil {
			return ArtifactKey{}, fmt.Errorf("parse artifact key: wrong password or damaged file: %w", err)
		}
		return ArtifactKey{key}, nil
	}
	var key minisign.PrivateKey
	if err := key.UnmarshalText(data); err != nil {
		return ArtifactKey{}, fmt.Errorf("parse artifact key: %w", err)
	}
	return ArtifactKey{key}, nil
}

// Bytes prints the key as a minisign secret key file without a password.
func (k ArtifactKey) Bytes() []byte {
	text, _ := k.key.MarshalText() // never fails
	return append(text, '\n')
}

// Encrypt prints the key as a minisign secret key file protected by a password.
func (k ArtifactKey) Encrypt(password string) ([]byte, error) {
	text, err := minisign.EncryptKey(password, k.key)
	if err != nil {
		return nil, fmt.Errorf("encrypt artifact key: %w", err)
	}
	return append(text, '\n'), nil
}

// Public returns the public key as Trust.Minisign wants it.
func (k ArtifactKey) Public() string { return k.public().String() }

// PublicFile returns the public key as a file for minisign -p.
func (k ArtifactKey) PublicFile() []byte {
	text, _ := k.public().MarshalText() // never fails
	return append(text, '\n')
}

// ID returns the key number that minisign prints, 16 hex digits.
func (k ArtifactKey) ID() string { return fmt.Sprintf("%016X", k.key.ID()) }

func (k ArtifactKey) public() minisign.PublicKey { return k.key.Public().(minisign.PublicKey) }

// SignArtifact reads an artifact and returns its signature file, as minisign -S would with the trusted
// comment of TrustedComment. It returns ErrMismatch when the bytes are not those that a describes.
func SignArtifact(k ArtifactKey, product, version string, a Artifact, r io.Reader) (string, error) {
	signed := minisign.NewReader(r)
	if err := checkBytes(a, signed); err != nil {
		return "", fmt.Errorf("sign artifact %s: %w", a.Name, err)
	}
	untrusted := "signature of " + product + " " + version + " for " + a.OS + "/" + a.Arch
	return string(signed.SignWithComments(k.key, TrustedComment(product, version, a), untrusted)), nil
}

// TrustedComment returns the comment that a signature of the artifact carries. It binds the bytes to
// what they are: a valid signature of another version, platform or product does not open this one.
func TrustedComment(product, version string, a Artifact) string {
	return fmt.Sprintf("turnstone product=%s version=%s os=%s arch=%s sha256=%s", product, version, a.OS, a.Arch, a.SHA256)
}

// VerifyArtifact reads r to its end and reports whether it is the artifact that a describes, signed by a
// key of the trust document with the trusted comment of exactly this artifact. It returns ErrMismatch,
// ErrSignature or ErrComment, or the reader's own error.
func (t Trust) VerifyArtifact(product, version string, a Artifact, r io.Reader) error {
	if err := t.verifyArtifact(product, version, a, r); err != nil {
		return fmt.Errorf("verify artifact %s of %s %s: %w", a.Name, product, version, err)
	}
	return nil
}

func (t Trust) verifyArtifact(product, version string, a Artifact, r io.Reader) error {
	if product != t.Product {
		return fmt.Errorf("%w: %s, trusted is %s", ErrWrongProduct, product, t.Product)
	}
	s, err := parseSignature(a.Minisig)
	if err != nil {
		return err
	}
	key, err := t.key(s.KeyID)
	if err != nil {
		return err
	}
	signed := minisign.NewReader(r)
	if err := checkBytes(a, signed); err != nil {
		return err
	}
	if !signed.Verify(key, []byte(a.Minisig)) {
		return fmt.Errorf("%w: minisign key %016X did not sign these bytes", ErrSignature, s.KeyID)
	}
	if want := TrustedComment(product, version, a); s.TrustedComment != want {
		return fmt.Errorf("%w: it says %q, expected %q", ErrComment, s.TrustedComment, want)
	}
	return nil
}

// key finds the trusted key of a signature. The number is only a hint; the signature decides.
func (t Trust) key(id uint64) (minisign.PublicKey, error) {
	for _, text := range t.Minisign {
		key, err := parseArtifactPublicKey(text)
		if err != nil {
			return minisign.PublicKey{}, err
		}
		if key.ID() == id {
			return key, nil
		}
	}
	return minisign.PublicKey{}, fmt.Errorf("%w: minisign key %016X is not trusted", ErrSignature, id)
}

// checkBytes reads r to its end, but no further than one byte past the signed length.
func checkBytes(a Artifact, r io.Reader) error {
	hash := sha256.New()
	n, err := io.Copy(hash, io.LimitReader(r, a.SizeBytes+1))
	if err != nil {
		return err
	}
	if n != a.SizeBytes {
		return fmt.Errorf("%w: it does not have the signed %d bytes", ErrMismatch, a.SizeBytes)
	}
	if digest := hex.EncodeToString(hash.Sum(nil)); digest != a.SHA256 {
		return fmt.Errorf("%w: sha256 is %s, signed is %s", ErrMismatch, digest, a.SHA256)
	}
	return nil
}

// parseSignature reads a signature file in the one spelling that minisign writes: the library forgives
// line ends inside the base64, and two spellings of one signature are one too many. Only the prehashed
// form is accepted, since the other needs the whole artifact in memory.
func parseSignature(text string) (minisign.Signature, error) {
	var s minisign.Signature
	if len(text) > maxMinisigBytes {
		return s, fmt.Errorf("%w: minisign signature of %d bytes", ErrDocument, len(text))
	}
	if err := s.UnmarshalText([]byte(text)); err != nil {
		return s, fmt.Errorf("%w: %v", ErrDocument, err)
	}
	if s.String() != text {
		return s, fmt.Errorf("%w: minisign signature not in canonical form", ErrDocument)
	}
	if s.Algorithm != minisign.HashEdDSA {
		return s, fmt.Errorf("%w: minisign signature is not prehashed; sign with minisign -S -H", ErrDocument)
	}
	return s, checkText("minisign comment", s.TrustedComment+s.UntrustedComment)
}

func parseArtifactPublicKey(text string) (minisign.PublicKey, error) {
	var key minisign.PublicKey
	if strings.ContainsAny(text, "\r\n") {
		return key, fmt.Errorf("%w: public key must be one line", ErrDocument)
	}
	if err := key.UnmarshalText([]byte(text)); err != nil {
		return key, fmt.Errorf("%w: %v", ErrDocument, err)
	}
	if key.String() != text {
		return key, fmt.Errorf("%w: public key not in canonical form", ErrDocument)
	}
	return key, nil
}
