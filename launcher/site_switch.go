package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/relay"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// abortLimit is how long the end of a killed process may take.
const abortLimit = 5 * time.Second

// Warm starts v beside the version that serves and waits until it is healthy. A program that cannot run
// beside its predecessor is only verified.
func (s *site) Warm(ctx context.Context, v journal.Version) error {
	if s.cfg.Traffic.Strategy == "exclusive" {
		if err := s.store.Verify(ctx, v); err != nil {
			return updater.Bad(err)
		}
		return nil
	}
	m, err := s.start(ctx, v)
	if err != nil {
		return err
	}
	return s.ready(ctx, m)
}

// Switch moves new connections and the lease to `to` and parks every other version. It is the same step
// forwards and backwards: first `to` accepts, then the others stop, so that at no moment nobody does.
func (s *site) Switch(ctx context.Context, to journal.Version) error {
	defer s.decide()()
	if s.cfg.Traffic.Strategy == "exclusive" {
		return s.exchange(ctx, to)
	}
	m, err := s.prepared(ctx, to)
	if err != nil {
		return err
	}
	good := s.isSpare(to) || m.proc.Forked().IsZero() || m.is(func(m *member) bool { return !m.opened.IsZero() })
	err = s.turn(ctx, m)
	if err == nil || ctx.Err() != nil || !good || s.accepts(m) {
		return err
	}
	// It served before, waited, and does not answer now: a new process of the same bytes may do better.
	if err := errors.Join(err, s.abort(m)); m.alive() {
		return err
	}
	if m, err = s.prepared(ctx, to); err != nil {
		return err
	}
	return s.turn(ctx, m)
}

// prepared returns the living process of v. If there is none (after a restart, or because it died while it was
// parked) it starts one, whose health counts only as long as another version can serve meanwhile.
func (s *site) prepared(ctx context.Context, v journal.Version) (*member, error) {
	if m := s.living(v); m != nil {
		return m, nil
	}
	m, err := s.start(ctx, v)
	if err != nil {
		return nil, err
	}
	if len(s.others(m)) > 0 {
		return m, s.ready(ctx, m)
	}
	if err := s.able(ctx, m); errors.Is(err, errGone) {
		return nil, updater.Bad(err)
	} else if err != nil {
		return nil, err
	}
	return m, nil
}

// turn is the switch itself.
func (s *site) turn(ctx context.Context, m *member) error {
	s.traffic.Lock()
	defer s.traffic.Unlock()
	first := m.is(func(m *member) bool { return m.opened.IsZero() && !m.proc.Forked().IsZero() })
	back, begun := s.isServing(m.version) || s.isSpare(m.version), time.Now()
	if err := s.move(ctx, m); err != nil || back { // the engine tells a way back, with its reason
		return err
	}
	f := figures{"switch_ms": millis(time.Since(begun))}
	m.mark(func(m *member) {
		f["accept_ms"] = millis(m.opened.Sub(begun))
		if first {
			f["from_fork_ms"] = millis(m.opened.Sub(m.proc.Forked()))
		}
	})
	parked := ""
	for _, o := range s.others(m) {
		parked = ", " + o.name() + " is parked"
	}
	s.measured("switch", m.version, f, "takes new connections%s: acknowledged after %s", parked, time.Since(begun).Round(time.Microsecond))
	return nil
}

// move gives new connections and the lease to m, in the one order that loses nothing; s.traffic is held.
func (s *site) move(ctx context.Context, m *member) error {
	if err := s.open(ctx, m); err != nil {
		return err
	}
	s.promote(m.version)
	if !m.alive() { // before the others are parked: somebody still accepts
		return updater.Bad(fmt.Errorf("%s, as soon as it took connections: %s", m.name(), m.proc.Exit()))
	}
	for _, o := range s.others(m) {
		if err := s.park(ctx, o); err != nil {
			return err
		}
	}
	s.lend(ctx, m)
	return nil
}

// open lets m take new connections; s.traffic is held.
func (s *site) open(ctx context.Context, m *member) error {
	if err := s.tell(m, func() error { return s.accept(ctx, m) }); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return updater.Bad(err)
	}
	s.face(m)
	m.mark(func(m *member) {
		if !m.accepting {
			m.accepting, m.opened = true, time.Now()
		}
	})
	s.opener.Do(func() { close(s.serves) })
	return nil
}

// acceptTries is how often a new version is told to take connections while another one does. So a machine that stands
// still for a moment does not condemn it, and should the other one end, nobody waits longer for the next to take its place.
const acceptTries = 5

func (s *site) accept(ctx context.Context, m *member) error {
	first := m.is(func(m *member) bool { return m.opened.IsZero() })
	for n := 1; ; n++ {
		err := m.proc.Accept(ctx)
		if !errors.Is(err, child.ErrNoAck) || n == acceptTries || !first || !slices.ContainsFunc(s.others(m), s.accepts) {
			return err
		}
	}
}

// park makes o stop taking connections and send its clients elsewhere while it stays alive. A process that
// does not answer would still swallow connections, so it is ended; one that refuses is left as it is.
func (s *site) park(ctx context.Context, o *member) error {
	err := s.tell(o, func() error { return o.proc.Park(ctx) })
	if errors.Is(err, child.ErrNoAck) {
		s.event("alarm", o.version, "did not park within %s and was ended", wire.AckTimeout)
		s.expect(o)
		o.proc.Kill()
		err = nil
	}
	if err != nil && o.alive() {
		return err
	}
	usual := o.usual()
	o.mark(func(o *member) {
		if o.accepting {
			o.accepting, o.measure = false, usual
		}
	})
	return nil
}

// tell gives an order to a payload with the SDK, which answers within a bound of its own; another program has
// no ear for it and is moved by the proxy alone.
func (s *site) tell(m *member, order func() error) error {
	if s.cfg.Payload.Kind != "sdk" {
		return nil
	}
	return order()
}

// abort ends a process that does not obey, at once.
func (s *site) abort(m *member) error {
	s.expect(m)
	m.proc.Kill()
	select {
	case <-m.proc.Done():
		return nil
	case <-time.After(abortLimit):
		return fmt.Errorf("%s, pid %d, survives being killed: look what it waits for in the kernel", m.name(), m.proc.PID())
	}
}

// expect marks m's end as ordered, so that nobody counts it as a crash.
func (s *site) expect(m *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.asked = true
}

// face turns the proxies to m, with the version before it behind: a dial that fails before any byte went is
// tried there. s.traffic is held.
func (s *site) face(m *member) {
	if s.front == m {
		return
	}
	if s.behind = nil; s.front != nil && s.front.alive() {
		s.behind = s.front
	}
	s.front = m
	for i, p := range s.proxies {
		p.Switch(m.targets[i])
		if s.behind != nil {
			p.SetFallback(s.behind.targets[i])
		} else {
			p.SetFallback(nil)
		}
	}
}

// detach turns the proxies away from m, whose private ports may soon belong to somebody else.
func (s *site) detach(m *member) {
	s.traffic.Lock()
	defer s.traffic.Unlock()
	s.avert(m)
}

// avert is detach with s.traffic held.
func (s *site) avert(m *member) {
	for _, p := range s.proxies {
		if s.front == m {
			p.Switch(nil)
		}
		if s.behind == m {
			p.SetFallback(nil)
		}
	}
	if s.front == m {
		s.front = nil
	}
	if s.behind == m {
		s.behind = nil
	}
}

// divert says what becomes of new connections while no version serves behind the proxies: they wait while one
// is being started, and are reset at once while nothing is done for them. In handoff mode they wait in the
// kernel's queue, where nobody can reset them. s.traffic is held.
func (s *site) divert(wait bool) {
	if s.front != nil {
		return
	}
	for _, p := range s.proxies {
		if wait {
			p.Switch(nil)
		} else {
			p.Switch(p.NewTarget("nobody", relay.Nowhere))
		}
	}
}
