package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// exchange is Switch for programs that cannot run beside their predecessor: new connections wait while the
// old one finishes and ends and the new one starts. If the new one fails, the old one is what should serve
// still, and the keeper starts it at once; those who wait are answered by it.
func (s *site) exchange(ctx context.Context, to journal.Version) error {
	s.traffic.Lock()
	defer s.traffic.Unlock()
	if m := s.living(to); s.accepts(m) && len(s.others(m)) == 0 {
		return nil
	}
	wait := s.ready
	if s.isServing(to) || s.isSpare(to) { // the way back: how healthy it is does not matter
		wait = s.able
	}
	begun := time.Now()
	s.hold()
	err := s.replace(ctx, to, wait)
	w := s.let()
	if err != nil {
		return err
	}
	if w.longest == 0 && w.held > 0 { // the kernel does not say since when
		w.longest = time.Since(begun)
	}
	s.measured("switch", to, figures{"held": float64(w.held), "longest_hold_ms": millis(w.longest), "switch_ms": millis(time.Since(begun))},
		"takes new connections after %s: held %d, longest_hold %s, refused %d", time.Since(begun).Round(time.Millisecond), w.held, w.longest.Round(time.Millisecond), w.refused)
	return nil
}

// replace ends every other version and makes v take new connections once wait says that it can. s.traffic is
// held.
func (s *site) replace(ctx context.Context, v journal.Version, wait func(context.Context, *member) error) error {
	for _, o := range s.others(s.living(v)) {
		if err := s.park(ctx, o); err != nil {
			return err
		}
		s.finish(s.life, o) // a stop of the launcher does not shorten it: it would end the same way
		s.avert(o)
		if o.alive() {
			return fmt.Errorf("%s, pid %d, survives being killed, and nothing may run beside it: look what it waits for in the kernel", o.name(), o.proc.PID())
		}
	}
	m, err := s.start(ctx, v)
	if err != nil {
		return err
	}
	if err := wait(ctx, m); errors.Is(err, errGone) {
		return updater.Bad(err)
	} else if err != nil {
		return err
	}
	s.waited()
	return s.move(ctx, m)
}

// waits is what an exchange cost the clients.
type waits struct {
	held    int           // connections that waited
	longest time.Duration // of their waits
	refused uint64        // of them, reset because nobody answered
}

// hold makes new connections wait behind the proxies; in handoff mode they do when nobody accepts.
func (s *site) hold() {
	s.waits = waits{}
	for _, p := range s.proxies {
		s.waits.refused -= p.Counts().Failed // let adds what it is then
		p.Hold()
	}
}

// waited counts what waits in the kernel at the moment before somebody accepts again.
func (s *site) waited() {
	for _, l := range s.sockets {
		s.waits.held += l.Backlog()
	}
}

// let ends the hold and says what it cost.
func (s *site) let() waits {
	w := s.waits
	if s.proxies != nil {
		w.held = 0 // the proxies know better
	}
	for _, p := range s.proxies {
		cost := p.Release()
		w.held += cost.Held
		w.longest = max(w.longest, cost.Longest)
		w.refused += p.Counts().Failed
	}
	return w
}
