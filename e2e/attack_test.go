package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/manifest"
)

// hostile is a web server that shows one repository or another, and may not be honest about it.
type hostile struct {
	*httptest.Server
	mu  sync.Mutex
	dir string
}

func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	dir := h.dir
	h.mu.Unlock()
	http.FileServer(http.Dir(dir)).ServeHTTP(w, r)
}

func (h *hostile) shows(f *forger) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dir = f.dir
}

// attack is one thing that a network, a mirror or the thief of some key may send.
type attack struct {
	name  string
	want  error // what check refuses it for
	code  int   // 11 if it is zero
	says  string
	setup func(f *forger) // is accepted before
	pair
}

// pair is one change of the repository that the launcher knows, with the value that is attacked and with a legal one.
type pair struct{ evil, twin func(*forger) }

// by is the only maker of pairs, so that an attack and its twin differ in one value alone.
func by[T any](change func(*forger, T), evil, twin T) pair {
	return pair{func(f *forger) { change(f, evil) }, func(f *forger) { change(f, twin) }}
}

// TestAttacks drives one launcher through all of them. Each is refused for its own reason and with its own exit
// code; the service answers all the time from the same process, the trust that the launcher had stays as it
// was, and what the vendor really publishes next is accepted.
func TestAttacks(t *testing.T) {
	s := staged(t, quick(nil))
	publish(t, s, "1.0.0", example(t, "1.0.0", ""))
	honest := forgery(t, s)
	h := &hostile{dir: honest.dir}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	edit(t, s, s.URL, h.URL)
	launch(t, s)
	serving(t, s, "1.0.0")
	checked(t, s, 3)
	before := pids(t, s)["1.0.0"]

	unmoved(t, s, func() {
		for _, a := range attacks {
			t.Run(a.name, func(t *testing.T) { honest = a.run(t, s, h, honest) })
		}
	})
	if now := pids(t, s)["1.0.0"]; now != before {
		t.Errorf("pid %d serves, before it was %d", now, before)
	}
}

// run returns the repository as the launcher knows it afterwards.
func (a attack) run(t *testing.T, s *stage.Stage, h *hostile, honest *forger) *forger {
	accept := func(change func(*forger)) {
		t.Helper()
		honest = honest.copy()
		honest.t = t
		change(honest)
		h.shows(honest)
		checked(t, s, 3)
	}
	if a.setup != nil {
		accept(a.setup)
	}
	trust := status(t, s).Trust
	evil := honest.copy()
	evil.t = t
	a.evil(evil)
	h.shows(evil)
	a.refused(t, s)
	if st := status(t, s); st.Active.Number != "1.0.0" || st.Health != control.Healthy || !reflect.DeepEqual(st.Trust, trust) || st.CheckError == "" {
		t.Errorf("after the attack: active %v, %s, trust %+v, check error %q; before, trust was %+v", st.Active, st.Health, st.Trust, st.CheckError, trust)
	}
	accept(a.twin)
	return honest
}

func (a attack) refused(t *testing.T, s *stage.Stage) {
	t.Helper()
	code, says := a.code, a.says
	if code == 0 {
		code = 11
	}
	if a.want != nil {
		says = a.want.Error()
	}
	r := asked(t, s, code, "check")
	if !strings.Contains(r.Error, says) {
		t.Errorf("refused for another reason: %s", r.Error)
	}
	t.Log(r.Error)
}

var attacks = []attack{
	{name: "wrong key", want: manifest.ErrSignature, pair: signed("timestamp", []string{"snapshot"}, []string{"timestamp"})},
	{name: "channel by the timestamp's key", want: manifest.ErrSignature, pair: signed("stable", []string{"timestamp"}, []string{"stable"})},
	{name: "targets by one of two", want: manifest.ErrSignature,
		pair: signed("targets", []string{"targets-1"}, []string{"targets-1", "targets-3"})},
	{name: "root by one of two", want: manifest.ErrSignature, pair: signed("root", []string{"root-2"}, []string{"root-2", "root-3"})},
	{name: "one of two, twice", want: manifest.ErrDocument,
		pair: signed("targets", []string{"targets-1", "targets-1"}, []string{"targets-1", "targets-2"})},

	{name: "freeze", want: manifest.ErrExpired, pair: edited("timestamp", ends, -time.Minute, time.Hour)},
	{name: "channel that is over", want: manifest.ErrExpired, pair: edited("stable", ends, -time.Minute, time.Hour)},
	{name: "replay of an older timestamp", want: manifest.ErrRollback, setup: func(f *forger) { keep(f, "old"); f.edit("timestamp", asItWas) },
		pair: by(func(f *forger, which string) {
			f.edit("timestamp", asItWas)
			keep(f, "new")
			supplant(f, "timestamp.json", which)
		}, "old", "new")},
	{name: "mix of an old snapshot with a new timestamp", want: manifest.ErrMismatch, pair: by(func(f *forger, back int64) {
		f.edit("snapshot", asItWas)
		older(f, "snapshot", back)
	}, 1, 0)},
	{name: "mix of an old channel with a new snapshot", want: manifest.ErrMismatch, pair: by(func(f *forger, back int64) {
		f.edit("stable", asItWas)
		older(f, "stable", back)
	}, 1, 0)},
	{name: "fast-forward is not undone by the same key", want: manifest.ErrRollback,
		setup: func(f *forger) { f.edit("timestamp", func(m object) { m["version"] = 1000 }) },
		pair:  edited("timestamp", func(m object, version int) { m["version"] = version }, 999, 1001)},
	{name: "snapshot lowers a role", want: manifest.ErrRollback, pair: edited("snapshot", func(m object, by int64) {
		targets := m["meta"].(object)["targets.json"].(object)
		version, _ := targets["version"].(json.Number).Int64() // the product's own tool wrote it
		targets["version"] = version - by
	}, 1, 0)},

	{name: "tampered document", want: manifest.ErrMismatch, pair: by(func(f *forger, text string) { states("min_epoch")(f, "0"); flip(f, text) }, "10001", "10000")},
	{name: "another product", want: manifest.ErrWrongProduct, pair: by(states("product"), `"acme-other"`, `"acme-agent"`)},
	{name: "another channel", want: manifest.ErrWrongChannel, pair: by(states("channel"), `"stabler"`, `"stable"`)},
	{name: "downgrade below min_epoch", want: manifest.ErrDowngrade, pair: by(states("min_epoch"), "2", "1")},
	{name: "downgrade of min_epoch", want: manifest.ErrFloor, pair: by(states("min_epoch"), "0", "1")},
	{name: "clock pushed ten years ahead", want: manifest.ErrClock, pair: by(func(f *forger, ahead time.Duration) {
		states("signed_at")(f, `"`+time.Now().Add(ahead).UTC().Format(time.RFC3339)+`"`)
	}, 10*365*24*time.Hour, time.Minute)},

	{name: "timestamp that is not JSON", want: manifest.ErrDocument, pair: by(before, "<", " ")},
	{name: "timestamp that go-tuf panics on", want: manifest.ErrDocument,
		pair: edited("timestamp", func(m object, name string) { delete(m["meta"].(object), name) }, "snapshot.json", "none.json")},
	{name: "root without a role", want: manifest.ErrDocument,
		pair: edited("root", func(m object, name string) { delete(m["roles"].(object), name) }, "snapshot", "none")},
	{name: "root with a threshold of none", want: manifest.ErrDocument, pair: edited("root", func(m object, n int) {
		m["roles"].(object)["timestamp"].(object)["threshold"] = n
	}, 0, 1)},
	{name: "deep nesting", want: manifest.ErrDocument, pair: edited("stable", func(m object, depth int) { m["x-deep"] = nested(depth) }, 20_000, 100)},

	{name: "diamond", want: manifest.ErrDelegation, pair: edited("targets", alsoDelegated, "stable", "stable-2")},
	{name: "too many channels", want: manifest.ErrDelegation, pair: edited("targets", manyChannels, 33, 32)},
	{name: "path that climbs", want: manifest.ErrPath, pair: edited("stable", signs, "stable/../../launcher", "stable/launcher")},
	{name: "path of another channel", want: manifest.ErrPath, pair: edited("stable", signs, "beta/launcher", "stable/launcher")},
	{name: "two digests", want: manifest.ErrHash, pair: edited("stable", digests, []string{"sha256", "sha512"}, []string{"sha256"})},

	{name: "endless timestamp", code: 11, says: "longer than it may be", pair: by(func(f *forger, sizeBytes int) {
		f.edit("timestamp", asItWas)
		pad(f, sizeBytes)
	}, 16<<10+1, 16<<10)},
	{name: "endless channel", code: 11, says: "longer than it may be", pair: by(func(f *forger, more int) {
		f.edit("stable", asItWas)
		grow(f, "stable", more)
	}, 1<<20, 0)},
	{name: "snapshot that is not there", code: 12, says: "not in the repository", pair: by(func(f *forger, back int64) {
		f.edit("snapshot", asItWas)
		lose(f, "snapshot", back)
	}, 0, 1)},

	// The last, since it leaves a root hidden.
	{name: "revoked key behind a hidden root", want: manifest.ErrSignature, setup: revoke, pair: by(func(f *forger, key string) {
		lose(f, "root", 0)
		f.by["timestamp"] = []string{key}
		f.edit("timestamp", asItWas)
	}, "revoked", "timestamp")},
}
