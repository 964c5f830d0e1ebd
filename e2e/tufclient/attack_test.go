package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/manifest"
)

// attacks are what a client that has seen version 1 of everything must refuse. The twin is the nearest thing
// that it must accept.
var attacks = []struct {
	name string
	want error
	evil func(*repo)
	twin func(*repo)
	time string // FAKETIME of the evil run
}{
	{name: "timestamp rollback", want: manifest.ErrRollback,
		evil: replay(true, "/metadata/timestamp.json"), twin: replay(false, "/metadata/timestamp.json")},
	{name: "snapshot rollback", want: manifest.ErrRollback,
		evil: func(r *repo) { r.version["snapshot"] = 0; r.publish("timestamp") },
		twin: func(r *repo) { r.publish("timestamp") }},
	{name: "targets rollback", want: manifest.ErrRollback,
		evil: func(r *repo) { r.version["targets"] = 0; r.publish("snapshot", "timestamp") },
		twin: func(r *repo) { r.publish("snapshot", "timestamp") }},
	{name: "role taken out of the snapshot", want: manifest.ErrDocument,
		evil: func(r *repo) { r.channels = nil; r.publish("snapshot", "timestamp") },
		twin: func(r *repo) { r.publish("snapshot", "timestamp") }},
	{name: "mix of an old snapshot with a new timestamp", want: manifest.ErrRollback,
		evil: func(r *repo) {
			old := r.take()["/metadata/1.snapshot.json"]
			r.publish("snapshot", "timestamp")
			r.put("snapshot", old)
		},
		twin: func(r *repo) { r.publish("snapshot", "timestamp") }},
	{name: "mix of old targets with a new snapshot", want: manifest.ErrRollback,
		evil: func(r *repo) {
			old := r.take()["/metadata/1.targets.json"]
			r.publish("targets", "snapshot", "timestamp")
			r.put("targets", old)
		},
		twin: func(r *repo) { r.publish("targets", "snapshot", "timestamp") }},

	{name: "freeze", want: manifest.ErrExpired, evil: nothing, twin: nothing, time: "+31d"},
	{name: "frozen by a new timestamp that is over", want: manifest.ErrExpired, evil: over("timestamp"), twin: fresh("timestamp")},
	{name: "snapshot that is over", want: manifest.ErrExpired, evil: over("snapshot", "timestamp"), twin: fresh("snapshot", "timestamp")},
	{name: "targets that are over", want: manifest.ErrExpired, evil: over("targets", "snapshot", "timestamp"), twin: fresh("targets", "snapshot", "timestamp")},
	{name: "root that is over", want: manifest.ErrExpired, evil: over("root"), twin: fresh("root")},

	{name: "root by one of two", want: manifest.ErrSignature,
		evil: signedBy("root", func(k []key) []key { return k[:1] }), twin: signedBy("root", func(k []key) []key { return k[:2] })},
	{name: "root by the new keys alone", want: manifest.ErrSignature,
		evil: newRoots(func(_, next []key) []key { return next }), twin: newRoots(func(old, next []key) []key { return append(old[:2:2], next...) })},
	{name: "root by the old keys alone", want: manifest.ErrSignature,
		evil: newRoots(func(old, _ []key) []key { return old }), twin: newRoots(func(old, next []key) []key { return append(old[:2:2], next...) })},
	{name: "one signature that counts twice", want: manifest.ErrDocument,
		evil: timestampOfTwo(func(k []key) []key { return []key{k[0], k[0]} }), twin: timestampOfTwo(func(k []key) []key { return k })},
	{name: "one key under two names", want: manifest.ErrSignature,
		evil: timestampOfTwo(func(k []key) []key { return []key{k[0], {k[0].secret, k[0].public, k[1].id}} }), twin: timestampOfTwo(func(k []key) []key { return k })},
	{name: "key listed twice", want: manifest.ErrDocument,
		evil: func(r *repo) { listTwice(r, 1) }, twin: func(r *repo) { listTwice(r, 0) }},
	{name: "threshold of none", want: manifest.ErrDocument,
		evil: thresholdOf(0), twin: thresholdOf(1)},
	{name: "threshold that cannot be met", want: manifest.ErrSignature,
		evil: thresholdOf(2), twin: thresholdOf(1)},
	{name: "timestamp by the snapshot's key", want: manifest.ErrSignature,
		evil: func(r *repo) { r.signers["timestamp"] = r.keys["snapshot"]; r.publish("timestamp") },
		twin: func(r *repo) { r.publish("timestamp") }},
	{name: "snapshot in the place of a timestamp", want: manifest.ErrDocument,
		evil: func(r *repo) { asTimestamp(r, "snapshot") }, twin: func(r *repo) { asTimestamp(r, "timestamp") }},
}

func nothing(*repo) {}

// replay publishes a timestamp, lets the client see it, and serves the one before or this one.
func replay(older bool, name string) func(*repo) {
	return func(r *repo) {
		before := r.take()
		r.publish("timestamp")
		r.seen()
		if older {
			r.give(before, name)
		}
	}
}

func over(roles ...string) func(*repo) {
	return func(r *repo) { r.expires[roles[0]] = time.Now().Add(-time.Hour); r.publish(roles...) }
}

func fresh(roles ...string) func(*repo) {
	return func(r *repo) { r.expires[roles[0]] = time.Now().Add(time.Hour); r.publish(roles...) }
}

func signedBy(role string, choose func([]key) []key) func(*repo) {
	return func(r *repo) { r.signers[role] = choose(r.keys[role]); r.publish(role) }
}

func newRoots(choose func(old, next []key) []key) func(*repo) {
	return func(r *repo) {
		old := r.keys["root"]
		r.keys["root"] = []key{newKey(r.t), newKey(r.t), newKey(r.t)}
		r.signers["root"] = choose(old, r.keys["root"])
		r.publish("root")
	}
}

// timestampOfTwo makes a timestamp that needs two keys, and signs it by others.
func timestampOfTwo(choose func([]key) []key) func(*repo) {
	return func(r *repo) {
		r.keys["timestamp"] = append(r.keys["timestamp"], newKey(r.t))
		r.threshold["timestamp"] = 2
		r.signers["timestamp"] = choose(r.keys["timestamp"])
		r.publish("root", "timestamp")
	}
}

// listTwice names the timestamp's key more times in the root, for a threshold of as many.
func listTwice(r *repo, more int) {
	for range more {
		r.keys["timestamp"] = append(r.keys["timestamp"], r.keys["timestamp"][0])
		r.threshold["timestamp"]++
	}
	r.publish("root", "timestamp")
}

func thresholdOf(n int) func(*repo) {
	return func(r *repo) { r.threshold["timestamp"] = n; r.publish("root", "timestamp") }
}

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
			try := func(change func(*repo), fakeTime string) (*user, string, error) {
				r := newRepo(t)
				u := newUser(r)
				r.seen = func() {
					if text, err := u.refresh(); err != nil {
						t.Fatalf("before the attack: %v: %s", err, text)
					}
				}
				r.seen()
				change(r)
				u.fakeTime = fakeTime
				text, err := u.refresh()
				return u, text, err
			}
			if _, text, err := try(a.twin, ""); err != nil {
				t.Fatalf("the twin is refused: %v: %s", err, text)
			}
			u, text, err := try(a.evil, a.time)
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
