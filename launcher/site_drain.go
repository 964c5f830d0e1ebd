package main

import (
	"context"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// Retire orders the drain and the end of v's process and returns at once. At most `generations` old
// processes drain at the same time; more cut the oldest, so that a connection that never ends cannot hold up
// the next fix. What was retired neither serves any more nor takes over.
func (s *site) Retire(v journal.Version) {
	s.mu.Lock()
	if s.serving.Digest == v.Digest {
		s.serving = journal.Version{}
	}
	if s.spare.Digest == v.Digest {
		s.spare = journal.Version{}
	}
	m := s.members[v.Digest]
	if m == nil || !m.alive() {
		s.mu.Unlock()
		return
	}
	delete(s.members, v.Digest)
	cut := s.depart(m)
	s.mu.Unlock()
	for _, o := range cut {
		s.event("drain", o.version, "is cut: %d newer versions drain already", generations)
		o.proc.Kill()
	}
	s.wg.Go(func() {
		s.detach(m)
		s.finish(s.life, m)
	})
}

// depart enters m among those that drain and returns the living ones that are too many; s.mu is held.
func (s *site) depart(m *member) (cut []*member) {
	m.asked = true
	s.leaving = append(s.leaving, m)
	for _, o := range s.leaving[:max(0, len(s.leaving)-generations)] {
		if o.alive() {
			cut = append(cut, o)
		}
	}
	return cut
}

// finish drains m and ends its process. It takes no longer than the deadline of the drain, the longer one
// of streams, and the time a stop may take; what is cut is counted and told.
func (s *site) finish(ctx context.Context, m *member) {
	s.expect(m)
	begun := time.Now()
	d := s.tuned().Drain
	cut := 0
	if s.cfg.Payload.Kind == "sdk" && m.alive() {
		s.settleTargets(ctx, m)
		s.drainSDK(ctx, m)
		cut += int(m.proc.Stats().Cut)
	}
	cut += s.emptyTargets(ctx, m)
	exit := m.proc.Stop(context.WithoutCancel(ctx), d.Kill)
	s.measured("drain", m.version, figures{"cut": float64(cut)}, "ended after %s, %d connections cut, %s", time.Since(begun).Round(time.Millisecond), cut, exit)
}

// drainSDK tells the payload to finish by itself and waits for its end.
func (s *site) drainSDK(ctx context.Context, m *member) {
	d := s.tuned().Drain
	bound := max(d.Deadline, d.Stream) + time.Second
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	err := m.proc.Drain(ctx, wire.Grace{Deadline: d.Deadline, Idle: d.Idle, Stream: d.Stream})
	if err != nil {
		s.log.Warn("drain was not acknowledged", "version", m.name(), "err", err)
		return
	}
	select {
	case <-m.proc.Done():
	case <-ctx.Done():
	}
}

// onTheWay is how long a forwarded connection may be between its choice and its accept.
const onTheWay = 2 * time.Second

// settleTargets lets what is on its way to a program with the SDK arrive there. After that the program knows
// its connections better than they can be seen from here: which are idle, and which are streams to be told.
func (s *site) settleTargets(ctx context.Context, m *member) {
	ctx, cancel := context.WithTimeout(ctx, onTheWay)
	defer cancel()
	for _, t := range m.targets {
		_ = t.Wait(ctx) // what has not left by then is the program's to end
	}
}

// emptyTargets waits until no forwarded connection reaches m any more, or cuts them at the deadline: the
// process must not be told to stop before that, since idleness cannot be seen from outside.
func (s *site) emptyTargets(ctx context.Context, m *member) (cut int) {
	ctx, cancel := context.WithTimeout(ctx, s.tuned().Drain.Deadline)
	defer cancel()
	for _, t := range m.targets {
		if t.Wait(ctx) != nil {
			cut += t.Cut()
		}
	}
	return cut
}

// Close drains and ends every process, bounded by ctx, and waits for all that site began. New connections
// wait from now on; they are refused when the sockets close.
func (s *site) Close(ctx context.Context) {
	s.rest()
	defer context.AfterFunc(ctx, s.end)() // those that drain already have bounds of their own, which may be later
	for _, p := range s.proxies {
		p.Hold()
	}
	s.mu.Lock()
	s.closing = true
	var all []*member
	for _, m := range s.members {
		all = append(all, m)
	}
	s.mu.Unlock()
	for _, m := range all {
		s.wg.Go(func() {
			_ = s.park(ctx, m) // it ends in any case
			s.finish(ctx, m)
		})
	}
	s.wg.Wait()
}
