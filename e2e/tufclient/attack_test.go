package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/manifest"
)

// attack is what a client that has seen version 1 of everything must refuse, with the twin that it must accept.
type attack struct {
	name string
	want error
	pair
}

// pair is one change of what is published, with the value that is attacked and with a legal one.
type pair struct{ evil, twin func(*repo) }

// by is the only maker of pairs, so that an attack and its twin differ in one value alone.
func by[T any](change func(*repo, T), evil, twin T) pair {
	return pair{func(r *repo) { change(r, evil) }, func(r *repo) { change(r, twin) }}
}

var attacks = []attack{
	{"timestamp rollback", manifest.ErrRollback, by(replay, true, false)},
	{"snapshot rollback", manifest.ErrRollback, by(numbered("snapshot", "timestamp"), 0, 1)},
	{"targets rollback", manifest.ErrRollback, by(numbered("targets", "snapshot", "timestamp"), 0, 1)},
	{"role taken out of the snapshot", manifest.ErrDocument, by(func(r *repo, n int) {
		r.channels = r.channels[:n]
		r.publish("snapshot", "timestamp")
	}, 0, 1)},
	{"mix of an old snapshot with a new timestamp", manifest.ErrRollback, by(mixed("snapshot", "timestamp"), 1, 2)},
	{"mix of old targets with a new snapshot", manifest.ErrRollback, by(mixed("targets", "snapshot", "timestamp"), 1, 2)},

	{"freeze", manifest.ErrExpired, by(func(r *repo, fakeTime string) { r.fakeTime = fakeTime }, "+31d", "+1d")},
	{"frozen by a new timestamp that is over", manifest.ErrExpired, by(ends("timestamp"), -time.Hour, time.Hour)},
	{"snapshot that is over", manifest.ErrExpired, by(ends("snapshot", "timestamp"), -time.Hour, time.Hour)},
	{"targets that are over", manifest.ErrExpired, by(ends("targets", "snapshot", "timestamp"), -time.Hour, time.Hour)},
	{"root that is over", manifest.ErrExpired, by(ends("root"), -time.Hour, time.Hour)},

	{"root by one of two", manifest.ErrSignature, by(func(r *repo, n int) { r.signers["root"] = r.keys["root"][:n]; r.publish("root") }, 1, 2)},
	{"root by the new keys alone", manifest.ErrSignature, by(newRoots, next, both)},
	{"root by the old keys alone", manifest.ErrSignature, by(newRoots, old, both)},
	{"one signature that counts twice", manifest.ErrDocument, by(timestampOfTwo, [2]int{0, 0}, [2]int{0, 1})},
	{"one key under two names", manifest.ErrSignature, by(timestampByAlias, 0, 1)},
	{"key listed twice", manifest.ErrDocument, by(listTwice, 1, 0)},
	{"threshold of none", manifest.ErrDocument, by(thresholdOf, 0, 1)},
	{"threshold that cannot be met", manifest.ErrSignature, by(thresholdOf, 2, 1)},
	{"timestamp by the snapshot's key", manifest.ErrSignature, by(func(r *repo, role string) {
		r.signers["timestamp"] = r.keys[role]
		r.publish("timestamp")
	}, "snapshot", "timestamp")},
	{"snapshot in the place of a timestamp", manifest.ErrDocument, by(asTimestamp, "snapshot", "timestamp")},
}

// replay publishes a timestamp, lets the client see it, and serves the one before or this one.
func replay(r *repo, older bool) {
	before := r.take()
	r.publish("timestamp")
	r.seen()
	if older {
		r.give(before, "/metadata/timestamp.json")
	}
}

// numbered publishes roles, of which the one above the first says that it has another version than it has. The file
// of that version is there.
func numbered(role string, above ...string) func(*repo, int) {
	return func(r *repo, version int) { r.version[role] = version; r.publish(above...) }
}

// mixed publishes roles, and what the file of the first says is that of one of its versions.
func mixed(roles ...string) func(*repo, int) {
	return func(r *repo, version int) {
		r.publish(roles...)
		r.put(roles[0], r.take()[fmt.Sprintf("/metadata/%d.%s.json", version, roles[0])])
	}
}

func ends(roles ...string) func(*repo, time.Duration) {
	return func(r *repo, in time.Duration) { r.expires[roles[0]] = time.Now().Add(in); r.publish(roles...) }
}

// Who signs a root with new keys.
const old, next, both = 1, 2, 3

func newRoots(r *repo, who int) {
	before := r.keys["root"][:2:2]
	r.keys["root"] = []key{newKey(r.t), newKey(r.t), newKey(r.t)}
	r.signers["root"] = map[int][]key{old: before, next: r.keys["root"], both: append(before, r.keys["root"]...)}[who]
	r.publish("root")
}

// timestampOfTwo makes a timestamp that needs two keys, and signs it by these.
func timestampOfTwo(r *repo, by [2]int) {
	r.keys["timestamp"] = append(r.keys["timestamp"], newKey(r.t))
	r.threshold["timestamp"] = 2
	r.signers["timestamp"] = []key{r.keys["timestamp"][by[0]], r.keys["timestamp"][by[1]]}
	r.publish("root", "timestamp")
}

// timestampByAlias does so by the first key, and in the name of the second by one of both.
func timestampByAlias(r *repo, by int) {
	r.keys["timestamp"] = append(r.keys["timestamp"], newKey(r.t))
	r.threshold["timestamp"] = 2
	k := r.keys["timestamp"]
	r.signers["timestamp"] = []key{k[0], {k[by].secret, k[by].public, k[1].id}}
	r.publish("root", "timestamp")
}

// listTwice names the timestamp's key more times in the root, for a threshold of as many.
func listTwice(r *repo, more int) {
	for range more {
		r.keys["timestamp"] = append(r.keys["timestamp"], r.keys["timestamp"][0])
		r.threshold["timestamp"]++
	}
	r.publish("root", "timestamp")
}

func thresholdOf(r *repo, n int) { r.threshold["timestamp"] = n; r.publish("root", "timestamp") }

// asTimestamp gives the timestamp's key to the snapshot as well, and serves one of them as timestamp.json.
func asTimestamp(r *repo, role string) {
	r.version["timestamp"]++
	signed := r.signed("timestamp")
	signed["_type"] = role
	r.put("timestamp", r.sign("timestamp", signed))
}

func TestAttacks(t *testing.T) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			try := func(change func(*repo)) (*user, string, error) {
				r := newRepo(t)
				u := newUser(r)
				r.seen = func() {
					if text, err := u.refresh(); err != nil {
						t.Fatalf("before the attack: %v: %s", err, text)
					}
				}
				r.seen()
				change(r)
				u.fakeTime = r.fakeTime
				text, err := u.refresh()
				return u, text, err
			}
			if _, text, err := try(a.twin); err != nil {
				t.Fatalf("the twin is refused: %v: %s", err, text)
			}
			u, text, err := try(a.evil)
			if err == nil || !strings.Contains(text, a.want.Error()) {
				t.Fatalf("want %v, got %v: %s", a.want, err, text)
			}
			if v := versionOf(t, u.trusted("targets")); v != 1 {
				t.Errorf("after the refusal the targets are of version %d", v)
			}
			t.Log(strings.TrimSpace(text))
		})
	}
}

func versionOf(t *testing.T, text string) int {
	t.Helper()
	var m struct{ Signed struct{ Version int } }
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m.Signed.Version
}

// A thief of online keys has set a version number far up. New keys take it down again, and nothing else does.
func TestFastForwardRecovery(t *testing.T) {
	for _, role := range []string{"timestamp", "snapshot"} {
		for _, rotated := range []bool{false, true} {
			r := newRepo(t)
			u := newUser(r)
			r.version[role] = 99
			r.publish(role)
			if role == "snapshot" {
				r.publish("timestamp")
			}
			if text, err := u.refresh(); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			r.version[role] = 1
			if rotated {
				r.keys["timestamp"], r.keys["snapshot"] = []key{newKey(t)}, []key{newKey(t)}
				r.publish("root")
			}
			r.publish("snapshot", "timestamp")
			text, err := u.refresh()
			if rotated && err != nil {
				t.Errorf("%s after new keys: %v: %s", role, err, text)
			}
			if !rotated && (err == nil || !strings.Contains(text, manifest.ErrRollback.Error())) {
				t.Errorf("%s without new keys: %v: %s", role, err, text)
			}
		}
	}
}

// A role that two others delegate to is held to the keys of the one that leads to it, also when one search has
// found it good by the keys of the other (go-tuf issue 759).
func TestDiamond(t *testing.T) {
	r := newRepo(t)
	for _, role := range []string{"a", "b"} {
		r.keys[role], r.threshold[role] = []key{newKey(t)}, 1
		r.channels = append(r.channels, role)
	}
	r.shared = map[string]key{"a": newKey(t), "b": newKey(t)}
	r.targets["shared"] = map[string]string{"a/app": "one", "b/app": "two"}
	publish := func(by ...key) {
		r.keys["shared"] = by
		r.publish("shared", "a", "b", "targets", "snapshot", "timestamp")
	}
	publish(r.shared["a"])
	u := newUser(r)
	if text, err := u.download("a/app", "b/app"); err == nil || !strings.Contains(text, manifest.ErrSignature.Error()) {
		t.Errorf("by a key that is not the delegator's: %v: %s", err, text)
	}
	if _, err := os.Stat(filepath.Join(u.dir, "a%2Fapp")); err != nil {
		t.Errorf("the first was good: %v", err)
	}
	publish(r.shared["a"], r.shared["b"])
	if text, err := u.download("a/app", "b/app"); err != nil {
		t.Errorf("%v: %s", err, text)
	}
}
