package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// revoke puts another key in the place of the timestamp's.
func revoke(f *forger) {
	k := f.newKey("timestamp", "revoked")
	f.edit("root", func(m object) {
		m["keys"].(object)[keyID(k)] = tufKey(k)
		m["roles"].(object)["timestamp"].(object)["keyids"] = []string{keyID(k)}
	})
	f.edit("timestamp", asItWas)
}

// signed publishes a role signed by other keys than its own.
func signed(role string, evil, twin []string) pair {
	return by(func(f *forger, keys []string) {
		f.by[role] = keys
		f.edit(role, asItWas)
	}, evil, twin)
}

// edited publishes what change makes of a role.
func edited[T any](role string, change func(object, T), evil, twin T) pair {
	return by(func(f *forger, x T) { f.edit(role, func(signed object) { change(signed, x) }) }, evil, twin)
}

// states publishes the channel document again, signed a second later, and says something else under one key.
func states(key string) func(*forger, string) {
	return func(f *forger, value string) {
		f.document("stable", "stable/channel.json", func(text string) string {
			at, err := time.Parse(`"`+time.RFC3339+`"`, said(text, "signed_at"))
			f.do(err)
			later := at.Add(time.Second).Format(`"` + time.RFC3339 + `"`)
			text = strings.Replace(text, said(text, "signed_at"), later, 1)
			return strings.Replace(text, `"`+key+`": `+said(text, key), `"`+key+`": `+value, 1)
		})
	}
}

// said is the value of a key in a document, as it is written.
func said(text, key string) string {
	_, rest, _ := strings.Cut(text, `"`+key+`": `)
	value, _, _ := strings.Cut(rest, ",\n")
	return value
}

// lose takes the file of a role away, the newest or one that is so many versions older.
func lose(f *forger, role string, back int64) {
	v, _ := f.newest(role)
	f.do(os.Remove(f.metadata(role, v-back)))
}

// keep copies the timestamp to another name.
func keep(f *forger, name string) { supplant(f, name, "timestamp.json") }

func supplant(f *forger, name, by string) {
	data, err := os.ReadFile(filepath.Join(f.dir, "metadata", by))
	f.do(err)
	f.do(os.WriteFile(filepath.Join(f.dir, "metadata", name), data, 0o644))
}

// older has the newest file of a role hold what one before it held.
func older(f *forger, role string, back int64) {
	v, _ := f.newest(role)
	supplant(f, filepath.Base(f.metadata(role, v)), filepath.Base(f.metadata(role, v-back)))
}

// grow appends to the newest file of a role.
func grow(f *forger, role string, more int) {
	v, _ := f.newest(role)
	f.change(f.metadata(role, v), func(data []byte) []byte { return append(data, make([]byte, more)...) })
}

// pad makes the timestamp as long as that, by spaces, which are not signed.
func pad(f *forger, sizeBytes int) {
	f.change(f.metadata("timestamp", 0), func(data []byte) []byte {
		return append(data, bytes.Repeat([]byte(" "), sizeBytes-len(data))...)
	})
}

// before publishes a timestamp with something in front of it.
func before(f *forger, text string) {
	f.edit("timestamp", asItWas)
	f.change(f.metadata("timestamp", 0), func(data []byte) []byte { return append([]byte(text), data...) })
}

// change writes a file again.
func (f *forger) change(name string, change func([]byte) []byte) {
	f.t.Helper()
	data, err := os.ReadFile(name)
	f.do(err)
	f.do(os.WriteFile(name, change(data), 0o644))
}

// flip writes the share in the channel document that is published.
func flip(f *forger, text string) {
	_, signed := f.newest("stable")
	digest := signed["targets"].(object)["stable/channel.json"].(object)["hashes"].(object)["sha256"].(string)
	f.change(filepath.Join(f.dir, "targets", "stable", digest+".channel.json"), func(data []byte) []byte {
		return bytes.Replace(data, []byte("10000"), []byte(text), 1)
	})
}

func signs(m object, path string) { digested(m, path, "sha256") }

func digests(m object, kinds []string) { digested(m, "stable/launcher", kinds...) }

func digested(m object, path string, kinds ...string) {
	lengths := map[string]int{"sha256": 32, "sha512": 64}
	hashes := object{}
	for _, k := range kinds {
		hashes[k] = strings.Repeat("00", lengths[k])
	}
	m["targets"].(object)[path] = object{"length": 1, "hashes": hashes}
}

// nested is a list in a list in a list.
func nested(depth int) any {
	list := []any{}
	for range depth {
		list = []any{list}
	}
	return list
}

// alsoDelegated appends a role of that name.
func alsoDelegated(m object, name string) {
	d := m["delegations"].(object)
	roles := d["roles"].([]any)
	d["roles"] = append(roles, channelLike(roles[0].(object), name))
}

// manyChannels fills the list up to n.
func manyChannels(m object, n int) {
	d := m["delegations"].(object)
	roles := d["roles"].([]any)
	for i := len(roles); i < n; i++ {
		roles = append(roles, channelLike(roles[0].(object), fmt.Sprintf("channel-%d", i)))
	}
	d["roles"] = roles
}

func channelLike(role object, name string) object {
	r := maps.Clone(role)
	r["name"], r["paths"] = name, []string{name + "/*"}
	return r
}
