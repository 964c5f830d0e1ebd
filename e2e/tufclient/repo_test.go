package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// repo is a TUF repository written down by hand from the specification, with no help of the library that the
// client stands on. Its fields are the truth; publish signs what they say under the next version.
type repo struct {
	t         *testing.T
	keys      map[string][]key // that a role must be signed by
	signers   map[string][]key // that do sign it; keys if there are none
	threshold map[string]int
	version   map[string]int
	expires   map[string]time.Time
	targets   map[string]map[string]string // role, path, content
	channels  []string                     // roles that targets delegates to, each for its own folder
	shared    map[string]key               // channels that delegate their folder to the role shared, each by a key

	mu    sync.Mutex
	files map[string][]byte
	asked []string

	seen     func() // the client refreshes
	fakeTime string // FAKETIME of the refresh after it, "" for none
}

type key struct {
	secret ed25519.PrivateKey
	public map[string]any
	id     string
}

func newKey(t *testing.T) key {
	t.Helper()
	pub, secret, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	k := map[string]any{"keytype": "ed25519", "scheme": "ed25519", "keyval": map[string]any{"public": hex.EncodeToString(pub)}}
	return key{secret, k, digest(canonical(k))}
}

// canonical is the form that TUF signs. encoding/json gives it for what these tests write: keys are sorted, numbers
// are whole, and no text has a character that either of the two escapes.
func canonical(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

var topLevel = []string{"root", "targets", "snapshot", "timestamp"}

// newRepo publishes version 1 of everything: root by 2 of 3 keys, one target, and one in the folder of a channel.
func newRepo(t *testing.T) *repo {
	r := &repo{
		t: t, keys: map[string][]key{}, signers: map[string][]key{}, threshold: map[string]int{}, version: map[string]int{},
		expires: map[string]time.Time{}, files: map[string][]byte{}, channels: []string{"stable"},
		targets: map[string]map[string]string{"targets": {"hello.txt": "hello"}, "stable": {"stable/app": "one"}},
	}
	for _, role := range append(slices.Clone(topLevel), "stable") {
		r.keys[role] = []key{newKey(t)}
		r.threshold[role] = 1
	}
	r.keys["root"] = []key{newKey(t), newKey(t), newKey(t)}
	r.threshold["root"] = 2
	r.publish("root", "stable", "targets", "snapshot", "timestamp")
	return r
}

// publish signs these roles anew, in this order.
func (r *repo) publish(roles ...string) {
	for _, role := range roles {
		r.version[role]++
		r.put(role, r.sign(role, r.signed(role)))
	}
}

// put serves a file as the metadata of a role at its present version.
func (r *repo) put(role string, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if role == "timestamp" {
		r.files["/metadata/timestamp.json"] = data
		return
	}
	r.files[fmt.Sprintf("/metadata/%d.%s.json", r.version[role], role)] = data
}

func (r *repo) signed(role string) map[string]any {
	expires, ok := r.expires[role]
	if !ok {
		expires = time.Now().AddDate(0, 0, 30)
	}
	s := map[string]any{
		"_type": role, "spec_version": "1.0.31", "version": r.version[role],
		"expires": expires.UTC().Format("2006-01-02T15:04:05Z"),
	}
	switch role {
	case "root":
		s["consistent_snapshot"] = true
		keys, roles := map[string]any{}, map[string]any{}
		for _, name := range topLevel {
			roles[name] = map[string]any{"keyids": ids(r.keys[name], keys), "threshold": r.threshold[name]}
		}
		s["keys"], s["roles"] = keys, roles
	case "timestamp":
		s["meta"] = map[string]any{"snapshot.json": map[string]any{"version": r.version["snapshot"]}}
	case "snapshot":
		meta := map[string]any{}
		for _, name := range append([]string{"targets", "shared"}, r.channels...) {
			if r.version[name] == 0 && name == "shared" {
				continue
			}
			meta[name+".json"] = map[string]any{"version": r.version[name]}
		}
		s["meta"] = meta
	default:
		s["_type"] = "targets"
		s["targets"] = r.listed(role)
		keys, roles := map[string]any{}, []any{}
		delegate := func(name, folder string, threshold int, by ...key) {
			roles = append(roles, map[string]any{
				"name": name, "keyids": ids(by, keys), "threshold": threshold, "terminating": true, "paths": []string{folder + "/*"},
			})
		}
		if role == "targets" {
			for _, name := range r.channels {
				delegate(name, name, r.threshold[name], r.keys[name]...)
			}
		}
		if k, ok := r.shared[role]; ok {
			delegate("shared", role, 1, k)
		}
		if len(roles) > 0 {
			s["delegations"] = map[string]any{"keys": keys, "roles": roles}
		}
	}
	return s
}

// ids adds keys to all and returns their names.
func ids(keys []key, all map[string]any) []string {
	var list []string
	for _, k := range keys {
		all[k.id] = k.public
		list = append(list, k.id)
	}
	return list
}

// listed describes a role's targets, and serves them.
func (r *repo) listed(role string) map[string]any {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := map[string]any{}
	for path, content := range r.targets[role] {
		sum := digest([]byte(content))
		list[path] = map[string]any{"length": len(content), "hashes": map[string]any{"sha256": sum}}
		dir, base := "", path
		if i := strings.LastIndex(path, "/"); i >= 0 {
			dir, base = path[:i+1], path[i+1:]
		}
		r.files["/targets/"+dir+sum+"."+base] = []byte(content)
	}
	return list
}

func (r *repo) sign(role string, signed map[string]any) []byte {
	signers := r.signers[role]
	if signers == nil {
		signers = r.keys[role]
	}
	var sigs []any
	for _, k := range signers {
		sigs = append(sigs, map[string]any{"keyid": k.id, "sig": hex.EncodeToString(ed25519.Sign(k.secret, canonical(signed)))})
	}
	return canonical(map[string]any{"signed": signed, "signatures": sigs})
}

// take returns what is served under these names, for a replay by give.
func (r *repo) take() map[string][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.files)
}

func (r *repo) give(files map[string][]byte, names ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		r.files[name] = files[name]
	}
}

// requests returns what was asked for since the last call.
func (r *repo) requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.asked
	r.asked = nil
	return list
}

func (r *repo) serve() *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.mu.Lock()
		data, ok := r.files[q.URL.Path]
		r.asked = append(r.asked, q.URL.Path)
		r.mu.Unlock()
		if !ok {
			http.NotFound(w, q)
			return
		}
		_, _ = w.Write(data) // the client judges what it got
	}))
	r.t.Cleanup(s.Close)
	return s
}
