package updater

import (
	"time"

	"github.com/turnstone-go/turnstone/updater/journal"
)

// Tuning is what of Parts may change while Run runs.
type Tuning struct {
	Config        string
	Poll          time.Duration
	ProbationTime time.Duration // of the next probation
	MinRequests   uint64
}

// Tune makes Run go by t from its next step on, and at once if it waits in idle. Zero times keep what was.
func (u *Updater) Tune(t Tuning) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tuning = &t
	if u.yield != nil && u.status.State.Phase == journal.Idle {
		u.yield(errOrder)
	}
}

// tune takes the last Tuning over. Only Run calls it, so that everything else may read Parts without a lock.
func (u *Updater) tune() {
	u.mu.Lock()
	t := u.tuning
	u.tuning = nil
	if t != nil && u.glance != nil { // a new configuration lifts the quarantine at once
		g := *u.glance
		g.facts.Host.Config = t.Config
		u.glance = &g
	}
	u.mu.Unlock()
	if t == nil {
		return
	}
	u.Config, u.MinRequests = t.Config, t.MinRequests
	if t.Poll > 0 {
		u.Poll = t.Poll
	}
	if t.ProbationTime > 0 {
		u.ProbationTime = t.ProbationTime
	}
	if latest := time.Now().Add(jitter(u.Poll)); u.nextCheck.After(latest) {
		u.nextCheck = latest
	}
}
