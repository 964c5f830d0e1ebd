package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// Pauses before a serving version that died is started again: at once the first time, then payload.restart_pause,
// by default firstPause, doubling up to lastPause. A process that lived for steadyLife starts the count anew.
const (
	firstPause = 5 * time.Second
	lastPause  = 5 * time.Minute
	steadyLife = time.Minute
)

// crashLoop is how many processes of a version end in a row, each before steadyLife, until payload.crash_loop
// decides: with firstPause about half a minute after the first. An order that the engine refused is repeated after as many more.
const crashLoop = 5

// falls counts the ends in a row of the processes of one version.
type falls struct {
	digest string
	row    int
	told   int       // the row at which payload.crash_loop was asked last
	vain   error     // of the last start, which made no process
	due    time.Time // when the next process may be started
}

// add counts one more end, at now, of a process of that version which lived so long; first is the pause to begin with.
func (f *falls) add(digest string, lived, first time.Duration, now time.Time) {
	if f.digest != digest || lived >= steadyLife {
		*f = falls{digest: digest}
	}
	f.row++
	f.due, f.vain = now, nil
	if f.row > 1 {
		f.due = now.Add(min(first<<min(f.row-2, 20), lastPause))
	}
}

// looping says, once for every crashLoop ends, that starting it again does not help.
func (f *falls) looping() bool {
	if f.row-f.told < crashLoop {
		return false
	}
	f.told = f.row
	return true
}

// excuse keeps the pause of what was added last, and holds it against nobody.
func (f *falls) excuse() { f.told++ }

// watch begins to wait for m's end and to hear what it wants.
func (s *site) watch(m *member) {
	s.wg.Go(func() { s.await(m) })
	s.wg.Go(func() { s.desk(m) })
}

// await waits for the end of m's process, enters it in the books and wakes the keeper.
func (s *site) await(m *member) {
	select {
	case <-m.proc.Done():
	case <-s.life.Done(): // a closed site looks after nobody
		return
	}
	exit := m.proc.Exit()
	ev := s.evidence(m, exit.String())
	s.mu.Lock()
	s.forget(m, ev)
	unasked := !m.asked && !s.closing
	if unasked && s.serving.Digest == m.version.Digest {
		s.falls.add(m.version.Digest, exit.At.Sub(m.proc.Began()), s.cfg.Payload.RestartPause, time.Now())
	}
	s.mu.Unlock()
	if unasked {
		s.event("exit", m.version, "%s", exit)
	}
	s.detach(m)
	s.wake()
}

// forget drops m from the books and keeps its evidence; s.mu is held.
func (s *site) forget(m *member, ev updater.Evidence) {
	if s.members[m.version.Digest] == m {
		delete(s.members, m.version.Digest)
	}
	for i, l := range s.leaving {
		if l == m {
			s.leaving = append(s.leaving[:i:i], s.leaving[i+1:]...)
			break
		}
	}
	for digest := range s.dead {
		if len(s.dead) < maxDead {
			break
		}
		delete(s.dead, digest)
	}
	s.dead[m.version.Digest] = ev
}

func (s *site) wake() {
	select {
	case s.ended <- struct{}{}:
	default: // it has to look already
	}
}

// keeper makes something serve again whenever the version that should has no process that does.
func (s *site) keeper() {
	for {
		var again <-chan time.Time
		if pause := s.care(); pause > 0 {
			again = time.After(pause)
		}
		select {
		case <-s.upkeep.Done():
			return
		case <-s.ended:
		case <-again:
		}
	}
}

// care does what is due and returns when to look again, 0 if only something that happens calls for it.
func (s *site) care() time.Duration {
	v, looping, pause := s.bereft()
	if looping {
		s.wg.Go(func() { s.leave(v) })
	}
	if v.Digest == "" || pause > 0 {
		return pause
	}
	ctx, done := s.attempting(v)
	if ctx == nil {
		return 0 // the engine decides, and wakes us when it has
	}
	defer done()
	err := s.revive(ctx, v)
	switch {
	case ctx.Err() != nil:
		return 0 // as above
	case err == nil:
		return firstPause // it may not be able to take connections yet
	}
	s.event("alarm", v, "cannot be started again: %v", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.falls.add(v.Digest, 0, s.cfg.Payload.RestartPause, time.Now())
	s.falls.vain = err
	if errors.As(err, new(unmade)) {
		s.falls.excuse()
	}
	return time.Millisecond // to see how long to wait, and to let nobody else wait so long
}

// bereft returns the version that should serve and does not, zero if all is well or the spare has taken over,
// and how long to wait before it is started again. It waits for the end of a switch under way.
func (s *site) bereft() (v journal.Version, looping bool, pause time.Duration) {
	s.traffic.Lock()
	defer s.traffic.Unlock()
	v = s.served()
	if v.Digest == "" || s.upkeep.Err() != nil || s.accepts(s.living(v)) || s.takeOver() {
		return journal.Version{}, false, 0
	}
	s.mu.Lock()
	m := s.members[v.Digest]
	booked := m == nil || m.alive()
	if booked && s.falls.digest == v.Digest {
		looping, pause = s.falls.looping(), max(0, time.Until(s.falls.due))
	}
	s.mu.Unlock()
	if !booked { // its end counts, and is about to be entered by await, which wakes the keeper then
		return journal.Version{}, false, 0
	}
	s.divert(pause == 0)
	return v, looping, pause
}

// leave goes by payload.crash_loop with a version that does not stay up: back to the one before, which is an
// update like any other, or on as it is.
func (s *site) leave(v journal.Version) {
	why := fmt.Sprintf("%d processes in a row ended within %s", crashLoop, steadyLife)
	if s.cfg.Payload.CrashLoop == "stay" {
		s.event("alarm", v, "%s; it is started again all the same, since payload.crash_loop is \"stay\": publish one that works, or roll back", why)
		return
	}
	s.event("alarm", v, "%s; going back to the version before it", why)
	err := s.order(s.upkeep, updater.Order{Kind: updater.OrderRollback, Leaves: v.Digest, Reason: why})
	if err != nil && s.upkeep.Err() == nil && !errors.Is(err, updater.ErrNothing) {
		s.event("alarm", v, "%s, and there is no way back: %v", why, err)
	}
}
