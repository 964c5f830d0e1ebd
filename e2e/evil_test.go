package e2e

import (
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

// hideRoot takes the newest root away.
func hideRoot(f *forger) { lose(f, "root") }

func lose(f *forger, role string) {
	v, _ := f.newest(role)
	f.do(os.Remove(f.metadata(role, v)))
}

func keepOld(f *forger) { supplant(f, "old-timestamp", "timestamp.json") }

func supplant(f *forger, name, by string) {
	data, err := os.ReadFile(filepath.Join(f.dir, "metadata", by))
	f.do(err)
	f.do(os.WriteFile(filepath.Join(f.dir, "metadata", name), data, 0o644))
}

// older has the newest file of a role hold what the one before held.
func older(f *forger, role string) {
	v, _ := f.newest(role)
	supplant(f, filepath.Base(f.metadata(role, v)), filepath.Base(f.metadata(role, v-1)))
}

// grow appends to the newest file of a role.
func grow(f *forger, role string) {
	v, _ := f.newest(role)
	data, err := os.ReadFile(f.metadata(role, v))
	f.do(err)
	f.do(os.WriteFile(f.metadata(role, v), append(data, make([]byte, 1<<20)...), 0o644))
}

func renamed(old, new string) func(*forger) {
	return func(f *forger) {
		f.document("stable", "stable/channel.json", func(text string) string { return strings.Replace(text, old, new, 1) })
	}
}

// reoffered publishes the channel document again, signed a moment later.
func reoffered(f *forger) { signedAt(2 * time.Second)(f) }

func signedAt(ahead time.Duration) func(*forger) {
	return func(f *forger) {
		f.document("stable", "stable/channel.json", func(text string) string {
			before, rest, _ := strings.Cut(text, `"signed_at": "`)
			_, after, _ := strings.Cut(rest, `"`)
			return before + `"signed_at": "` + time.Now().Add(ahead).UTC().Format("2006-01-02T15:04:05Z") + `"` + after
		})
	}
}

// flip changes a byte of the channel document that is published.
func flip(f *forger) {
	_, signed := f.newest("stable")
	digest := signed["targets"].(object)["stable/channel.json"].(object)["hashes"].(object)["sha256"].(string)
	name := filepath.Join(f.dir, "targets", "stable", digest+".channel.json")
	data, err := os.ReadFile(name)
	f.do(err)
	f.do(os.WriteFile(name, []byte(strings.Replace(string(data), "10000", "10001", 1)), 0o644))
}

func signs(path string) func(object) { return digests(path, "sha256") }

func digests(path string, kinds ...string) func(object) {
	lengths := map[string]int{"sha256": 32, "sha512": 64}
	return func(signed object) {
		hashes := object{}
		for _, k := range kinds {
			hashes[k] = strings.Repeat("00", lengths[k])
		}
		signed["targets"].(object)[path] = object{"length": 1, "hashes": hashes}
	}
}

// manyChannels fills the list up to n.
func manyChannels(n int) func([]any) []any {
	return func(roles []any) []any {
		for i := len(roles); i < n; i++ {
			r := maps.Clone(roles[0].(object))
			r["name"] = fmt.Sprintf("channel-%d", i)
			r["paths"] = []string{fmt.Sprintf("channel-%d/*", i)}
			roles = append(roles, r)
		}
		return roles
	}
}
