package main

import (
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// garbage is a version that was sealed once and never served.
const garbage = "0.9.0"

// course is an update with one end, wherever it is cut.
type course struct {
	name     string
	editions []edition // oldest first
	good     []string  // of them, the active one first
	rollback bool      // by order
	ends     string    // the version that is active then
	over     func(journal.State) bool
	length   int // in operations, about
}

func newCourse(name, newest, ends string, offered bool, length int, over func(journal.State) bool) course {
	return course{name: name, good: []string{"1.1.0", "1.0.0"}, ends: ends, over: over, rollback: !offered, length: length,
		editions: []edition{{garbage, "app", false}, {"1.0.0", "app", false}, {"1.1.0", "app", true}, {"1.2.0", newest, offered}}}
}

var courses = []course{
	newCourse("update", "app", "1.2.0", true, 170, func(st journal.State) bool { return len(st.Quarantine) == 0 }),
	newCourse("failing candidate", "die-on-accept", "1.1.0", true, 170, func(st journal.State) bool {
		return len(st.Quarantine) == 1 && st.Quarantine[0].Number == "1.2.0"
	}),
	newCourse("order to roll back", "app", "1.0.0", false, 70, func(st journal.State) bool {
		return len(st.Held) == 1 && st.Held[0].Number == "1.1.0"
	}),
}

// cutKind is what is lost when everything stops.
type cutKind int

const (
	power    cutKind = iota // every process, and bytes that were not synced
	launcher                // the launcher alone: payloads live, and bytes are kept
	engine                  // the engine alone panics, and is begun again in the same launcher
)

func (k cutKind) String() string { return [...]string{"power", "launcher", "engine"}[k] }

// errCut is what an engine panics with.
var errCut = errors.New("cut")

// panics makes an engine panic at each of these cuts, and the next one only when it has been begun again: what a panic
// still undoes on its way is no recovery. It returns how many are to come.
func (m *machine) panics(cuts []cutAt) (left func() int) {
	var mu sync.Mutex
	cuts = slices.Clone(cuts)
	m.falling.Store(false)
	m.disk.Fail(func(durabletest.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if len(cuts) == 0 || m.falling.Load() || !inEngine() {
			return nil
		}
		if cuts[0].op--; cuts[0].op < 0 {
			cuts = cuts[1:]
			m.falling.Store(true)
			panic(errCut)
		}
		return nil
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(cuts)
	}
}

// inEngine says whether the engine's own goroutine asks.
func inEngine() bool {
	callers := make([]uintptr, 100)
	frames := runtime.CallersFrames(callers[:runtime.Callers(1, callers)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "updater.(*Updater).Run") {
			return true
		}
		if !more {
			return false
		}
	}
}

var (
	every   = flag.Int("every", 1, "cut at one of so many operations")
	cutSeed = flag.Uint64("cutseed", 1, "seed of what a power cut leaves and of where second cuts come")
)

// steps is the distance between two operations that are cut.
func steps() int {
	if testing.Short() {
		return 25
	}
	return *every
}

// The linked launcher (its site, its processes and their records, its engine, journal, store and feed) goes through an
// update, a failing candidate and a rollback over a disk in memory, with real payloads, and the power fails at every
// operation. Launchers and engines are cut at every one in TestLauncherCutInRecovery.
func TestLauncherCutAtEveryOperation(t *testing.T) {
	eachCourse(t, power.String(), func(m *machine, _ *rand.Rand) {
		for k := 0; m.trial(cutAt{power, k}) == 1; k += steps() {
		}
	})
}

func eachCourse(t *testing.T, name string, do func(m *machine, rng *rand.Rand)) {
	debug.SetGCPercent(400) // a tenth of the time
	for i, c := range courses {
		t.Run(c.name+"/"+name, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, c)
			do(m, rand.New(rand.NewPCG(*cutSeed, uint64(i))))
			t.Logf("%d trials", m.trials)
		})
	}
}

// cutAt is a cut before an operation, counted from 0 and from the cut before it.
type cutAt struct {
	kind cutKind
	op   int
}

// trial cuts the power, launchers or at last engines, and lets the last launcher bring the course to its end. It says
// how many of the cuts came before that.
func (m *machine) trial(cuts ...cutAt) (done int) {
	mix := uint64(m.start.op)
	for _, c := range cuts {
		mix = mix<<20 ^ uint64(c.kind)<<16 ^ uint64(c.op)
	}
	rng := rand.New(rand.NewPCG(*cutSeed, mix))
	seed := rng.Uint64N(durabletest.Seeds)
	defer func() {
		if m.t.Failed() {
			m.t.Fatalf("from operation %d (seed %d), cut at %v (seed %d), -cutseed %d:\n%s", m.start.op, m.start.seed, cuts, seed, *cutSeed, m.story())
		}
	}()
	defer m.lose()
	m.trials++
	m.begin()
	for i, c := range cuts {
		if c.kind == engine {
			left := m.panics(cuts[i:])
			m.settle()
			return len(cuts) - left()
		}
		how := durabletest.Lost // to cut before an operation is to lose the answer of the one before
		if c.kind == power && rng.IntN(2) == 0 {
			how = durabletest.Torn
		}
		m.disk.CutAt(c.op, how)
		l := m.launch()
		if !l.live() {
			m.inspect(l)
			return i
		}
		m.fall(l, c.kind, seed)
	}
	m.shoot(m.disk)
	m.settle()
	return len(cuts)
}

// settle lets a launcher bring the course to its end.
func (m *machine) settle() {
	l := m.launch()
	l.live()
	m.inspect(l)
}

// fall is the moment after a cut: what must hold then does.
func (m *machine) fall(l *life, kind cutKind, seed uint64) {
	served := l.serving()
	m.disk = l.die()
	if kind == power {
		m.lose()
		m.disk = m.disk.Crash(seed)
	}
	st := m.legal()
	if kind != launcher || !served {
		return
	}
	may := []string{st.Good[0].Number}
	switch st.Phase {
	case journal.Switching, journal.Probation, journal.Reverting:
		if m.name == "failing candidate" { // it may be dead, and nobody is there to notice
			return
		}
		may = append(may, st.Candidate.Number)
	}
	if got, err := m.answer(); err != nil || !slices.Contains(may, got) {
		m.t.Errorf("without a launcher, in %s: %q, %v answers, should be %v", st.Phase, got, err, may)
	}
}

// serving says whether this launcher has brought a version to serve.
func (l *life) serving() bool {
	select {
	case <-l.up:
	default:
		return false
	}
	select {
	case <-l.site.serves:
		return true
	default:
		return false
	}
}

// legal checks what must hold of the disk at any moment.
func (m *machine) legal() journal.State {
	m.t.Helper()
	look := m.disk.Kill()
	st, _, err := journal.Read(look, m.cfg.stateFile("journal"))
	if err != nil {
		m.t.Fatalf("the journal is lost: %v", err)
	}
	if st.Phase != journal.Idle && st.Phase != journal.Retiring && st.Candidate == nil {
		m.t.Errorf("%s without a candidate", st.Phase)
	}
	if len(st.Good) == 0 || st.Good[0].Number != m.good[0] && st.Good[0].Number != m.ends {
		m.t.Errorf("active: %+v", st.Good)
	}
	if err := m.whole(look, st.Good...); err != nil {
		m.t.Errorf("not whole in %s: %v", st.Phase, err)
	}
	return st
}

// inspect checks where the machine came to rest, and ends its last launcher.
func (m *machine) inspect(l *life) {
	m.t.Helper()
	if m.t.Failed() {
		l.die()
		return
	}
	for range 3 {
		if got, err := m.answer(); err != nil || got != m.ends {
			m.t.Errorf("%q, %v answers, should be %s", got, err, m.ends)
		}
	}
	if p := l.site.living(m.version(m.ends)); p == nil {
		m.t.Errorf("%s does not run", m.ends)
	} else {
		if pids := m.processes(); len(pids) != 1 || pids[0] != p.proc.PID() {
			m.t.Errorf("%v live, should be %d", pids, p.proc.PID())
		}
		m.owners(p.proc.Fence())
	}
	m.disk = l.die()
	if st := m.legal(); st.Candidate != nil || st.Clean || st.Want != nil {
		m.t.Errorf("not at rest: %+v", st)
	}
	for _, v := range m.list {
		kept := m.whole(m.disk.Kill(), v) == nil
		if was := slices.Contains(m.good, v.Number) || v.Number == m.ends; was && !kept {
			m.t.Errorf("%s is not kept", v.Number)
		}
		if v.Number == garbage && kept && !m.rollback { // which collects nothing that it needs no room for
			m.t.Errorf("%s is kept", garbage)
		}
	}
}

// owners checks that work under the lease had one owner at a time, with a greater number each; the last one, which was
// just told, is still to write.
func (m *machine) owners(last uint64) {
	m.t.Helper()
	for limit := time.Now().Add(cutLimit); ; time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(m.lease())
		m.must(err)
		before := uint64(0)
		for line := range strings.Lines(string(b)) {
			n, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
			if err != nil || n <= before {
				m.t.Fatalf("the owners wrote %q", b)
			}
			before = n
		}
		if before == last {
			return
		}
		if time.Now().After(limit) {
			m.t.Fatalf("the last owner has fence %d, they wrote %q", last, b)
		}
	}
}
