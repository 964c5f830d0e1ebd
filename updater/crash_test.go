package updater

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// cutKind is what is lost when everything stops.
type cutKind int

const (
	power    cutKind = iota // every process, and bytes that were not synced
	launcher                // the launcher alone: payloads live, and bytes are kept
	engine                  // the engine alone panicked, and is begun again in the same launcher
)

var errBad = Bad(errExit)

// course is a world, what is done to it, and where it has to end.
type course struct {
	name    string
	good    []int
	offered []int
	play    func(*world) // sets what is sick and what happens when
	active  int          // at the end, and the only one that runs
	check   func(t *testing.T, w *world, st State)
}

// sickAt makes a step of a version fail every time.
func sickAt(step string, n int, err error) func(*world) {
	return func(w *world) { w.sick[step+" "+version(n).Number] = err }
}

// ordered gives the order to roll back when the engine is idle with version n active.
func ordered(n int, u func() *Updater) func(context.Context, string, Version) {
	return func(_ context.Context, step string, _ Version) {
		if step == "check" && left(u().Status().State) != nil && left(u().Status().State).Digest == version(n).Digest {
			_ = u().enqueue(&request{order: Order{Kind: OrderRollback}, done: make(chan error, 1)})
		}
	}
}

func quarantined(n int) func(*testing.T, *world, State) {
	return func(t *testing.T, w *world, st State) {
		if !slices.ContainsFunc(st.Quarantine, marks(version(n))) || st.HighWater >= uint64(n) {
			t.Errorf("%s failed: %+v", version(n).Number, st)
		}
	}
}

func unmarked(t *testing.T, _ *world, st State) {
	if len(st.Quarantine)+len(st.Held) > 0 {
		t.Errorf("something is turned away: %+v", st)
	}
}

var courses = []course{
	{"healthy", []int{2, 1}, []int{2, 3}, nil, 3, func(t *testing.T, _ *world, st State) {
		unmarked(t, nil, st)
		if st.HighWater != 3 || !slices.Equal(st.Good, versions(3, 2, 1)) {
			t.Errorf("committed: %+v", st)
		}
	}},
	{"first install", nil, []int{1}, nil, 1, unmarked},
	{"wrong bytes", []int{2, 1}, []int{3}, sickAt("fetch", 3, Refused(errors.New("other bytes"))), 2, unmarked},
	{"wrong signature", []int{2, 1}, []int{3}, sickAt("verify", 3, errBad), 2, quarantined(3)},
	{"finds itself unfit", []int{2, 1}, []int{3}, sickAt("self-check", 3, errBad), 2, quarantined(3)},
	{"never healthy", []int{2, 1}, []int{3}, sickAt("warm", 3, errBad), 2, quarantined(3)},
	{"does not accept", []int{2, 1}, []int{3}, sickAt("switch", 3, errBad), 2, quarantined(3)},
	{"the old one will not park", []int{2, 1}, []int{3}, sickAt("park by", 3, errors.New("refused to park")), 2, unmarked},
	{"crashes in probation", []int{2, 1}, []int{3}, sickAt("watch", 3, errBad), 2, quarantined(3)},
	{"way back is broken", []int{2, 1}, []int{3}, func(w *world) {
		w.sick["watch 1.3.0"] = errBad
		w.on = func(_ context.Context, step string, v Version) {
			if step == "watch" { // it rots on disk and its parked process dies
				w.damage(version(2))
				delete(w.procs, version(2).Digest)
			}
		}
	}, 1, quarantined(3)},
	{"way back is broken and published again", []int{2, 1}, []int{2, 3}, func(w *world) {
		w.sick["watch 1.3.0"] = errBad
		w.on = func(_ context.Context, step string, v Version) {
			if step == "watch" && v.Epoch == 3 {
				w.damage(version(2))
				delete(w.procs, version(2).Digest)
			}
		}
	}, 2, quarantined(3)},
	{"garbage", []int{2, 1}, []int{3}, func(w *world) {
		_, s := w.open()
		for _, v := range versions(8, 9) { // sealed once, and never proven
			must(w.t, durable.WriteFile(w.disk, s.Staged(v), artifact(int(v.Epoch)), 0o600))
			must(w.t, s.Seal(context.Background(), v))
		}
	}, 3, func(t *testing.T, w *world, st State) {
		for _, v := range versions(1, 2, 3, 8, 9) {
			if kept := w.whole(v) == nil; kept != (v.Epoch <= 3) {
				t.Errorf("%s is kept: %v", v.Number, kept)
			}
		}
	}},
	{swept, []int{2, 1}, []int{1, 2}, nil, 1, func(t *testing.T, _ *world, st State) {
		if !slices.ContainsFunc(st.Held, marks(version(2))) || len(st.Good) != 1 {
			t.Errorf("rolled back: %+v", st)
		}
	}},
}

// stride is 1, or more where only a taste is wanted: under the race detector with -short.
func stride() int {
	if testing.Short() {
		return 9
	}
	return 1
}

var seconds = flag.Int("seconds", 2, "second cuts to try by chance after every first one; one with -short")

// swept is the course that is cut a second time at every operation too, where the power fails: the way back.
const swept = "order to roll back"

// TestCutAtEveryOperation runs every course, cuts it at every operation in every way, and the recovery again, and then
// lets it go on: it has to end where the uncut one ends. The second cuts of one course are all there are, those of the
// others come by chance, most of them soon after the first.
func TestCutAtEveryOperation(t *testing.T) {
	for _, c := range courses {
		for kind, name := range []string{"power", "launcher", "engine"} {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				for cut := 1; cutTwice(t, c, cutKind(kind), cut); cut += stride() {
				}
			})
		}
	}
}

// cutTwice cuts at one operation, and once more at some after it. It says whether there was anything to cut.
func cutTwice(t *testing.T, c course, kind cutKind, cut int) (reached bool) {
	hows := []durabletest.Cut{durabletest.Lost} // to cut before an operation is to lose the answer of the one before
	if kind == power {
		hows = append(hows, durabletest.Torn)
	}
	rng := rand.New(rand.NewPCG(uint64(cut), uint64(kind)))
	try := func(how durabletest.Cut, second int) (done int) {
		r := &run{course: c, kind: kind, cuts: []cutAt{{cut, how}, {second, hows[rng.IntN(len(hows))]}}, seed: rng.Uint64N(durabletest.Seeds)}
		r.do(t)
		if t.Failed() {
			t.Fatalf("cut at operation %d (%v), then %d, seed %d", cut, how, second, r.seed)
		}
		return r.done
	}
	tries := *seconds
	if testing.Short() {
		tries = min(tries, 1)
	}
	for _, how := range hows {
		for range tries {
			second := []int{1 + rng.IntN(12), 13 + rng.IntN(40), 53 + rng.IntN(150)}[rng.IntN(3)]
			reached = try(how, second) > 0 || reached
		}
	}
	if c.name == swept && kind == power && !testing.Short() {
		for second := 1; try(durabletest.Lost, second) == 2; second++ {
		}
	}
	return reached
}

type cutAt struct {
	op  int // 0 is none
	how durabletest.Cut
}

// run is one life of a machine, through some cuts to the end.
type run struct {
	course
	kind   cutKind
	cuts   []cutAt
	seed   uint64
	w      *world
	u      *Updater
	done   int  // cuts that came before its end
	either bool // it may end on the offered version or the one before
}

func (r *run) do(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r.w = newWorld(t, r.good, r.offered)
		if r.play != nil {
			r.play(r.w)
		}
		if r.name == swept {
			r.w.on = ordered(2, func() *Updater { return r.u })
		}
		for _, at := range r.cuts {
			if !r.boot(t, at) {
				r.inspect(t, r.w.state())
				return // it came to its end before the cut
			}
			r.done++
			r.recover(t)
		}
		if r.boot(t, cutAt{}) {
			t.Fatal("cut without a cut")
		}
		r.inspect(t, r.w.state())
	})
}

// boot begins the launcher, or its engine again, and says whether a cut ended it.
func (r *run) boot(t *testing.T, at cutAt) bool {
	w := r.w
	w.t, w.checks, w.sawYank = t, 0, map[string]bool{}
	w.cut.left, w.cut.how, w.cut.power, w.cut.dead = at.op, at.how, r.kind == power, false
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.cancel = cancel
	cut, err := live(func() error {
		if r.u == nil || r.kind != engine {
			r.u = w.updater()
		}
		return r.u.Run(ctx)
	})
	if !cut && !errors.Is(err, context.Canceled) {
		t.Errorf("the engine gave up: %v", err)
	}
	return cut
}

// live runs something until it ends, or a cut ends it.
func live(run func() error) (cut bool, err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case errCut:
			cut = true
		default:
			panic(p)
		}
	}()
	return false, run()
}

// recover makes the machine what is found after a cut, and checks what must hold at any moment.
func (r *run) recover(t *testing.T) {
	w := r.w
	if r.kind == power {
		w.disk = w.disk.Crash(r.seed)
		w.cut.Disk = w.disk
		w.procs = map[string]*proc{}
	}
	w.cut.left, w.cut.dead = 0, false
	st, _, err := journal.Read(w.disk, "journal")
	if errors.Is(err, journal.ErrEmpty) && len(r.good) == 0 {
		return // a new install
	}
	if err != nil {
		t.Fatalf("the journal is lost: %v", err)
	}
	r.legal(t, st)
	if v := serving(st); v != nil && r.kind != power && len(w.serving()) == 0 && !r.rots() {
		t.Errorf("nobody accepts connections in %s: %v", st.Phase, w.Running())
	}
}

// legal checks what must hold of a state and the disk under it at any moment.
func (r *run) legal(t *testing.T, st State) {
	t.Helper()
	if st.Phase != journal.Idle && st.Phase != journal.Retiring && st.Candidate == nil {
		t.Errorf("%s without a candidate", st.Phase)
	}
	if len(st.Good) == 0 && len(r.good) > 0 {
		t.Errorf("nothing is active: %+v", st)
	}
	broken := 0
	for _, v := range st.Good {
		if r.w.whole(v) != nil {
			broken++
		}
	}
	if broken > 0 && !r.rots() || broken > 1 {
		t.Errorf("%d of the good versions are not whole on disk: %+v", broken, st)
	}
	if len(st.Good) > 0 && len(r.good) > 0 && !slices.Contains(append(r.good, r.offered...), int(st.Good[0].Epoch)) {
		t.Errorf("active is %+v", st.Good[0])
	}
}

// rots says that the course damages a version and kills what is parked.
func (r *run) rots() bool { return strings.Contains(r.name, "broken") }

// inspect checks where the machine came to rest.
func (r *run) inspect(t *testing.T, st State) {
	t.Helper()
	r.legal(t, st)
	if r.either && len(st.Good) > 0 {
		r.active = int(st.Good[0].Epoch)
	}
	want := version(r.active)
	switch {
	case st.Phase != journal.Idle || st.Candidate != nil || st.Clean || st.Want != nil:
		t.Errorf("not at rest: %+v", st)
	case len(st.Good) == 0 || st.Good[0] != want:
		t.Errorf("%s should be active: %+v", want.Number, st)
	case !slices.Equal(r.w.serving(), []string{want.Number}):
		t.Errorf("%v accept connections, should be %s", r.w.serving(), want.Number)
	case len(r.w.Running()) != 1:
		t.Errorf("%v run", r.w.Running())
	}
	if err := r.w.whole(want); err != nil {
		t.Errorf("active is not whole: %v", err)
	}
	if r.check != nil {
		r.check(t, r.w, st)
	}
}

// TestYankAtEveryOperation takes the offered version back at every operation, and cuts as well. An engine that
// has read it must not commit the version, and no mark may stay, for the vendor's word may change.
func TestYankAtEveryOperation(t *testing.T) {
	for kind, name := range []string{"power", "launcher", "engine"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for at := 1; yank(t, cutKind(kind), at); at += stride() {
			}
		})
	}
}

// yank says whether the update was still under way at operation at.
func yank(t *testing.T, kind cutKind, at int) (reached bool) {
	for _, cut := range []int{0, at + 1, at + 17, at + 60} {
		r := &run{kind: kind, cuts: []cutAt{{cut, durabletest.Lost}}, either: true}
		if cut == 0 {
			r.cuts = nil
		}
		r.course = course{name: "yank", good: []int{2, 1}, offered: []int{3}, check: unmarked}
		r.play = func(w *world) {
			w.poll = 10 * time.Second
			w.on = func(context.Context, string, Version) {
				if w.cut.ops >= at {
					w.yank(3)
				}
			}
		}
		r.do(t)
		if t.Failed() {
			t.Fatalf("yank at %d, cut at %d", at, cut)
		}
		reached = reached || r.w.offers[0].Yanked != ""
	}
	return reached
}
