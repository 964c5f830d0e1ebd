package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/turnstone-go/turnstone/launcher/probe"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// Watch observes the candidate for the rest of its probation and returns nil when it has passed, or
// evidence against it. The version that waits parked is asked the same questions at the same time: what
// is down for both condemns neither. Meanwhile it is kept alive.
func (s *site) Watch(ctx context.Context, w updater.Watch) error {
	m := s.living(w.Candidate)
	if m == nil || s.died(w.Candidate) {
		return updater.Bad(fmt.Errorf("%s does not stay up in probation: %s", w.Candidate.Number, s.Evidence(w.Candidate).Exit))
	}
	watched, cancel := context.WithCancelCause(ctx)
	var help sync.WaitGroup
	help.Go(func() { s.standBy(watched, w) })
	help.Go(func() { // the end of the process also ends a question under way
		select {
		case <-m.proc.Done():
			cancel(errGone)
		case <-watched.Done():
		}
	})
	err := s.judge(watched, w, m)
	cancel(nil)
	help.Wait()
	if errors.Is(err, errGone) {
		return updater.Bad(fmt.Errorf("%s in probation: %s", m.name(), m.proc.Exit()))
	} else if err != nil {
		return err
	}
	return s.pass(m)
}

// judge observes m, once it has been healthy, until its probation is over.
func (s *site) judge(ctx context.Context, w updater.Watch, m *member) error {
	if !m.is(func(m *member) bool { return m.fit }) { // started at boot, which asks nobody how it is
		if err := s.ready(ctx, m); err != nil {
			return err
		}
	}
	if m.judge == nil { // else this is one more stretch of the same probation
		p := s.tuned().Probation
		m.judge = probe.NewJudge(probe.Rules{Fall: p.Fall, Errors: p.Errors, Baseline: s.living(w.Baseline).usual()})
	}
	return s.observe(ctx, w, m)
}

// pass is the end of m's probation. A process that dies until now leaves the traffic to the version before and is
// evidence; one that dies from now on is started again, since the engine is about to make it the active version and
// to send the other away. The lock keeps it from being both.
func (s *site) pass(m *member) error {
	s.traffic.Lock()
	defer s.traffic.Unlock()
	if !m.alive() || !s.isServing(m.version) {
		return updater.Bad(fmt.Errorf("%s at the end of its probation: %s", m.name(), m.proc.Exit()))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare = journal.Version{}
	return nil
}

// observe looks again and again until the probation is over.
func (s *site) observe(ctx context.Context, w updater.Watch, m *member) error {
	return rounds{
		pause:  min(s.tuned().Health.Interval, longestPause),
		look:   func(ctx context.Context) error { return s.compare(ctx, m, s.waiting(w.Baseline)) },
		passed: func() bool { return m.judge.Well() && s.seenEnough(w, m) },
		tick:   w.Tick,
	}.run(ctx, w.Remaining)
}

// standBy keeps the version to go back to alive beside the candidate, ready to take over.
func (s *site) standBy(ctx context.Context, w updater.Watch) {
	v := w.Baseline
	if v.Digest == "" || s.cfg.Traffic.Strategy == "exclusive" {
		return
	}
	for f := (falls{}); ; {
		m := s.living(v)
		if m == nil {
			if err := s.Warm(ctx, v); err != nil && ctx.Err() == nil {
				s.event("alarm", v, "cannot wait beside %s at the moment; going back would have to start it: %v", w.Candidate.Number, err)
			}
			m = s.living(v)
		}
		lived := time.Duration(0)
		if m != nil && ctx.Err() == nil {
			s.offer(w)
			select {
			case <-ctx.Done():
			case <-m.proc.Done():
				lived = time.Since(m.proc.Began())
			}
		}
		f.add(v.Digest, lived, s.cfg.Payload.RestartPause, time.Now())
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(f.due)):
		}
	}
}

// offer makes the baseline the spare while the candidate serves.
func (s *site) offer(w updater.Watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving.Digest == w.Candidate.Digest {
		s.spare = w.Baseline
	}
}

// waiting returns the process of the version to compare with, nil while it has none that was ever healthy.
func (s *site) waiting(v journal.Version) *member {
	if m := s.living(v); m != nil && m.is(func(m *member) bool { return m.fit }) {
		return m
	}
	return nil
}

// died says whether a process of v ended since v serves, even if another one runs by now.
func (s *site) died(v journal.Version) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.falls.digest == v.Digest && s.falls.row > 0
}

// compare asks both versions how they are and lets the judge decide.
func (s *site) compare(ctx context.Context, m, base *member) error {
	var parked *probe.Result
	done := make(chan probe.Result, 1)
	if base != nil {
		go func() { done <- s.check(base).Once(ctx) }()
	}
	own := s.check(m).Once(ctx)
	if base != nil {
		r := <-done
		parked = &r
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	m.note(own)
	err := m.judge.Feed(own, parked, m.proc.Stats())
	if err == nil {
		err = s.weigh(m, base)
	}
	if err != nil {
		return updater.Bad(fmt.Errorf("%s in probation: %w", m.name(), err))
	}
	return nil
}

var errHeavy = errors.New("takes too much memory")

// weigh returns errHeavy when m took more memory than probation.memory_mb for probation.fall looks in a row, and the
// version before did not: what both need is for an operator to allow.
func (s *site) weigh(m, base *member) error {
	p := s.tuned().Probation
	if p.MemoryMB == 0 {
		return nil
	}
	most := int64(p.MemoryMB) << 20
	takes := m.proc.Memory()
	if !m.heavy.add(takes > most && (base == nil || base.proc.Memory() <= most), p.Fall) {
		return nil
	}
	return fmt.Errorf("%w: %d MiB, and probation.memory_mb is %d", errHeavy, takes>>20, p.MemoryMB)
}

// streak counts looks in a row.
type streak int

// add counts one more look, or none any more, and says whether there are most of them by now.
func (s *streak) add(one bool, most int) bool {
	if *s++; !one {
		*s = 0
	}
	return int(*s) >= most
}

// seenEnough says whether the candidate has met enough of the world to be believed: it answered MinRequests,
// or no connection is left that could have gone to it instead, or it has waited as long again for traffic that
// did not come.
func (s *site) seenEnough(w updater.Watch, m *member) bool {
	base := s.living(w.Baseline)
	if base == nil {
		return true
	}
	if s.answered(m) >= w.MinRequests || s.connections(base) == 0 {
		return true
	}
	var since time.Time
	m.mark(func(m *member) { since = m.opened })
	return time.Since(since) > 2*s.tuned().Probation.Time
}

// answered counts requests where the payload tells us, else forwarded connections.
func (s *site) answered(m *member) uint64 {
	if s.cfg.Payload.Kind == "sdk" {
		return m.proc.Stats().Requests
	}
	var n uint64
	for _, t := range m.targets {
		n += t.Total()
	}
	return n
}

func (s *site) connections(m *member) int {
	if s.cfg.Payload.Kind == "sdk" {
		return m.proc.Stats().Open
	}
	n := 0
	for _, t := range m.targets {
		n += t.Open()
	}
	return n
}
