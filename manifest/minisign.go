package manifest

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"aead.dev/minisign"
)

// ArtifactKey is the secret minisign key with which a vendor signs artifacts. It is independent of the
// TUF keys: whoever holds only one of the two sorts cannot make a host run anything.
type ArtifactKey struct {
	key    minisign.PrivateKey
	public minisign.PublicKey
	device Signer // in place of key, if the secret is elsewhere
}

func newArtifactKey(key minisign.PrivateKey) ArtifactKey {
	return ArtifactKey{key: key, public: key.Public().(minisign.PublicKey)}
}

// DeviceArtifactKey is an artifact key whose secret half is behind a signer. Public is what Public returns for it.
func DeviceArtifactKey(public string, device Signer) (ArtifactKey, error) {
	key, err := parseArtifactPublicKey(public)
	if err != nil {
		return ArtifactKey{}, fmt.Errorf("artifact key: %w", err)
	}
	return ArtifactKey{public: key, device: device}, nil
}

// ArtifactPublic makes the minisign form of a public key. Its key number, which minisign draws at random, is the
// beginning of the key's digest.
func ArtifactPublic(p PublicKey) string {
	digest := sha256.Sum256(p.bytes[:])
	text := binary.LittleEndian.AppendUint16(nil, minisign.EdDSA)
	text = append(text, digest[:8]...)
	return base64.StdEncoding.EncodeToString(append(text, p.bytes[:]...))
}

// ParseArtifactPublic returns the ed25519 key in a minisign public key. It returns ErrDocument.
func ParseArtifactPublic(text string) (PublicKey, error) {
	var p PublicKey
	if _, err := parseArtifactPublicKey(text); err != nil {
		return p, err
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return p, fmt.Errorf("%w: %v", ErrDocument, err)
	}
	copy(p.bytes[:], b[len(b)-len(p.bytes):])
	return p, nil
}

// NewArtifactKey makes a key from the system's random numbers.
func NewArtifactKey() (ArtifactKey, error) {
	_, key, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		return ArtifactKey{}, fmt.Errorf("make artifact key: %w", err)
	}
	return newArtifactKey(key), nil
}

// ParseArtifactKey reads a minisign secret key file. The password is needed for a file that minisign -G
// protected with one (ErrPassphrase if it is another), and ignored otherwise; opening such a file takes about
// 1 GiB of memory.
func ParseArtifactKey(data []byte, password string) (ArtifactKey, error) {
	if minisign.IsEncrypted(data) {
		key, err := minisign.DecryptKey(password, data)
		if err != nil {
			return ArtifactKey{}, fmt.Errorf("parse artifact key: %w (%v)", ErrPassphrase, err)
		}
		return newArtifactKey(key), nil
	}
	var key minisign.PrivateKey
	if err := key.UnmarshalText(data); err != nil {
		return ArtifactKey{}, fmt.Errorf("parse artifact key: %w", err)
	}
	return newArtifactKey(key), nil
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
func (k ArtifactKey) Public() string { return k.public.String() }

// PublicFile returns the public key as a file for minisign -p.
func (k ArtifactKey) PublicFile() []byte {
	text, _ := k.public.MarshalText() // never fails
	return append(text, '\n')
}

// ID returns the key number that minisign prints, 16 hex digits.
func (k ArtifactKey) ID() string { return artifactID(k.public) }

// ArtifactID returns the key number of a minisign public key, or of the key that made a minisign signature file.
func ArtifactID(text string) (string, error) {
	if s, err := parseSignature(text); err == nil {
		return fmt.Sprintf("%016X", s.KeyID), nil
	}
	key, err := parseArtifactPublicKey(text)
	return artifactID(key), err
}

func artifactID(k minisign.PublicKey) string { return fmt.Sprintf("%016X", k.ID()) }

// SignArtifact reads an artifact and returns its signature file, as minisign -S would with the trusted
// comment of TrustedComment. It returns ErrMismatch when the bytes are not those that a describes.
func SignArtifact(k ArtifactKey, product, version string, a Artifact, r io.Reader) (string, error) {
	digest := crypto.BLAKE2b_512.New() // linked by minisign, which shows its own to nobody
	if k.device != nil {
		r = io.TeeReader(r, digest)
	}
	signed := minisign.NewReader(r)
	if err := checkBytes(a, signed); err != nil {
		return "", fmt.Errorf("sign artifact %s: %w", a.Name, err)
	}
	trusted, untrusted := TrustedComment(product, version, a), "signature of "+product+" "+version+" for "+a.OS+"/"+a.Arch
	if k.device == nil {
		return string(signed.SignWithComments(k.key, trusted, untrusted)), nil
	}
	s, err := k.ask(digest.Sum(nil), trusted)
	if err != nil {
		return "", fmt.Errorf("sign artifact %s: %w", a.Name, err)
	}
	s.UntrustedComment = untrusted
	if text := s.String(); signed.Verify(k.public, []byte(text)) {
		return text, nil
	}
	return "", fmt.Errorf("sign artifact %s: %w", a.Name, ErrSigner)
}

// ask has a device make the two signatures of a minisign file: over the BLAKE2b digest of the bytes, and over
// that signature and the comment.
func (k ArtifactKey) ask(digest []byte, comment string) (minisign.Signature, error) {
	s := minisign.Signature{Algorithm: minisign.HashEdDSA, KeyID: k.public.ID(), TrustedComment: comment}
	first, err := sign(k.device, digest)
	if err != nil {
		return s, err
	}
	copy(s.Signature[:], first)
	second, err := sign(k.device, append(first, comment...))
	copy(s.CommentSignature[:], second)
	return s, err
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
