package updater

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// boot begins the launcher, or its engine after it panicked, and says whether a cut ended it.
func (s *sim) boot(cutAt int) (cut bool) {
	was := s.kind
	s.kind = cutKind(s.rng.IntN(3))
	how := []durabletest.Cut{durabletest.Lost, durabletest.Torn}[s.rng.IntN(2)]
	if s.kind != power {
		how = durabletest.Lost
	}
	s.checks, s.sawYank = 0, map[string]bool{}
	s.cut.left, s.cut.how, s.cut.power, s.cut.dead = cutAt, how, s.kind == power, false
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	s.cancel = cancel
	cut, err := live(func() error {
		if s.u == nil || was != engine || !s.wasCut {
			s.u, s.asked = nil, nil
			s.u = s.updater()
		}
		return s.u.Run(ctx)
	})
	if !cut && !errors.Is(err, context.Canceled) {
		s.t.Errorf("the engine gave up: %v", err)
	}
	s.wasCut = cut
	if !cut {
		if kept, err := s.u.Journal.Load(); err != nil || !reflect.DeepEqual(kept, s.state()) {
			s.t.Errorf("the journal remembers %+v and holds %+v (%v)", kept, s.state(), err)
		}
		s.answers(false)
		s.lost = false
	}
	return cut
}

// answers holds what operators were answered against the journal. An order without an answer, when the launcher
// died, may have been carried out or not.
func (s *sim) answers(cut bool) {
	st, open := s.held(), s.asked[:0]
	unknown := false
	for _, r := range s.asked {
		select {
		case err := <-r.done:
			if err != nil {
				s.note("%s was refused: %v", r.order.Kind, err)
				if !errors.Is(err, ErrNothing) && !errors.Is(err, ErrNoPrevious) {
					s.doubt = true
				}
				continue
			}
			s.ordered[r.order.Kind]++
			switch r.order.Kind {
			case OrderPause, OrderResume:
				s.paused = r.order.Kind == OrderPause
			case OrderPin, OrderUnpin:
				s.pinned = r.order.Kind == OrderPin
			}
		default:
			open, unknown = append(open, r), true
		}
	}
	s.asked = open
	if s.doubt || s.lost || unknown && cut { // what is seen now may not be synced yet
		s.doubt = cut
		s.paused, s.pinned = st.Pause != nil, st.Pin != nil
	}
	if s.paused != (st.Pause != nil) || s.pinned != (st.Pin != nil) {
		s.t.Errorf("answered paused %v and pinned %v, the journal has %+v", s.paused, s.pinned, st)
	}
}

// held is the state that the next engine begins with: that of the journal's own memory, if only the engine panicked,
// and what is proven while no slot of the journal is whole.
func (s *sim) held() State {
	st, _, err := journal.Read(s.disk, "journal")
	if s.kind == engine && s.wasCut && s.u != nil {
		st, err = s.u.Journal.Load()
	}
	if s.lost && (errors.Is(err, journal.ErrDamaged) || errors.Is(err, journal.ErrEmpty)) { // empty: half made anew
		_ = s.whole(version(1)) // opens the store
		return New(Parts{Store: s.look}).rebuilt()
	}
	must(s.t, err)
	return st
}

// recover makes the machine what is found after a cut, and checks what must hold at any moment.
func (s *sim) recover() {
	s.cuts++
	s.disk.Fail(nil)
	if s.kind == power {
		s.disk = s.disk.Crash(s.rng.Uint64N(durabletest.Seeds))
		s.cut.Disk = s.disk
		s.procs = map[string]*proc{}
	}
	s.cut.left, s.cut.dead = 0, false
	if s.kind != engine && s.one(15) {
		s.rotJournal(s.one(500))
	}
	st := s.held()
	s.note("cut (%d), found in %s", s.kind, st.Phase)
	s.legal(st)
	s.answers(true)
	if s.kind != power && len(s.procs) > 0 && len(s.serving()) == 0 {
		s.t.Errorf("nobody accepts connections in %s: %v", st.Phase, s.Running())
	}
}

// rotJournal damages the older slot, which costs nothing but garbage, or both: then what is proven serves, and what
// operators and verdicts have said is forgotten.
func (s *sim) rotJournal(both bool) {
	_, seq, err := journal.Read(s.disk, "journal")
	if err != nil {
		return // it is damaged already
	}
	for i := range 2 {
		name := fmt.Sprintf("journal/slot%d", i)
		b, err := durable.ReadFile(s.disk, name, 1<<20)
		must(s.t, err)
		if both || !strings.Contains(string(b[:80]), fmt.Sprintf(" seq=%d ", seq)) {
			must(s.t, durable.WriteFile(s.disk, name, make([]byte, len(b)), 0o600))
		}
	}
	s.note("journal damaged, both slots: %v", both)
	s.journals++
	if both {
		s.lost, s.mark = true, 0
	}
}

// legal checks what must hold of a state and the disk under it at any moment.
func (s *sim) legal(st State) {
	if st.Phase != journal.Idle && st.Phase != journal.Retiring && st.Candidate == nil {
		s.t.Errorf("%s without a candidate", st.Phase)
	}
	if len(st.Good) == 0 || len(st.Good) > maxGood {
		s.t.Errorf("good are %+v", st.Good)
	}
	for _, v := range st.Good {
		if err := s.whole(v); err != nil && !s.rotten[v.Number] {
			s.t.Errorf("%s is good and not whole: %v", v.Number, err)
		}
		if s.bad[v.Number] {
			s.t.Errorf("%s is bad and good: %+v", v.Number, st)
		}
	}
	for _, m := range st.Quarantine {
		if !s.bad[m.Number] && !s.rotten[m.Number] && !strings.Contains(m.Reason, errCrashLoop.Error()) {
			s.t.Errorf("%s is in quarantine and works: %+v", m.Number, m)
		}
	}
	if st.HighWater < s.mark {
		s.t.Errorf("high water %d, was %d", st.HighWater, s.mark)
	}
	s.mark = st.HighWater
}

// end checks how an update ended.
func (s *sim) end(e Entry) {
	s.ends[e.Outcome]++
	st := s.state()
	s.note("end: %s %s from %s: %s", e.Outcome, e.To, e.From, e.Reason)
	if st.Phase != journal.Idle || len(st.Good) == 0 {
		return // an order took its place
	}
	active := st.Good[0].Number
	switch e.Outcome {
	case Committed:
		if active != e.To {
			s.t.Errorf("%s was committed, %s is active", e.To, active)
		}
	case RolledBack, Discarded:
		if active != e.From && !s.rotten[e.From] {
			s.t.Errorf("%s from %s to %s: %s is active", e.Outcome, e.From, e.To, active)
		}
	default:
		if !slices.ContainsFunc(st.Good, func(v Version) bool { return s.rotten[v.Number] }) {
			s.t.Errorf("%s on the way from %s to %s, with every version whole", e.Outcome, e.From, e.To)
		}
	}
}

// inspect checks where the machine came to rest when nothing disturbed it any more.
func (s *sim) inspect() {
	st := s.state()
	s.legal(st)
	if s.t.Failed() {
		return
	}
	active := st.Good[0]
	switch {
	case st.Phase != journal.Idle || st.Candidate != nil || st.Clean || st.Want != nil:
		s.t.Errorf("not at rest: %+v", st)
	case !slices.Equal(s.serving(), []string{active.Number}):
		s.t.Errorf("%v accept connections, %s is active", s.serving(), active.Number)
	case len(s.Running()) != 1:
		s.t.Errorf("%v run", s.Running())
	}
	for _, o := range slices.Backward(s.offers) { // the newest first: it alone is chosen
		v := version(int(o.Epoch))
		turned := slices.ContainsFunc(st.Quarantine, marks(v)) || slices.ContainsFunc(st.Held, marks(v))
		free := st.Pause == nil && (st.Pin == nil || st.Pin.Number == o.Number)
		if free && !turned && o.Yanked == "" && o.Epoch > active.Epoch && o.Epoch >= st.HighWater {
			if !s.stuck[o.Number] {
				s.t.Errorf("%s is offered and stays out, %s is active: %+v", o.Number, active.Number, st)
			}
			break
		}
	}
}
