package manifest

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"aead.dev/minisign"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Errors of key files and of signers.
var (
	// ErrKey is a key file or key text that cannot be read.
	ErrKey = errors.New("not an ed25519 key")
	// ErrPassphrase is an encrypted key file that a passphrase does not open.
	ErrPassphrase = errors.New("wrong passphrase, or the file is damaged")
	// ErrSigner is a signer whose answer is no signature of its key.
	ErrSigner = errors.New("the answer is no signature of this key")
)

const (
	pemType       = "PRIVATE KEY"
	pemPublicType = "PUBLIC KEY"
	// pemEncrypted is the key format of sigstore (cosign, and the cryptoutils package that comes with go-tuf):
	// PKCS #8 in a NaCl secretbox under a key that scrypt makes of the passphrase.
	pemEncrypted = string(cryptoutils.EncryptedSigstorePrivateKeyPEMType)
)

// Signer signs with a secret ed25519 key that need not be in this process. Sign returns the 64 bytes of
// RFC 8032 over the message; what it returns is verified before it is used.
type Signer interface {
	Public() PublicKey
	Sign(message []byte) ([]byte, error)
}

// Key is a secret ed25519 key that signs metadata.
type Key struct{ key ed25519.PrivateKey }

// PublicKey is the public half of a Key. Two are equal when == says so.
type PublicKey struct{ bytes [ed25519.PublicKeySize]byte }

// NewKey makes a key from the system's random numbers.
func NewKey() (Key, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("make key: %w", err)
	}
	return Key{key}, nil
}

// ParseKey reads what Bytes printed, and nothing else: one PEM block of a PKCS #8 ed25519 key, as openssl
// genpkey -algorithm ed25519 writes it. It returns ErrKey.
func ParseKey(data []byte) (Key, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != pemType || len(rest) > 0 {
		return Key{}, fmt.Errorf("parse key: %w: one PEM block %q expected", ErrKey, pemType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Key{}, fmt.Errorf("parse key: %w: %v", ErrKey, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return Key{}, fmt.Errorf("parse key: %w: it is a %T", ErrKey, parsed)
	}
	if k := (Key{key}); bytes.Equal(k.Bytes(), data) {
		return k, nil
	}
	return Key{}, fmt.Errorf("parse key: %w: not in the form that this program writes", ErrKey)
}

// Bytes prints the key as PEM.
func (k Key) Bytes() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(k.key)
	if err != nil {
		panic("manifest: internal error: " + err.Error()) // not reached for ed25519
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der})
}

// Public returns the public half.
func (k Key) Public() PublicKey {
	var p PublicKey
	copy(p.bytes[:], k.key.Public().(ed25519.PublicKey))
	return p
}

// ID returns the TUF key id: 64 hex digits.
func (k Key) ID() string { return k.Public().ID() }

// Sign signs a message.
func (k Key) Sign(message []byte) ([]byte, error) { return ed25519.Sign(k.key, message), nil }

// Encrypt prints the key as PEM that a passphrase protects.
func (k Key) Encrypt(passphrase []byte) ([]byte, error) {
	if len(passphrase) == 0 {
		return nil, fmt.Errorf("encrypt key: %w: it is empty", ErrPassphrase)
	}
	box, err := cryptoutils.MarshalPrivateKeyToEncryptedDER(k.key, cryptoutils.StaticPasswordFunc(passphrase))
	if err != nil {
		return nil, fmt.Errorf("encrypt key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemEncrypted, Bytes: box}), nil
}

// DecryptKey reads what Encrypt printed. It returns ErrPassphrase and ErrKey.
func DecryptKey(data, passphrase []byte) (Key, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != pemEncrypted || len(rest) > 0 {
		return Key{}, fmt.Errorf("decrypt key: %w: one PEM block %q expected", ErrKey, pemEncrypted)
	}
	parsed, err := cryptoutils.UnmarshalPEMToPrivateKey(data, cryptoutils.StaticPasswordFunc(passphrase))
	if err != nil {
		return Key{}, fmt.Errorf("decrypt key: %w (%v)", ErrPassphrase, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return Key{}, fmt.Errorf("decrypt key: %w: it is a %T", ErrKey, parsed)
	}
	return Key{key}, nil
}

// Encrypted reports whether a key file, of either sort, needs a passphrase.
func Encrypted(data []byte) bool {
	block, _ := pem.Decode(data)
	return block != nil && block.Type == pemEncrypted || minisign.IsEncrypted(data)
}

// sign asks a signer and believes nothing: a device that holds another key, or a command that prints an
// error where the signature should be, must not spoil what is about to be published.
func sign(k Signer, message []byte) ([]byte, error) {
	signed, err := k.Sign(message)
	if err != nil {
		return nil, err
	}
	public := k.Public()
	if !ed25519.Verify(public.bytes[:], message, signed) {
		return nil, fmt.Errorf("%w: %s", ErrSigner, public)
	}
	return signed, nil
}

// tufSigner is a Signer as go-tuf wants it. go-tuf drops the error, so it is kept here.
type tufSigner struct {
	signer Signer
	err    error
}

func (t *tufSigner) SignMessage(message io.Reader, _ ...signature.SignOption) ([]byte, error) {
	data, err := io.ReadAll(message)
	if err != nil {
		return nil, err
	}
	signed, err := sign(t.signer, data)
	t.err = err
	return signed, err
}

func (t *tufSigner) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	public := t.signer.Public()
	return ed25519.PublicKey(public.bytes[:]), nil
}

// ParsePublicKey reads what String printed. It returns ErrKey.
func ParsePublicKey(text string) (PublicKey, error) {
	var p PublicKey
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(p.bytes) {
		return p, fmt.Errorf("parse public key: %w: %d hex digits expected", ErrKey, 2*len(p.bytes))
	}
	copy(p.bytes[:], b)
	if p.String() != text {
		return PublicKey{}, fmt.Errorf("parse public key: %w: lower-case hex digits expected", ErrKey)
	}
	return p, nil
}

// ParsePublicPEM reads an ed25519 public key as openssl pkey -pubout and the consoles of key services print
// it. It returns ErrKey.
func ParsePublicPEM(data []byte) (PublicKey, error) {
	var p PublicKey
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemPublicType {
		return p, fmt.Errorf("parse public key: %w: a PEM block %q expected", ErrKey, pemPublicType)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return p, fmt.Errorf("parse public key: %w: %v", ErrKey, err)
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return p, fmt.Errorf("parse public key: %w: it is a %T", ErrKey, parsed)
	}
	copy(p.bytes[:], key)
	return p, nil
}

// String prints the key as 64 hex digits.
func (p PublicKey) String() string { return hex.EncodeToString(p.bytes[:]) }

// ID returns the TUF key id: 64 hex digits.
func (p PublicKey) ID() string {
	id, err := p.tuf().ID()
	if err != nil {
		panic("manifest: internal error: " + err.Error()) // canonical JSON of three strings
	}
	return id
}

func (p PublicKey) tuf() *metadata.Key {
	key, err := metadata.KeyFromPublicKey(ed25519.PublicKey(p.bytes[:]))
	if err != nil {
		panic("manifest: internal error: " + err.Error()) // not reached for ed25519
	}
	return key
}
