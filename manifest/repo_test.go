package manifest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// vendor is a vendor with keys, a set and a published tree in a folder.
type vendor struct {
	t        testing.TB
	dir      string
	keys     map[string][]Key
	artifact ArtifactKey
	set      *Set
	seen     func() // the host refreshes
}

// newVendor publishes release 1.0.0 to the channel stable; beta is empty. Root is signed by 2 of 3.
func newVendor(t *testing.T) *vendor { return newVendorIn(t, t.TempDir()) }

func newVendorIn(t testing.TB, dir string) *vendor {
	v := &vendor{t: t, dir: dir, keys: map[string][]Key{}}
	for role, n := range map[string]int{RoleRoot: 3, RoleTargets: 1, RoleSnapshot: 1, RoleTimestamp: 1, "stable": 1, "beta": 1} {
		for range n {
			v.keys[role] = append(v.keys[role], v.newKey())
		}
	}
	v.artifact = must(NewArtifactKey())(t)
	p := Plan{Product: "demo", Roles: map[string]RoleKeys{}}
	for role, keys := range v.keys {
		p.Roles[role] = RoleKeys{Keys: publics(keys), Threshold: 1}
	}
	p.Roles[RoleRoot] = RoleKeys{Keys: publics(v.keys[RoleRoot]), Threshold: 2}
	v.set = must(NewSet(p, time.Now()))(t)
	v.put(RoleTargets, trustPath, Trust{Schema, "demo", []string{v.artifact.Public()}}.Bytes())
	v.put("beta", "beta/channel.json", v.channel("beta").Bytes())
	v.release("1.0.0", 1)
	v.offer(v.channel("stable", Offer{Version: "1.0.0", Epoch: 1, Share: AllHosts}))
	v.publish()
	return v
}

func must[T any](x T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
}

func publics(keys []Key) []PublicKey {
	var list []PublicKey
	for _, k := range keys {
		list = append(list, k.Public())
	}
	return list
}

func (v *vendor) newKey() Key { return must(NewKey())(v.t) }

func (v *vendor) channel(name string, offers ...Offer) Channel {
	return Channel{Schema: Schema, Product: "demo", Name: name, SignedAt: wholeSeconds(time.Now()), Offers: offers}
}

func (v *vendor) offer(c Channel) { v.put(c.Name, channelPath(c.Name), c.Bytes()) }

func (v *vendor) put(role, path string, data []byte) {
	v.t.Helper()
	if err := v.set.SetTarget(role, path, data); err != nil {
		v.t.Fatal(err)
	}
}

// force puts a document under a role as a careless or hostile tool would: without a look at it.
func (v *vendor) force(role, path string, data []byte) {
	v.set.change(role)
	f := metadataTarget(data)
	v.set.targetsOf(role)[path] = f
	v.set.documents[path] = data
	v.set.settle()
}

func program(version string) []byte { return []byte("program " + version) }

func (v *vendor) makeRelease(version string, epoch uint64) Release {
	data := program(version)
	a := Artifact{OS: "linux", Arch: "amd64", Name: "demo", SizeBytes: int64(len(data)), SHA256: digestOf(data)}
	a.Minisig = must(SignArtifact(v.artifact, "demo", version, a, bytes.NewReader(data)))(v.t)
	return Release{Schema, "demo", version, epoch, "notes", Protocol{1, 1}, []Artifact{a}}
}

func (v *vendor) release(version string, epoch uint64) {
	v.t.Helper()
	v.put("stable", releasePath("stable", version), v.makeRelease(version, epoch).Bytes())
}

// next releases a version and offers it to all hosts.
func (v *vendor) next(version string, epoch uint64) {
	v.release(version, epoch)
	v.offer(v.channel("stable", Offer{Version: version, Epoch: epoch, Share: AllHosts}))
}

func (v *vendor) sign() {
	v.t.Helper()
	for _, role := range v.set.Roles() {
		for _, k := range v.keys[role] {
			if err := v.set.Sign(role, k); err != nil {
				v.t.Fatal(err)
			}
		}
	}
	if missing := v.set.Missing(); len(missing) > 0 {
		v.t.Fatalf("signatures missing: %v", missing)
	}
}

func (v *vendor) publish() {
	v.t.Helper()
	v.sign()
	v.write()
}

func (v *vendor) write() {
	v.t.Helper()
	for _, f := range v.set.Files() {
		v.writeFile(f.Name, f.Data)
	}
	// What is published from here on are new versions.
	for _, r := range v.set.roles {
		r.published = *r.version
	}
}

func (v *vendor) writeFile(name string, data []byte) {
	v.t.Helper()
	path := filepath.Join(v.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		v.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		v.t.Fatal(err)
	}
}

func (v *vendor) readFile(name string) []byte {
	v.t.Helper()
	return must(os.ReadFile(filepath.Join(v.dir, filepath.FromSlash(name))))(v.t)
}

func (v *vendor) hide(name string) {
	v.t.Helper()
	if err := os.Remove(filepath.Join(v.dir, filepath.FromSlash(name))); err != nil {
		v.t.Fatal(err)
	}
}

func (v *vendor) folder() Source { return folder{durable.OS(), v.dir} }

// web serves the tree over HTTP.
func (v *vendor) web() Source {
	server := httptest.NewServer(http.FileServer(http.Dir(v.dir)))
	v.t.Cleanup(server.Close)
	return web{server.URL}
}

type web struct{ url string }

func (w web) Get(ctx context.Context, name string, maxBytes int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", w.url+"/"+name, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return nil, notThere(name)
	default:
		return nil, errors.New(res.Status)
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxBytes+1))
	if err == nil && int64(len(data)) > maxBytes {
		err = errors.New("too long")
	}
	return data, err
}

func notThere(name string) error { return &fs.PathError{Op: "get", Path: name, Err: fs.ErrNotExist} }

var here = Host{Product: "demo", Channel: "stable", OS: "linux", Arch: "amd64"}

// host is a client with its trust folder and the root that was published first.
func (v *vendor) host() *Client { return v.hostAt(v.t.TempDir(), here) }

func (v *vendor) hostAt(dir string, h Host) *Client {
	v.t.Helper()
	return must(Open(durable.OS(), dir, v.readFile("metadata/1.root.json"), h))(v.t)
}

func refresh(t *testing.T, c *Client, src Source) *View {
	t.Helper()
	return must(c.Refresh(t.Context(), src))(t)
}

// refused checks that err is the one refusal that is meant, and no other.
func refused(t *testing.T, err, want error) {
	t.Helper()
	if err == nil {
		t.Fatalf("accepted, want %v", want)
	}
	if !errors.Is(err, ErrVerify) {
		t.Errorf("not below ErrVerify: %v", err)
	}
	for name, sentinel := range sentinels {
		if is, should := errors.Is(err, sentinel), sentinel == want; is != should {
			t.Errorf("is %s: %v, want %v: %v", name, is, should, err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	t.Log(err)
}

var sentinels = map[string]error{
	"ErrDocument": ErrDocument, "ErrSignature": ErrSignature, "ErrExpired": ErrExpired, "ErrRollback": ErrRollback,
	"ErrMismatch": ErrMismatch, "ErrPath": ErrPath, "ErrHash": ErrHash, "ErrDelegation": ErrDelegation,
	"ErrRoots": ErrRoots, "ErrDamaged": ErrDamaged, "ErrClock": ErrClock, "ErrFloor": ErrFloor, "ErrDowngrade": ErrDowngrade, "ErrLeap": ErrLeap, "ErrWrongProduct": ErrWrongProduct,
	"ErrWrongChannel": ErrWrongChannel, "ErrWrongVersion": ErrWrongVersion, "ErrWrongPlatform": ErrWrongPlatform,
	"ErrComment": ErrComment,
}

func hexDigest(s string) []byte {
	b, _ := hex.DecodeString(s)
	return b
}
