package e2e

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

// forger is a copy of a published repository in the hands of somebody who has all keys and may sign anything:
// what the pipeline's own tool would never make. It writes metadata by itself, with no help of package manifest.
type forger struct {
	t    *testing.T
	home string // of all copies
	dir  string
	keys string
	by   map[string][]string // key files that sign a role, instead of its own
}

func forgery(t *testing.T, s *stage.Stage) *forger {
	t.Helper()
	f := &forger{t: t, home: t.TempDir(), keys: t.TempDir(), dir: s.Repo(), by: map[string][]string{}}
	f.do(os.CopyFS(f.keys, os.DirFS(filepath.Join(s.Home, "product", "keys"))))
	return f.copy()
}

// copy is the same repository once more, with the same keys.
func (f *forger) copy() *forger {
	f.t.Helper()
	c := *f
	var err error
	c.by = map[string][]string{}
	c.dir, err = os.MkdirTemp(f.home, "tree")
	f.do(err)
	f.do(os.CopyFS(c.dir, os.DirFS(f.dir)))
	return &c
}

func (f *forger) do(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

type object = map[string]any

// newest reads the newest metadata of a role.
func (f *forger) newest(role string) (version int64, signed object) {
	f.t.Helper()
	name := f.metadata(role, 0)
	files, err := filepath.Glob(filepath.Join(f.dir, "metadata", "*."+role+".json"))
	f.do(err)
	for _, file := range files {
		number, _, _ := strings.Cut(filepath.Base(file), ".")
		if n, err := strconv.ParseInt(number, 10, 64); err == nil && n > version {
			version, name = n, file
		}
	}
	data, err := os.ReadFile(name)
	f.do(err)
	var m struct{ Signed object }
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	f.do(dec.Decode(&m))
	version, err = m.Signed["version"].(json.Number).Int64()
	f.do(err)
	return version, m.Signed
}

func (f *forger) metadata(role string, version int64) string {
	if role == "timestamp" {
		return filepath.Join(f.dir, "metadata", "timestamp.json")
	}
	return filepath.Join(f.dir, "metadata", fmt.Sprintf("%d.%s.json", version, role))
}

// edit publishes the next version of a role, and of what is above it, with whatever change makes of it.
func (f *forger) edit(role string, change func(signed object)) *forger {
	f.t.Helper()
	version, signed := f.newest(role)
	version++
	signed["version"] = version
	change(signed)
	f.put(role, version, f.sign(role, signed))
	return f
}

// put publishes bytes as a role's metadata, and names them above.
func (f *forger) put(role string, version int64, data []byte) {
	f.t.Helper()
	f.do(os.WriteFile(f.metadata(role, version), data, 0o644))
	above := map[string]string{"root": "", "timestamp": "", "snapshot": "timestamp"}
	parent, top := above[role]
	if !top {
		parent = "snapshot"
	}
	if parent != "" {
		f.edit(parent, func(signed object) { signed["meta"].(object)[role+".json"] = listed(version, data) })
	}
}

func listed(version int64, data []byte) object {
	o := object{"length": len(data), "hashes": object{"sha256": sum(data)}}
	if version > 0 {
		o["version"] = version
	}
	return o
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// document publishes other bytes for a target of a role.
func (f *forger) document(role, path string, change func(text string) string) *forger {
	f.t.Helper()
	_, signed := f.newest(role)
	dir, base := filepath.Split(filepath.Join(f.dir, "targets", filepath.FromSlash(path)))
	old := signed["targets"].(object)[path].(object)["hashes"].(object)["sha256"].(string)
	text, err := os.ReadFile(dir + old + "." + base)
	f.do(err)
	data := []byte(change(string(text)))
	if bytes.Equal(data, text) {
		f.t.Fatalf("nothing was changed in %s", text)
	}
	f.do(os.WriteFile(dir+sum(data)+"."+base, data, 0o644))
	return f.edit(role, func(signed object) { signed["targets"].(object)[path] = listed(0, data) })
}

// sign makes a metadata file by the keys of its role.
func (f *forger) sign(role string, signed object) []byte {
	f.t.Helper()
	names := f.by[role]
	if names == nil {
		files, err := filepath.Glob(filepath.Join(f.keys, role+"*.key"))
		f.do(err)
		for _, file := range files {
			names = append(names, strings.TrimSuffix(filepath.Base(file), ".key"))
		}
	}
	var sigs []object
	for _, name := range names {
		k := f.key(name)
		sigs = append(sigs, object{"keyid": keyID(k), "sig": hex.EncodeToString(ed25519.Sign(k, canonical(f.t, signed)))})
	}
	return canonical(f.t, object{"signed": signed, "signatures": sigs})
}

func (f *forger) key(name string) ed25519.PrivateKey {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.keys, name+".key"))
	f.do(err)
	block, _ := pem.Decode(data)
	if block == nil {
		f.t.Fatalf("%s is no PEM file", name)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	f.do(err)
	return k.(ed25519.PrivateKey)
}

// newKey replaces the key of a role, and keeps the old one under another name.
func (f *forger) newKey(role, old string) ed25519.PrivateKey {
	f.t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	f.do(err)
	data, err := x509.MarshalPKCS8PrivateKey(k)
	f.do(err)
	f.do(os.Rename(filepath.Join(f.keys, role+".key"), filepath.Join(f.keys, old+".key")))
	f.do(os.WriteFile(filepath.Join(f.keys, role+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: data}), 0o600))
	return k
}

// tufKey and keyID are how the TUF specification writes a key (4.2.2) and names it.
func tufKey(k ed25519.PrivateKey) object {
	public := hex.EncodeToString(k.Public().(ed25519.PublicKey))
	return object{"keytype": "ed25519", "scheme": "ed25519", "keyval": object{"public": public}}
}

func keyID(k ed25519.PrivateKey) string {
	data, err := json.Marshal(tufKey(k))
	if err != nil {
		panic(err) // it has only strings
	}
	return sum(data)
}

// canonical is the form that is signed; encoding/json sorts keys, and no number here has a fraction.
func canonical(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Changes that edit takes.

func asItWas(object) {}

func ends(signed object, in time.Duration) {
	signed["expires"] = time.Now().Add(in).UTC().Format(time.RFC3339)
}
