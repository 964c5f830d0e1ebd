package main

import (
	"fmt"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
	"github.com/turnstone-go/turnstone/launcher/control"
)

// lookEvery is how often the version that serves is asked how it is, outside of probation.
const lookEvery = 10 * time.Second

// past is how far back the answers of the serving version are remembered, to compare a candidate with.
const past = 10 * time.Minute

// counted is a payload's totals at one moment.
type counted struct {
	at    time.Time
	stats wire.Stats
}

// desk hears m ask for the lease and looks at it now and then, for as long as its process and the site live.
func (s *site) desk(m *member) {
	m.count(m.proc.Began(), wire.Stats{})
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-m.proc.Done():
			return
		case <-s.life.Done():
			return
		case <-m.proc.Wants():
			s.wanted(m)
		case now := <-look.C:
			s.look(m, now)
		}
	}
}

// look is the care that the version which serves needs all the time.
func (s *site) look(m *member, now time.Time) {
	m.count(now, m.proc.Stats())
	if !s.isServing(m.version) {
		return
	}
	m.note(s.check(m).Once(s.life))
	if s.cfg.Payload.Kind == "sdk" { // another program may want its socket as it has set it
		s.heal()
	}
	if m.is(func(m *member) bool { return m.wanting }) {
		s.wanted(m)
	}
}

// count remembers the totals of the last ten minutes, and one sample before them to count from.
func (m *member) count(now time.Time, stats wire.Stats) {
	m.mark(func(m *member) {
		m.totals = append(m.totals, counted{now, stats})
		for len(m.totals) > 1 && now.Sub(m.totals[1].at) >= past {
			m.totals = m.totals[1:]
		}
	})
}

// usual is what m answered in its last minutes as the version that served: the measure for its successor.
func (m *member) usual() (last wire.Stats) {
	if m == nil {
		return wire.Stats{}
	}
	now := m.proc.Stats()
	m.mark(func(m *member) {
		if last = m.measure; m.accepting || last == (wire.Stats{}) {
			last = now
			if len(m.totals) > 0 {
				last.Requests -= m.totals[0].stats.Requests
				last.Errors5xx -= m.totals[0].stats.Errors5xx
			}
		}
	})
	return last
}

// health says whether the version that serves is well, and what is wrong if it is not.
func (s *site) health() (control.Health, string) {
	s.mu.Lock()
	v, f := s.serving, s.falls
	s.mu.Unlock()
	if v.Digest == "" {
		return control.Unhealthy, "no version is installed yet"
	}
	m := s.living(v)
	if m == nil && f.vain != nil && f.digest == v.Digest {
		return control.Unhealthy, fmt.Sprintf("%s does not run: %s, and cannot be started again: %v", v.Number, s.Evidence(v).Exit, f.vain)
	}
	if m == nil {
		return control.Unhealthy, fmt.Sprintf("%s does not run: %s", v.Number, s.Evidence(v).Exit)
	}
	probes := m.probes()
	if n := len(probes); n > 0 && !probes[n-1].OK {
		return control.Unhealthy, fmt.Sprintf("%s: %s", v.Number, probes[n-1].Text)
	}
	return control.Healthy, ""
}

// Busy says why the serving version asks not to be switched now, and until when.
func (s *site) Busy() (reason string, until time.Time) {
	s.mu.Lock()
	v := s.serving
	s.mu.Unlock()
	if m := s.living(v); m != nil {
		if b := m.proc.Busy(); b != nil {
			return b.Reason, time.Now().Add(b.For)
		}
	}
	return "", time.Time{}
}

// protocol is what the serving payload speaks, which the next launcher takes over; 0 if it is not on the wire. One that
// has not connected yet speaks what this launcher does, or it will not be heard.
func (s *site) protocol() int {
	if s.cfg.Payload.Kind != "sdk" {
		return 0
	}
	s.mu.Lock()
	v := s.serving
	s.mu.Unlock()
	if m := s.living(v); m != nil && m.proc.Protocol() != 0 {
		return m.proc.Protocol()
	}
	return wire.Protocol
}
