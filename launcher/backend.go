package main

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// Status is how the service is, for operators.
func (s *service) Status() control.Status {
	st := control.Status{
		Product: s.cfg.Product, Channel: s.cfg.Repository.Channel, Repository: s.cfg.Repository.URL,
		Running: true, Since: s.began, Trust: s.feed.trust(),
	}
	engine := s.engine.Status()
	if engine.State.Phase == "" { // it has not read the journal yet, or cannot use it
		if last, seq, err := journal.Read(s.disk, s.cfg.stateFile("journal")); err == nil {
			engine.State, engine.Seq = last, seq
		}
	}
	st.Health, st.Trouble = s.site.health()
	if st.Health == control.Unhealthy && !engine.Begun && engine.Trouble == "" {
		st.Health, st.Trouble = control.Starting, "what should serve is being started"
	}
	st.Engine(engine)
	if good := engine.State.Good; st.Previous != nil && !s.onDisk(good[1]) {
		st.Previous = nil // a way back that is not there is not offered
	}
	st.Processes = s.site.processes(engine.State)
	return st
}

// onDisk says whether v is there to be started, as far as can be told without reading all of it.
func (s *service) onDisk(v journal.Version) bool {
	if !s.store.Sealed(v) {
		return false
	}
	info, err := s.disk.Lstat(s.store.File(v))
	return err == nil && info.Size() == v.SizeBytes
}

// Order hands an operator's order to the engine.
func (s *service) Order(ctx context.Context, o updater.Order) error { return s.engine.Order(ctx, o) }

// History returns the last finished updates, newest first.
func (s *service) History(limit int) ([]control.Record, error) {
	return control.ReadHistory(s.disk, s.cfg.stateFile(historyFile), limit)
}

// tell publishes what the site did and writes it to the log. The engine, which ordered it, adds the phase.
func (s *service) tell(e updater.Event) {
	if s.engine != nil { // not yet while the site is opened
		st := s.engine.Status()
		e.Phase = st.State.Phase
		if e.Kind == "switch" {
			e.Figures["journal_ms"] = millis(st.Synced)
		}
	}
	if e.Kind == "alarm" {
		s.log.Error(e.Text, "kind", e.Kind, "version", e.Number)
	} else {
		s.log.Info(e.Text, "kind", e.Kind, "version", e.Number, "err", e.Err)
	}
	s.publish(e)
}

// trust says how fresh the signed metadata is now, nil before there is any. Time is the later of the clock and
// the newest signed time, as it is for every check.
func (f *feed) trust() *control.Trust {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.view == nil {
		return nil
	}
	now := time.Now()
	t := &control.Trust{RootVersion: f.view.RootVersion, Expires: f.view.Expires, Expired: f.view.ExpiredAt(now)}
	for role, at := range f.view.Ends {
		if at.Sub(now) < notice(role) {
			t.Ending = append(t.Ending, control.Ending{Role: role, Expires: at})
		}
	}
	slices.SortFunc(t.Ending, func(a, b control.Ending) int {
		return cmp.Or(a.Expires.Compare(b.Expires), strings.Compare(a.Role, b.Role))
	})
	return t
}

// notice is how long before its end a role's metadata is worth a warning. What a vendor signs by hand should have
// been signed a week before. A timestamp lasts for three days and is signed anew by a machine when half of them
// are over, so it never has less than 13 hours left while all is well; a snapshot lasts for two weeks.
func notice(role string) time.Duration {
	switch role {
	case manifest.RoleTimestamp:
		return 12 * time.Hour
	case manifest.RoleSnapshot:
		return 48 * time.Hour
	}
	return 7 * 24 * time.Hour
}

// processes lists the living payload processes.
func (s *site) processes(st journal.State) []control.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []control.Process
	for _, m := range s.members {
		p := s.describe(m)
		p.Role = role(st, m.version)
		all = append(all, p)
	}
	for _, m := range s.leaving {
		p := s.describe(m)
		p.Role, p.State = "old", "draining"
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b control.Process) int { return a.Since.Compare(b.Since) })
	return all
}

// describe says what m does; s.mu is held.
func (s *site) describe(m *member) control.Process {
	p := control.Process{Number: m.name(), State: "parked", PID: m.proc.PID(), Since: m.proc.Began(), Open: s.connections(m), Requests: s.answered(m)}
	switch {
	case m.is(func(m *member) bool { return m.accepting }):
		p.State, p.Restarts = "accepting", s.restarts
	case !m.is(func(m *member) bool { return m.fit }):
		p.State = "starting"
	}
	if b := m.proc.Busy(); b != nil {
		p.Busy = b.Reason
	}
	return p
}

func role(st journal.State, v journal.Version) string {
	switch {
	case len(st.Good) > 0 && st.Good[0].Digest == v.Digest:
		return "active"
	case st.Candidate != nil && st.Candidate.Digest == v.Digest:
		return "candidate"
	case len(st.Good) > 1 && st.Good[1].Digest == v.Digest:
		return "previous"
	}
	return "old"
}
