package e2e

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// A storm kills launchers, or payloads, over and over in the middle of updates, while clients are at work. After
// each death the service is up, the journal is legal, the update comes to the end that it would have come to,
// and there is one payload process, of the right version.

// stormProgram is a launcher that can be told to die at a point: see launcher/fault_kill.go.
var stormProgram = sync.OnceValues(func() (string, error) {
	out := filepath.Join(programs.Dir, "mortal")
	return out, stage.BuildMortal(out, "linux")
})

// storm is one host in it.
type storm struct {
	*stage.Stage
	kind    kind
	machine *stage.Machine // of a launcher for Windows
	plan    string         // the file that says where to die
	load    *load.Load

	active string         // at the end of the last round
	seen   map[string]int // answers of each version by then

	releases, rounds, deaths int
}

// move is one order and where it ends.
type move struct {
	verb string
	req  control.Request
	to   string // what it leads to, or tries to
	ends func(active string, turned []journal.Mark) bool
}

func onVersion(number string) func(string, []journal.Mark) bool {
	return func(active string, _ []journal.Mark) bool { return active == number }
}

// The moves of a storm: 1.1.0 is good, 1.2.0 fails its probes as soon as it serves. All ends are in idle.

func forward() move {
	return move{"update", control.Request{Version: "1.1.0", Now: true}, "1.1.0", onVersion("1.1.0")}
}

func back() move { return move{"rollback", control.Request{}, "1.0.0", onVersion("1.0.0")} }

func astray() move {
	return move{"update", control.Request{Version: "1.2.0", Now: true}, "1.2.0", func(_ string, turned []journal.Mark) bool {
		return slices.ContainsFunc(turned, func(m journal.Mark) bool { return m.Number == "1.2.0" })
	}}
}

func (h *storm) order(t *testing.T, verb string, req control.Request) {
	t.Helper()
	if err := h.Client().Order(t.Context(), verb, req); err != nil && !h.Dead() {
		eventually(t, "the launcher that did not answer is dead: "+err.Error(), h.Dead)
	}
}

// round orders a move of a launcher that will die at a point of it, and says whether it came to that. A death in
// the recovery is planned as well if again is not "".
func (h *storm) round(t *testing.T, m move, point, again string) (died bool) {
	t.Helper()
	h.forget(t)
	h.plans(t, point)
	h.order(t, m.verb, m.req)
	died = point != "" && h.falls(t, m)
	if died {
		h.recovers(t, m, point, again)
	}
	h.settled(t, m, point)
	return died
}

// fresh publishes one more good version, and is the update to it.
func (h *storm) fresh(t *testing.T) func() move {
	b, err := os.ReadFile(example(t, "2.0.999", ""))
	if err != nil {
		t.Fatal(err)
	}
	return func() move {
		h.releases++
		number := fmt.Sprintf("2.0.%d", 100+h.releases)
		file := filepath.Join(t.TempDir(), number)
		if err := os.WriteFile(file, bytes.ReplaceAll(b, []byte("2.0.999"), []byte(number)), 0o755); err != nil {
			t.Fatal(err)
		}
		publish(t, h.Stage, number, file)
		return move{"update", control.Request{Version: number, Now: true}, number, onVersion(number)}
	}
}

// forget lifts what earlier rounds have left against a version.
func (h *storm) forget(t *testing.T) {
	t.Helper()
	if st := status(t, h.Stage); len(st.Quarantine)+len(st.Held) > 0 {
		h.order(t, "quarantine/clear", control.Request{All: true})
	}
}

func (h *storm) plans(t *testing.T, point string) {
	t.Helper()
	if point == "" {
		return
	}
	if err := os.WriteFile(h.plan+".new", []byte(point), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(h.plan+".new", h.plan); err != nil {
		t.Fatal(err)
	}
}

// falls waits until the launcher is dead, or the move is over and it lives.
func (h *storm) falls(t *testing.T, m move) bool {
	t.Helper()
	eventually(t, "the launcher dies or comes to the end of "+m.verb, func() bool { return h.Dead() || h.rests(t, m) })
	if os.Remove(h.plan) == nil && !h.Dead() { // it comes no more
		return false
	}
	eventually(t, "the launcher is dead", h.Dead)
	h.deaths++
	return true
}

// rests says whether the launcher is done with m.
func (h *storm) rests(t *testing.T, m move) bool {
	st, err := h.Client().Status(t.Context())
	return err == nil && st.Phase == journal.Idle && st.Active != nil && m.ends(st.Active.Number, st.Quarantine)
}

// recovers is what must hold while nobody is there, and then the next launcher.
func (h *storm) recovers(t *testing.T, m move, point, again string) {
	t.Helper()
	died := h.Died()
	st := h.legal(t, point)
	h.deserted(t)
	if again != "" {
		h.plans(t, again)
		err := h.Launch(t.Context())
		switch {
		case os.Remove(h.plan) == nil && err == nil: // it got past that point
			h.resumed(t, m, st)
			return
		case !h.Dead():
			eventually(t, "the second launcher is dead", h.Dead)
		}
		h.deaths++
		st = h.legal(t, point+" and "+again)
	}
	h.relaunch(t, died)
	h.resumed(t, m, st)
}

// deserted is what clients meet while there is no launcher: a payload that lives, and was not told to end, answers.
func (h *storm) deserted(t *testing.T) {
	t.Helper()
	flow(t, h.load, 20) // what is lost counts too, and is judged later
	if h.kind.servesOn {
		eventually(t, "a payload serves on, or has ended", func() bool {
			_, err := answer(t.Context(), h.Stage)
			return err == nil || len(h.living(t)) == 0
		})
	}
}

// relaunch starts the next launcher, after one that died at that time.
func (h *storm) relaunch(t *testing.T, died time.Time) {
	t.Helper()
	launch(t, h.Stage)
	if h.kind.outage {
		h.load.Outage(died, time.Now())
	}
}

// resumed gives the order again if the launcher died before it was written down.
func (h *storm) resumed(t *testing.T, m move, st journal.State) {
	t.Helper()
	if st.Phase == journal.Idle && st.Want == nil && !m.ends(st.Good[0].Number, st.Quarantine) {
		h.order(t, m.verb, m.req)
	}
}

// legal reads the journal as a launcher that is dead has left it.
func (h *storm) legal(t *testing.T, point string) journal.State {
	t.Helper()
	st, _, err := journal.Read(durable.OS(), h.journal())
	if err != nil {
		t.Fatalf("after %s: %v", point, err)
	}
	needs := st.Phase != journal.Idle && st.Phase != journal.Retiring
	switch c := st.Candidate; {
	case len(st.Good) == 0, needs != (c != nil), needs && c.Digest == st.Good[0].Digest:
		t.Fatalf("after %s the journal is not legal: %+v", point, st)
	}
	seen := make(map[string]bool)
	for _, v := range st.Good {
		if seen[v.Digest] {
			t.Fatalf("after %s %s is good twice: %+v", point, v.Number, st)
		}
		seen[v.Digest] = true
	}
	return st
}

// settled is what must hold when all is over.
func (h *storm) settled(t *testing.T, m move, point string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the right end of %s %s after %s", m.verb, m.req.Version, point), func() bool { return h.rests(t, m) })
	h.sound(t, point)
	h.only(t, m, point)
}

// only demands that nobody has answered in a move but the version before it and the one that it leads to, and each
// with a whole answer.
func (h *storm) only(t *testing.T, m move, point string) {
	t.Helper()
	r := h.load.Report()
	for v, n := range r.Versions {
		if n > h.seen[v] && v != h.active && v != m.to {
			t.Errorf("after %s %s has given %d answers, in the way from %s to %s", point, v, n-h.seen[v], h.active, m.to)
		}
	}
	if r.Nameless > 0 {
		t.Errorf("by the time of %s %d answers named no version", point, r.Nameless)
	}
	h.seen, h.active = r.Versions, status(t, h.Stage).Active.Number
}

// sound is what must hold whenever no update is under way.
func (h *storm) sound(t *testing.T, point string) {
	t.Helper()
	h.rounds++
	var st control.Status
	eventually(t, "one payload is left, of the active version, and serves, after "+point, func() bool {
		st = status(t, h.Stage)
		if len(st.Processes) != 1 {
			return false
		}
		p := st.Processes[0]
		living := h.living(t)
		alone := slices.Equal(living, []int{p.PID}) || h.machine != nil && len(living) == 1 // Windows has its own numbers
		return p.Number == st.Active.Number && p.State == "accepting" && alone
	})
	text, err := answer(t.Context(), h.Stage)
	if err != nil {
		t.Errorf("after %s nobody answers: %v", point, err)
	}
	says(t, text, fmt.Sprintf(`"pid":%d,"version":"%s"`, st.Processes[0].PID, st.Active.Number))
	flow(t, h.load, 10)
	if t.Failed() {
		t.FailNow()
	}
}

// living is every process of a version, by what Linux says of it: of its mark, or where Windows keeps that of its program.
func (h *storm) living(t *testing.T) (pids []int) {
	t.Helper()
	all := running(t, h.Stage)
	if h.machine != nil {
		all = programsBelow(t, h.State()+"/store/")
	}
	for name, command := range all {
		if pid, err := strconv.Atoi(name); err != nil {
			t.Fatal(err)
		} else if command != "" { // else it is about to end
			pids = append(pids, pid)
		}
	}
	return pids
}

// programsBelow is the command of every process whose program is in a folder of Linux, by its number.
func programsBelow(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, _ := os.ReadFile(name) // it may just have ended
		program, _, _ := strings.Cut(string(b), "\x00")
		if strings.Contains(strings.ReplaceAll(program, "\\", "/"), dir) {
			all[filepath.Base(filepath.Dir(name))] = program
		}
	}
	return all
}

// unhurt demands that no client lost anything so far.
func (h *storm) unhurt(t *testing.T, point string) {
	t.Helper()
	r := h.load.Report()
	if nothingLost(t, r); r.StreamsCut > 0 {
		t.Errorf("%d streams were cut without a word", r.StreamsCut)
	}
	if t.Failed() {
		t.Fatalf("by the time of %s", point)
	}
}

// until walks through the points of a phase, move after move, until one is not reached.
func (h *storm) until(t *testing.T, phase journal.Phase, moves ...func() move) {
	t.Helper()
	h.upTo(t, math.MaxInt, phase, moves...)
}

// upTo is until for the first points of a phase.
func (h *storm) upTo(t *testing.T, most int, phase journal.Phase, moves ...func() move) {
	t.Helper()
	for n := range most {
		point := fmt.Sprintf("%s/%d", phase, n)
		reached := false
		for _, m := range moves { // all of them: they lead back to where we began
			if h.round(t, m(), point, "") {
				reached = true
			}
			h.unhurt(t, point)
		}
		if !reached {
			t.Logf("%s: %d points, %d requests so far", phase, n, h.load.Report().Requests)
			return
		}
	}
}

func (h *storm) journal() string { return filepath.Join(h.State(), "journal") }

// over tells what a storm was.
func (h *storm) over(t *testing.T) {
	t.Helper()
	r := h.load.Stop()
	t.Logf("%d rounds, %d deaths, %d requests: %d refused, %d failed, %d retryable, %d cut by a crash, %d streams cut, %d lost while there was no launcher",
		h.rounds, h.deaths, r.Requests, r.Refused, r.Failed, r.Retryable, r.CutByCrash, r.StreamsCut, r.Outage)
}

// random kills in so many moves, within that time of the order, and the next launcher too every other time.
func (h *storm) random(t *testing.T, rounds int, within time.Duration, dies func()) {
	t.Helper()
	rng := seeded(t)
	for range rounds {
		m := forward()
		switch {
		case rng.IntN(4) == 0:
			m = astray()
		case h.rests(t, m):
			m = back()
		}
		h.forget(t)
		h.order(t, m.verb, m.req)
		for n := range 1 + rng.IntN(2) {
			after := rng.N(within / time.Duration(2*n+1))
			stage.Wait(t.Context(), after)
			dies()
			h.deaths++
			died := h.Died()
			st := h.legal(t, after.String())
			h.deserted(t)
			h.relaunch(t, died)
			h.resumed(t, m, st)
		}
		h.settled(t, m, "a kill at random")
		h.unhurt(t, "a kill at random")
	}
}
