package manifest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

func TestKey(t *testing.T) {
	k := must(NewKey())(t)
	back := must(ParseKey(k.Bytes()))(t)
	if back.Public() != k.Public() || back.ID() != k.ID() || !back.key.Equal(k.key) {
		t.Error("the key comes back as another")
	}
	public := must(ParsePublicKey(k.Public().String()))(t)
	if public != k.Public() || public.ID() != k.ID() || len(public.ID()) != 64 {
		t.Error("the public key comes back as another")
	}
	block, _ := pem.Decode(k.Bytes())
	for name, data := range map[string]string{
		"empty":       "",
		"garbage":     "garbage",
		"two":         string(k.Bytes()) + string(k.Bytes()),
		"header":      strings.Replace(string(k.Bytes()), "KEY-----\n", "KEY-----\nA: b\n\n", 1),
		"before":      "text\n" + string(k.Bytes()),
		"other type":  string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: block.Bytes})),
		"other bytes": string(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: block.Bytes[1:]})),
	} {
		if _, err := ParseKey([]byte(data)); !errors.Is(err, ErrKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "00", strings.ToUpper(k.Public().String()), k.Public().String() + "0"} {
		if _, err := ParsePublicKey(text); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzKey(f *testing.F) {
	k, err := NewKey()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(k.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		if k, err := ParseKey(data); err == nil {
			same(t, data, k.Bytes())
		}
	})
}

func FuzzPublicKey(f *testing.F) {
	f.Add(strings.Repeat("0a", 32))
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := ParsePublicKey(text); err == nil {
			same(t, []byte(text), []byte(k.String()))
		}
	})
}

var errTooLong = errors.New("too long")

// memory is a Source of a few files.
type memory map[string][]byte

func (m memory) Get(_ context.Context, name string, maxBytes int64) ([]byte, error) {
	data, ok := m[name]
	if !ok {
		return nil, notThere(name)
	}
	if int64(len(data)) > maxBytes {
		return nil, errTooLong
	}
	return bytes.Clone(data), nil
}

// FuzzRefresh feeds a client with metadata that nobody signed in this form. Whatever it is, the client
// neither panics nor is taken in: only what the vendor published is accepted, perhaps spaced otherwise.
func FuzzRefresh(f *testing.F) {
	v := newVendorIn(f, f.TempDir())
	root := v.readFile("metadata/1.root.json")
	names := []string{"metadata/2.root.json", timestampName, "metadata/1.snapshot.json", "metadata/1.targets.json", "metadata/1.stable.json"}
	tree := memory{}
	for _, file := range v.set.Files() {
		tree[file.Name] = file.Data
	}
	for i, name := range names {
		if data, ok := tree[name]; ok {
			f.Add(i, data)
		}
	}
	f.Add(0, root)
	f.Add(1, []byte(`{"signed":{"_type":"timestamp","meta":{}},"signatures":null}`))
	f.Fuzz(func(t *testing.T, which int, data []byte) {
		if which < 0 || which >= len(names) {
			return
		}
		src := memory{}
		for name, b := range tree {
			src[name] = b
		}
		src[names[which]] = data
		c, err := Open(durabletest.New(), "trust", root, here)
		if err != nil {
			t.Fatal(err)
		}
		view, err := c.Refresh(t.Context(), src)
		switch {
		case err != nil && !errors.Is(err, ErrVerify) && !errors.Is(err, errTooLong):
			t.Errorf("not a refusal: %v", err)
		case err == nil && (view.RootVersion != 1 || view.TimestampVersion != 1 || view.Channel.Offers[0].Version != "1.0.0"):
			t.Errorf("taken in: %+v", view)
		}
	})
}

// FuzzPublicPEM: what a key service prints is one key or none, and comes back as the same.
func FuzzPublicPEM(f *testing.F) {
	f.Add([]byte(rfcPublic))
	f.Add([]byte("text in front\n" + rfcPublic))
	f.Add([]byte(rfcPrivate))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePublicPEM(data)
		if err != nil {
			if !errors.Is(err, ErrKey) {
				t.Errorf("not the key's fault: %v", err)
			}
			return
		}
		der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(p.bytes[:]))
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParsePublicPEM(pem.EncodeToMemory(&pem.Block{Type: pemPublicType, Bytes: der})); err != nil || back != p {
			t.Errorf("%s comes back as %s, %v", p, back, err)
		}
	})
}
