package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/probe"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// Serve makes v the version that serves, at boot. Nothing gates it: whatever v is able to do is better than
// nothing. It fails only if v cannot even be started; a process that ends, or takes no connections yet, is the
// keeper's affair from here on.
func (s *site) Serve(ctx context.Context, v journal.Version) error {
	defer s.decide()()
	s.traffic.Lock() // a spare that is just taking over is no answer to this
	s.mu.Lock()
	s.serving, s.spare = v, journal.Version{}
	s.mu.Unlock()
	s.traffic.Unlock()
	return s.bring(ctx, v)
}

// bring starts v if it does not run and lets it take new connections, at once or as soon as it can.
func (s *site) bring(ctx context.Context, v journal.Version) error {
	if s.cfg.Traffic.Strategy == "exclusive" {
		s.traffic.Lock()
		defer s.traffic.Unlock()
		if s.served().Digest != v.Digest {
			return nil
		}
		s.hold()
		defer s.let()
		return s.tolerate(ctx, v, s.replace(ctx, v, s.able))
	}
	m, err := s.start(ctx, v)
	if err == nil {
		err = s.able(ctx, m)
	}
	if err != nil {
		return s.tolerate(ctx, v, err)
	}
	s.traffic.Lock()
	defer s.traffic.Unlock()
	if s.served().Digest != v.Digest { // the engine has decided otherwise meanwhile
		return nil
	}
	return s.tolerate(ctx, v, s.move(ctx, m))
}

// tolerate returns err if v could not be started; what else is wrong is told. A process that does not answer is
// ended, so that the next try has a new one.
func (s *site) tolerate(ctx context.Context, v journal.Version, err error) error {
	m := s.living(v)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, errGone): // noticed and counted by its own watcher
		return nil
	case m == nil:
		return err
	}
	s.event("alarm", v, "runs, but does not do as it is told: %v", err)
	if errors.Is(err, child.ErrNoAck) && !s.accepts(m) {
		_ = s.abort(m) // one that survives is found by the next try
	}
	return nil
}

// errGone is the end of a process while something was expected of it.
var errGone = errors.New("the process ended")

// able waits until m can take connections, by its own word or because it listens, and gives up waiting after
// ready_timeout. How healthy it is does not matter.
func (s *site) able(ctx context.Context, m *member) error {
	ctx, cancel := context.WithTimeout(ctx, s.tuned().Health.ReadyTimeout)
	defer cancel()
	err := s.announced(ctx, m)
	if err == nil && len(m.addrs) > 0 {
		c := probe.Check{Kind: probe.TCP, Address: m.addrs[s.sockets[0].Name()], Timeout: time.Second, Interval: s.tuned().Health.Interval}
		_, err = probe.Ready(ctx, c, 1, m.proc.Done())
	}
	switch {
	case !m.alive():
		return fmt.Errorf("%w: %s", errGone, m.proc.Exit())
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Cause(ctx)
	case err != nil:
		s.event("alarm", m.version, "serves without having been ready: %v", err)
	}
	return nil
}

// revive is one try to make v serve again, from outside the engine.
func (s *site) revive(ctx context.Context, v journal.Version) error {
	if err := s.bring(ctx, v); err != nil {
		return err
	}
	switch m := s.living(v); {
	case s.served().Digest != v.Digest:
		s.spareless(v)
	case m == nil:
	case s.accepts(m):
		s.mu.Lock()
		s.restarts++
		s.mu.Unlock()
		s.event("restart", v, "runs again, pid %d", m.proc.PID())
	}
	return nil
}

// spareless ends a process of v that was started in vain: something else serves by now.
func (s *site) spareless(v journal.Version) {
	s.mu.Lock()
	deciding := s.deciding
	s.mu.Unlock()
	if !deciding && !s.isSpare(v) {
		s.Retire(v)
	}
}

// takeOver gives the connections to the spare if there is one that lives, and says whether there was. It does
// not wait for the engine, which learns of it by its own watch. s.traffic is held.
func (s *site) takeOver() bool {
	s.mu.Lock()
	spare := s.spare
	s.mu.Unlock()
	o, begun := s.living(spare), time.Now()
	if o == nil {
		return false
	}
	if err := s.open(s.upkeep, o); err != nil {
		s.event("alarm", spare, "was parked, does not accept, and is ended: %v", err)
		_ = s.abort(o) // the version that served is started again in any case
		return false
	}
	s.promote(o.version)
	s.event("takeover", spare, "was parked and takes connections again after %s", time.Since(begun).Round(time.Microsecond))
	s.lend(s.upkeep, o)
	return true
}

// promote notes that v serves. What served before it is the spare from now on, unless v was the spare itself:
// then it is what we went away from.
func (s *site) promote(v journal.Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.serving.Digest == v.Digest:
		return
	case s.spare.Digest == v.Digest:
		s.spare = journal.Version{}
	default:
		s.spare = s.serving
	}
	s.serving, s.falls = v, falls{}
}

func (s *site) served() journal.Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.serving
}

func (s *site) isSpare(v journal.Version) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spare.Digest == v.Digest
}

func (s *site) isServing(v journal.Version) bool { return s.served().Digest == v.Digest }

// accepts says whether m is there and was let take new connections.
func (s *site) accepts(m *member) bool {
	return m != nil && m.is(func(m *member) bool { return m.accepting })
}

// decide keeps the keeper from starting anything while the engine makes a version serve, and ends what it is
// doing. The keeper looks again when done is called.
func (s *site) decide() (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deciding = true
	if s.attempt != nil {
		s.attempt()
	}
	return func() {
		s.mu.Lock()
		s.deciding = false
		s.mu.Unlock()
		s.wake()
	}
}

// attempting returns the context of a restart of v, nil while the engine decides, and when it has decided for another.
func (s *site) attempting(v journal.Version) (ctx context.Context, done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deciding || s.serving.Digest != v.Digest {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(s.upkeep)
	s.attempt = cancel
	return ctx, func() {
		s.mu.Lock()
		s.attempt = nil
		s.mu.Unlock()
		cancel()
	}
}
