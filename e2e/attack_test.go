package e2e

import (
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

// attack is one thing that a network, a mirror or the thief of some key may send. Both evil and twin get the
// repository as the launcher knows it, and differ only in the field that is attacked.
type attack struct {
	name  string
	want  error // what check refuses it for
	code  int   // 11 if it is zero
	says  string
	setup func(f *forger) // is accepted before
	evil  func(f *forger)
	twin  func(f *forger)
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
		if change != nil {
			change(honest)
		}
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
	{name: "wrong key", want: manifest.ErrSignature,
		evil: func(f *forger) { f.by["timestamp"] = []string{"snapshot"}; f.edit("timestamp", asItWas) },
		twin: func(f *forger) { f.edit("timestamp", asItWas) }},
	{name: "channel by the timestamp's key", want: manifest.ErrSignature,
		evil: func(f *forger) { f.by["stable"] = []string{"timestamp"}; f.edit("stable", asItWas) },
		twin: func(f *forger) { f.edit("stable", asItWas) }},
	{name: "targets by one of two", want: manifest.ErrSignature,
		evil: func(f *forger) { f.by["targets"] = []string{"targets-1"}; f.edit("targets", asItWas) },
		twin: func(f *forger) { f.by["targets"] = []string{"targets-1", "targets-3"}; f.edit("targets", asItWas) }},
	{name: "root by one of two", want: manifest.ErrSignature,
		evil: func(f *forger) { f.by["root"] = []string{"root-2"}; f.edit("root", asItWas) },
		twin: func(f *forger) { f.by["root"] = []string{"root-2", "root-3"}; f.edit("root", asItWas) }},
	{name: "one of two, twice", want: manifest.ErrDocument,
		evil: func(f *forger) { f.by["targets"] = []string{"targets-1", "targets-1"}; f.edit("targets", asItWas) },
		twin: func(f *forger) { f.edit("targets", asItWas) }},

	{name: "freeze", want: manifest.ErrExpired,
		evil: func(f *forger) { f.edit("timestamp", endsIn(-time.Minute)) }, twin: func(f *forger) { f.edit("timestamp", endsIn(time.Hour)) }},
	{name: "channel that is over", want: manifest.ErrExpired,
		evil: func(f *forger) { f.edit("stable", endsIn(-time.Minute)) }, twin: func(f *forger) { f.edit("stable", endsIn(time.Hour)) }},
	{name: "replay of an older timestamp", want: manifest.ErrRollback, setup: func(f *forger) { keepOld(f); f.edit("timestamp", asItWas) },
		evil: func(f *forger) { supplant(f, "timestamp.json", "old-timestamp") }, twin: nil},
	{name: "mix of an old snapshot with a new timestamp", want: manifest.ErrMismatch,
		evil: func(f *forger) { f.edit("snapshot", asItWas); older(f, "snapshot") }, twin: func(f *forger) { f.edit("snapshot", asItWas) }},
	{name: "mix of an old channel with a new snapshot", want: manifest.ErrMismatch,
		evil: func(f *forger) { f.edit("stable", asItWas); older(f, "stable") }, twin: func(f *forger) { f.edit("stable", asItWas) }},
	{name: "fast-forward is not undone by the same key", want: manifest.ErrRollback,
		setup: func(f *forger) { keepOld(f); f.edit("timestamp", func(m object) { m["version"] = 1000 }) },
		evil:  func(f *forger) { f.edit("timestamp", func(m object) { m["version"] = 999 }) },
		twin:  func(f *forger) { f.edit("timestamp", asItWas) }},
	{name: "snapshot lowers a role", want: manifest.ErrRollback,
		evil: func(f *forger) {
			f.edit("snapshot", func(m object) { m["meta"].(object)["targets.json"].(object)["version"] = 1 })
		},
		twin: func(f *forger) { f.edit("snapshot", asItWas) }},

	{name: "tampered document", want: manifest.ErrMismatch,
		evil: func(f *forger) { reoffered(f); flip(f) }, twin: reoffered},
	{name: "another product", want: manifest.ErrWrongProduct,
		evil: renamed(`"product": "acme-agent"`, `"product": "acme-other"`), twin: renamed(`"min_epoch": 0`, `"min_epoch": 1`)},
	{name: "another channel", want: manifest.ErrWrongChannel,
		evil: renamed(`"channel": "stable"`, `"channel": "stabler"`), twin: renamed(`"min_epoch": 1`, `"min_epoch": 0`)},
	{name: "clock pushed ten years ahead", want: manifest.ErrClock,
		evil: signedAt(10 * 365 * 24 * time.Hour), twin: signedAt(time.Minute)},

	{name: "timestamp that is not JSON", want: manifest.ErrDocument, twin: nil,
		evil: func(f *forger) { f.put("timestamp", 0, []byte("<html>")) }},
	{name: "timestamp that go-tuf panics on", want: manifest.ErrDocument,
		evil: func(f *forger) { f.edit("timestamp", func(m object) { m["meta"] = object{} }) },
		twin: func(f *forger) { f.edit("timestamp", asItWas) }},
	{name: "root without a role", want: manifest.ErrDocument,
		evil: func(f *forger) { f.edit("root", func(m object) { delete(m["roles"].(object), "snapshot") }) },
		twin: func(f *forger) { f.edit("root", asItWas) }},
	{name: "root with a threshold of none", want: manifest.ErrDocument,
		evil: func(f *forger) {
			f.edit("root", func(m object) { m["roles"].(object)["timestamp"].(object)["threshold"] = 0 })
		},
		twin: func(f *forger) { f.edit("root", asItWas) }},
	{name: "deep nesting", want: manifest.ErrDocument, twin: nil,
		evil: func(f *forger) { f.put("timestamp", 0, []byte(strings.Repeat("[", 16<<10))) }},

	{name: "diamond", want: manifest.ErrDelegation,
		evil: func(f *forger) { f.edit("targets", delegated(func(r []any) []any { return append(r, r[0]) })) },
		twin: func(f *forger) { f.edit("targets", delegated(func(r []any) []any { return r })) }},
	{name: "too many channels", want: manifest.ErrDelegation,
		evil: func(f *forger) { f.edit("targets", delegated(manyChannels(33))) },
		twin: func(f *forger) { f.edit("targets", delegated(manyChannels(32))) }},
	{name: "path that climbs", want: manifest.ErrPath,
		evil: func(f *forger) { f.edit("stable", signs("stable/../../launcher")) }, twin: func(f *forger) { f.edit("stable", signs("stable/launcher")) }},
	{name: "path of another channel", want: manifest.ErrPath,
		evil: func(f *forger) { f.edit("stable", signs("beta/launcher")) }, twin: func(f *forger) { f.edit("stable", signs("stable/launcher")) }},
	{name: "two digests", want: manifest.ErrHash,
		evil: func(f *forger) { f.edit("stable", digests("stable/launcher", "sha256", "sha512")) }, twin: func(f *forger) { f.edit("stable", digests("stable/launcher", "sha256")) }},

	{name: "endless timestamp", code: 12, says: "longer than it may be", twin: nil,
		evil: func(f *forger) { f.put("timestamp", 0, []byte(strings.Repeat(" ", 16<<10+1))) }},
	{name: "endless channel", code: 12, says: "longer than it may be",
		evil: func(f *forger) { f.edit("stable", asItWas); grow(f, "stable") }, twin: func(f *forger) { f.edit("stable", asItWas) }},
	{name: "snapshot that is not there", code: 12, says: "not in the repository",
		evil: func(f *forger) { f.edit("snapshot", asItWas); lose(f, "snapshot") }, twin: func(f *forger) { f.edit("snapshot", asItWas) }},

	// The last, since it leaves a root hidden.
	{name: "revoked key behind a hidden root", want: manifest.ErrSignature, setup: revoke,
		evil: func(f *forger) {
			hideRoot(f)
			f.by["timestamp"] = []string{"revoked"}
			f.edit("timestamp", asItWas)
		},
		twin: func(f *forger) { hideRoot(f); f.edit("timestamp", asItWas) }},
}
