package manifest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// ErrKey is a key file or key text that cannot be read.
var ErrKey = errors.New("not an ed25519 key")

const pemType = "PRIVATE KEY"

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

func (k Key) signer() (signature.Signer, error) { return signature.LoadED25519Signer(k.key) }

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
