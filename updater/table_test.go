package updater

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/updater/journal"
)

// The rows of docs/DESIGN.md, section 3. The way back to the next good version is inside the reverting step.
var design = []struct{ phase, ok, bad Phase }{
	{"idle", "fetching", "idle"},
	{"fetching", "staging", "discarding"},
	{"staging", "warming", "discarding"},
	{"warming", "switching", "discarding"},
	{"switching", "probation", "reverting"},
	{"probation", "retiring", "reverting"},
	{"retiring", "idle", "idle"},
	{"reverting", "discarding", "idle"},
	{"discarding", "idle", "idle"},
}

func TestTableIsTheDesign(t *testing.T) {
	if len(table) != len(design) {
		t.Errorf("%d rows, the design has %d", len(table), len(design))
	}
	reached := map[Phase]bool{journal.Idle: true}
	for _, d := range design {
		r, ok := table[d.phase]
		if !ok || r.do == nil || r.ok != d.ok || r.bad != d.bad {
			t.Errorf("%s: ok %s, bad %s; the design says %s, %s", d.phase, r.ok, r.bad, d.ok, d.bad)
		}
		reached[r.ok], reached[r.bad] = true, true
	}
	for p := range table {
		if !reached[p] {
			t.Errorf("no edge leads to %s", p)
		}
	}
}

var edge = outlook{probation: time.Minute, config: config, now: time.Unix(1e9, 0)}

// at is a state in each phase: 1.2.0 is active and 1.3.0 the candidate, except after its commit.
func at(p Phase) State {
	st := State{Phase: p, Good: versions(2, 1), HighWater: 2, Starts: 1}
	switch p {
	case journal.Idle:
		st.Starts = 0
	case journal.Retiring:
		st.Good = versions(3, 2, 1)
	case journal.Reverting, journal.Discarding:
		st.Verdict, st.Reason = journal.World, "no memory"
		fallthrough
	default:
		c := version(3)
		st.Candidate = &c
	}
	return st
}

// Every edge, taken by the pure function that Run uses.
func TestFollow(t *testing.T) {
	bad, world := Bad(errors.New("exit code 2")), errors.New("disk full")
	for _, d := range design {
		t.Run(string(d.phase), func(t *testing.T) {
			st := at(d.phase)
			next := clone(st)
			if d.phase == journal.Idle {
				c := version(3)
				next.Candidate = &c
			}
			if got := follow(st, next, nil, edge); got.Phase != d.ok || got.Phase == journal.Probation && got.Remaining != edge.probation {
				t.Errorf("ok leads to %s, %v", got.Phase, got.Remaining)
			}
			spoilt := clone(st)
			spoilt.HighWater, spoilt.Good[0] = 99, version(9)
			got := follow(st, spoilt, bad, edge)
			if got.HighWater != 2 || got.Good[0] != st.Good[0] {
				t.Errorf("a failed step changed more than the edge: %+v", got)
			}
			if d.phase != journal.Reverting && got.Phase != d.bad {
				t.Errorf("bad leads to %s", got.Phase)
			}
			quarantined := slices.ContainsFunc(got.Quarantine, marks(version(3)))
			if want := st.Candidate != nil && st.Verdict == journal.None; quarantined != want {
				t.Errorf("quarantined: %v, want %v: %+v", quarantined, want, got)
			}
			got = follow(st, clone(st), Refused(errors.New("other bytes")), edge)
			if d.phase != journal.Reverting && got.Phase != d.bad || len(got.Quarantine) != 0 || got.Phase == journal.Discarding && got.Verdict != journal.Refused {
				t.Errorf("refused leads to %+v", got)
			}
			for range maxStarts - 1 {
				if got = follow(st, clone(st), world, edge); d.phase != journal.Idle && (got.Phase != d.phase || got.Starts != st.Starts+1) {
					t.Fatalf("world leads to %s, start %d", got.Phase, got.Starts)
				}
				st = got
			}
			got = follow(st, clone(st), world, edge)
			if got.Phase != d.bad || len(got.Quarantine) != 0 || got.Phase == journal.Discarding && got.Verdict != journal.World {
				t.Errorf("world once too often leads to %+v", got)
			}
		})
	}
}

func TestReboot(t *testing.T) {
	for _, d := range design {
		for _, alive := range []bool{false, true} {
			st := at(d.phase)
			clean := st
			clean.Clean = true
			if got := reboot(clean, alive, edge); got.Clean || got.Phase != d.phase || got.Starts != st.Starts || got.Boots != 0 {
				t.Errorf("%s: a clean stop was counted: %+v", d.phase, got)
			}
			for range maxStarts - 1 {
				st = reboot(st, alive, edge)
			}
			if st.Phase != d.phase {
				t.Errorf("%s: the second boot leads to %s", d.phase, st.Phase)
			}
			st = reboot(st, alive, edge) // starts: 4 now; boots: 3
			want := d.bad
			if d.phase == journal.Probation && alive || d.phase == journal.Reverting {
				want = d.phase
			}
			if st.Phase != want || d.phase == journal.Reverting && st.Starts > 1 {
				t.Errorf("%s, alive %v: the third boot leads to %s, want %s", d.phase, alive, st.Phase, want)
			}
			if bad := d.phase == journal.Probation && !alive; bad != slices.ContainsFunc(st.Quarantine, marks(version(3))) {
				t.Errorf("%s, alive %v: %+v", d.phase, alive, st)
			}
		}
	}
}

// What each order does in each phase: the phase that follows, or "nothing" if it is refused as such.
func TestApply(t *testing.T) {
	phases := []Phase{"idle", "fetching", "staging", "warming", "switching", "probation", "retiring", "reverting", "discarding"}
	for _, tc := range []struct {
		order Order
		want  string // for each phase; "." is the same phase
	}{
		{Order{Kind: OrderCheck}, ". . . . . . . . ."},
		{Order{Kind: OrderUpdate}, ". . . . . . . . ."},
		{Order{Kind: OrderUpdate, Number: "1.3.0", Now: true}, ". . . . . . . . ."},
		{Order{Kind: OrderUpdate, Number: "1.4.0"}, ". discarding discarding discarding . . . . ."},
		{Order{Kind: OrderRollback}, "warming warming warming warming reverting reverting warming nothing warming"},
		{Order{Kind: OrderRollback, Leaves: version(9).Digest}, "nothing nothing nothing nothing nothing nothing nothing nothing nothing"},
		{Order{Kind: OrderPin}, ". discarding discarding discarding . . . . ."},
		{Order{Kind: OrderPin, Number: "1.3.0"}, ". . . . . . . . ."},
		{Order{Kind: OrderPause}, ". discarding discarding discarding . . . . ."},
		{Order{Kind: OrderUnpin}, "nothing nothing nothing nothing nothing nothing nothing nothing nothing"},
		{Order{Kind: OrderResume}, "nothing nothing nothing nothing nothing nothing nothing nothing nothing"},
		{Order{Kind: OrderClear}, "nothing nothing nothing nothing nothing nothing nothing nothing nothing"},
	} {
		for i, want := range strings.Fields(tc.want) {
			st := at(phases[i])
			got, err := apply(st, tc.order, edge)
			name := fmt.Sprintf("%s %s in %s", tc.order.Kind, tc.order.Number, st.Phase)
			switch {
			case want == "nothing":
				if !errors.Is(err, ErrNothing) || got.Phase != st.Phase {
					t.Errorf("%s: %s, %v", name, got.Phase, err)
				}
				continue
			case want == ".":
				want = string(st.Phase)
			}
			if err != nil || string(got.Phase) != want {
				t.Errorf("%s: %s, %v; want %s", name, got.Phase, err, want)
			}
			if len(got.Quarantine) > 0 {
				t.Errorf("%s: an order put something in quarantine", name)
			}
			if tc.order.Kind == OrderRollback {
				checkRollback(t, name, st, got)
			} else if len(got.Held) > 0 {
				t.Errorf("%s: held %v", name, got.Held)
			}
		}
	}
}

// checkRollback checks that the version that served, or was to, is held in the same write.
func checkRollback(t *testing.T, name string, st, got State) {
	if leaves := left(st); len(got.Held) != 1 || got.Held[0].Digest != leaves.Digest {
		t.Errorf("%s: held %+v", name, got.Held)
	}
	switch {
	case got.Phase == journal.Reverting:
		if got.Verdict != journal.Operator || *got.Candidate != version(3) {
			t.Errorf("%s: %+v", name, got)
		}
	case st.Phase == journal.Retiring:
		if *got.Candidate != version(2) {
			t.Errorf("%s: goes back to %s", name, got.Candidate.Number)
		}
	default:
		if *got.Candidate != version(1) || got.Verdict != journal.None {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestApplyDetails(t *testing.T) {
	idle := at(journal.Idle)
	mark := func(n int) journal.Mark { return journal.Mark{Number: version(n).Number, Digest: version(n).Digest} }
	do := func(st State, o Order) State {
		t.Helper()
		got, err := apply(st, o, edge)
		must(t, err)
		return got
	}
	refused := func(st State, o Order, want error) {
		t.Helper()
		if got, err := apply(st, o, edge); !errors.Is(err, want) || got.Phase != st.Phase || len(got.Held) != len(st.Held) {
			t.Errorf("%+v: %v, want %v", o, err, want)
		}
	}
	refused(State{Phase: journal.Idle}, Order{Kind: OrderRollback}, ErrNoPrevious)
	refused(State{Phase: journal.Idle, Good: versions(2)}, Order{Kind: OrderRollback}, ErrNoPrevious)
	refused(idle, Order{Kind: OrderRollback, Number: "1.9.0"}, ErrNoPrevious)
	refused(idle, Order{Kind: "shutdown"}, ErrOrder)
	refused(idle, Order{Kind: OrderPin, Number: strings.Repeat("1", 200)}, ErrOrder)
	refused(State{Phase: journal.Idle}, Order{Kind: OrderPin}, ErrNothing)

	chain := idle
	chain.Good, chain.Held = versions(3, 2, 1), []journal.Mark{mark(2)}
	if got := do(chain, Order{Kind: OrderRollback}); *got.Candidate != version(1) {
		t.Errorf("went back to a version that is held: %s", got.Candidate.Number)
	}
	chain.Held = nil
	if got := do(chain, Order{Kind: OrderRollback, Number: "1.1.0"}); *got.Candidate != version(1) {
		t.Errorf("went back to %s", got.Candidate.Number)
	}
	back := do(chain, Order{Kind: OrderRollback})
	refused(back, Order{Kind: OrderRollback}, ErrNothing)
	if got := do(back, Order{Kind: OrderPause}); got.Phase != journal.Warming {
		t.Errorf("a pause stopped a way back")
	}
	marked := idle
	marked.Held, marked.Quarantine = []journal.Mark{mark(3), mark(4)}, []journal.Mark{mark(3), mark(5)}
	if got := do(marked, Order{Kind: OrderClear, Number: "1.3.0"}); len(got.Held) != 1 || len(got.Quarantine) != 1 || len(marked.Held) != 2 || marked.Held[0] != mark(3) {
		t.Errorf("cleared: %+v, of %+v", got, marked)
	}
	if got := do(marked, Order{Kind: OrderClear}); len(got.Held)+len(got.Quarantine) != 0 {
		t.Errorf("cleared all: %+v", got)
	}
	fetching := at(journal.Fetching)
	if got := do(fetching, Order{Kind: OrderUpdate, Now: true}); *got.Want != (journal.Want{Number: "1.3.0", Newest: true, Now: true}) {
		t.Errorf("the order is not bound to the candidate: %+v", got.Want)
	}
	failed := idle
	failed.Reason = "exit code 2"
	if got := do(failed, Order{Kind: OrderUpdate}); got.Reason != "" {
		t.Errorf("an order has the reason of the update before it: %q", got.Reason)
	}
	superseded := &turned{journal.Superseded, errors.New("1.4.0 is newer")}
	if got := fail(do(fetching, Order{Kind: OrderUpdate, Now: true}), superseded, edge); got.Want == nil || *got.Want != (journal.Want{Now: true}) {
		t.Errorf("an order for the newest is not one for what takes its place: %+v", got.Want)
	}
	if got := fail(do(fetching, Order{Kind: OrderUpdate, Number: "1.3.0"}), superseded, edge); got.Want != nil {
		t.Errorf("an order for one version outlived it: %+v", got.Want)
	}
	if got := do(do(fetching, Order{Kind: OrderUpdate, Now: true}), Order{Kind: OrderPause}); got.Want == nil || got.Want.Now {
		t.Errorf("an order before a pause skips it: %+v", got.Want)
	}
	if got := do(fetching, Order{Kind: OrderUpdate, Number: "1.4.0"}); got.Verdict != journal.Superseded || got.Want.Number != "1.4.0" {
		t.Errorf("superseded: %+v", got)
	}
	if got := do(do(idle, Order{Kind: OrderPause}), Order{Kind: OrderResume}); got.Pause != nil {
		t.Error("still paused")
	}
	if got := do(do(idle, Order{Kind: OrderPin}), Order{Kind: OrderUnpin}); got.Pin != nil {
		t.Error("still pinned")
	}
	if got := do(idle, Order{Kind: OrderPin}); got.Pin.Number != "1.2.0" {
		t.Errorf("pinned to %q", got.Pin.Number)
	}
}

// Whatever is heaped on a State, its lists stay bounded and it fits the journal.
func TestStateIsBounded(t *testing.T) {
	st := at(journal.Warming)
	hostile := strings.Repeat("<\"\\\x00&é\u2028", 1000)
	for n := range 200 {
		v := version(n + 10)
		v.Number = strings.Repeat("9", 100)
		st.Candidate = &v
		st.Verdict = journal.None
		st = condemn(st, journal.Bad, journal.Mark{Config: strings.Repeat("c", 64), Reason: hostile, At: time.Now()})
		st.Verdict = journal.None
		st = condemn(st, journal.Operator, journal.Mark{Reason: hostile, At: time.Now()})
	}
	if len(st.Quarantine) != maxMarks || len(st.Held) != maxMarks || !is(*st.Candidate)(Version{Digest: st.Held[maxMarks-1].Digest}) {
		t.Errorf("%d in quarantine, %d held", len(st.Quarantine), len(st.Held))
	}
	for n := range 20 {
		v := version(n + 300)
		st.Candidate = &v
		st = commit(st)
	}
	if len(st.Good) != maxGood || st.Good[0] != version(319) || st.Good[1] != version(318) || st.HighWater != 319 {
		t.Errorf("good: %+v", st.Good)
	}
	st.Phase, st.Reason = journal.Idle, plain(hostile)
	for _, o := range []Order{{Kind: OrderPin, Number: strings.Repeat("&", maxNumber), Reason: hostile}, {Kind: OrderPause, Reason: hostile}, {Kind: OrderUpdate, Number: strings.Repeat("<", maxNumber)}} {
		var err error
		st, err = apply(st, o, edge)
		must(t, err)
	}
	w := newWorld(t, []int{1}, nil)
	j, _ := w.open()
	if err := j.Save(st); err != nil {
		t.Error(err)
	}
}

// A way back that fails leaves the version that was to be left as it was.
func TestRollbackThatFails(t *testing.T) {
	st, err := apply(at(journal.Idle), Order{Kind: OrderRollback}, edge)
	must(t, err)
	st = follow(st, clone(st), Bad(errors.New("exit code 2")), edge)
	st = follow(st, clone(st), nil, edge)
	if st.Phase != journal.Idle || st.Good[0] != version(2) || len(st.Good) != 1 || len(st.Held) != 0 || !slices.ContainsFunc(st.Quarantine, marks(version(1))) {
		t.Errorf("%+v", st)
	}
}

func TestEvidenceIsBounded(t *testing.T) {
	e := Evidence{Exit: strings.Repeat("x", 9999), Output: strings.Repeat("a", 99999) + "last words", Probes: make([]string, 999)}
	e.Probes[998] = strings.Repeat("p", 9999)
	b := e.bounded()
	if len(b.Exit) != maxLine || len(b.Output) != maxOutput || !strings.HasSuffix(b.Output, "last words") || len(b.Probes) != maxProbes || len(b.Probes[maxProbes-1]) != maxLine {
		t.Errorf("%d %d %d", len(b.Exit), len(b.Output), len(b.Probes))
	}
}
