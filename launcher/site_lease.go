package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/turnstone-go/turnstone/launcher/child"
)

// wanted notes that m waits for the lease, and grants it if m is the one that serves; else m gets it when
// it comes to serve.
func (s *site) wanted(m *member) {
	m.mark(func(m *member) { m.wanting = true })
	s.traffic.Lock()
	defer s.traffic.Unlock()
	if s.isServing(m.version) && s.upkeep.Err() == nil {
		s.lend(s.upkeep, m)
	}
}

// lend makes m the only version that may hold the lease. A grant that is not possible now delays no
// connection: it is told, and tried again each time that m is looked at. s.traffic is held.
func (s *site) lend(ctx context.Context, m *member) {
	err := s.passLease(ctx, m)
	text := ""
	if err != nil && ctx.Err() == nil && m.alive() {
		text = err.Error()
	}
	told := false
	m.mark(func(m *member) { told, m.denied = m.denied == text, text })
	if text != "" && !told {
		s.event("alarm", m.version, "has no lease yet, it is tried again: %v", err)
	}
}

// passLease takes the lease from every other process, those that drain included: each gives it back and says
// so, or is ended, before m gets it.
//
// The fence is the sequence number of a journal write made between the two, so it is larger than any
// number that an earlier holder ever had.
func (s *site) passLease(ctx context.Context, m *member) error {
	if s.cfg.Payload.Kind != "sdk" {
		return nil
	}
	s.mu.Lock()
	leaving := slices.Clone(s.leaving)
	s.mu.Unlock()
	for _, o := range append(s.others(m), leaving...) {
		if err := s.takeLease(ctx, o); err != nil {
			return err
		}
	}
	if m.proc.Fence() != 0 { // it has it, and asked twice
		m.mark(func(m *member) { m.wanting = false })
	}
	if !m.is(func(m *member) bool { return m.wanting }) {
		return nil
	}
	if s.doubt != nil {
		return fmt.Errorf("a process of the last launcher may hold it: end it and start the launcher again: %w", s.doubt)
	}
	fence, err := s.fence()
	if err != nil {
		return fmt.Errorf("it is granted after a journal write only: %w", err)
	}
	if err := m.proc.Grant(ctx, fence); err != nil {
		return err
	}
	m.mark(func(m *member) { m.wanting = false })
	s.measured("lease", m.version, figures{"fence": float64(fence)}, "granted with fence %d", fence)
	return nil
}

// takeLease gets the lease back from o. A process that does not answer in time, which payload.Lease and the
// wire bound, is ended: two owners are worse than one dead process. A stop of the launcher kills nobody.
func (s *site) takeLease(ctx context.Context, o *member) error {
	err := o.proc.Yield(ctx)
	switch {
	case err == nil, !o.alive():
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, child.ErrClosed):
		return err
	}
	s.event("alarm", o.version, "did not give the lease back and was ended: %v", err)
	return s.abort(o)
}
