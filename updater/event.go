package updater

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/policy"
)

// Event is one line of the story as it happens. Kind is one of: boot, check, choose, download, verify,
// hook, watch, commit, drain, rollback, quarantine, collect, order, retry, turn, alarm, and end, the last of every
// update (Outcome set). The Site tells what it does with kinds of its own: self-check, start, probe, switch, drain, exit,
// restart, takeover, lease, alarm. Done and Total count bytes in a download and milliseconds in a watch.
type Event struct {
	At      time.Time       `json:"at"`
	Kind    string          `json:"kind"`
	Phase   Phase           `json:"phase,omitempty"`  // in which it happened
	Number  string          `json:"number,omitempty"` // of the version it is about
	Text    string          `json:"text,omitempty"`
	Done    int64           `json:"done,omitempty"`
	Total   int64           `json:"total,omitempty"`
	Err     string          `json:"err,omitempty"`
	Outcome Outcome         `json:"outcome,omitempty"`
	Verdict journal.Verdict `json:"verdict,omitempty"` // with end, turn and a failed check: who was at fault
	Failed  Phase           `json:"failed,omitempty"`  // with end: the phase that turned the candidate away
	Full    bool            `json:"full,omitempty"`    // with turn and a failed check: for want of space on the disk
	Code    int             `json:"code,omitempty"`    // with a failed self-update: the exit code of who waits for it

	// Figures is what Text tells, for programs: times in milliseconds (NAME_ms) and counts.
	Figures map[string]float64 `json:"figures,omitempty"`
}

// Status is how the engine stands.
type Status struct {
	State     State            `json:"state"`
	Seq       uint64           `json:"seq"` // of the last journal record
	Saved     bool             `json:"saved"`
	Begun     bool             `json:"begun"`              // a Run has made a version serve as well as it can
	Findings  []policy.Finding `json:"findings,omitempty"` // on what the last check that got an answer saw, as of now
	LastCheck time.Time        `json:"last_check,omitzero"`
	NextCheck time.Time        `json:"next_check,omitzero"`
	CheckErr  string           `json:"check_err,omitempty"`  // of the last check, "" if it got an answer
	CheckWas  journal.Verdict  `json:"check_was,omitempty"`  // who was at fault then
	CheckFull bool             `json:"check_full,omitempty"` // it was for want of space on the disk
	LastErr   string           `json:"last_err,omitempty"`   // of the last step that failed
	Alarm     string           `json:"alarm,omitempty"`      // the last alarm of this Run
	Trouble   string           `json:"trouble,omitempty"`    // why no version could be made to serve, and what becomes of it
	Synced    time.Duration    `json:"synced,omitempty"`     // what the last write of the journal took
}

// Status returns a snapshot.
func (u *Updater) Status() Status {
	u.mu.Lock()
	s, last := u.status, u.glance
	s.State = clone(s.State)
	u.mu.Unlock()
	s.Findings, _ = last.judge(s.State, time.Now())
	return s
}

func (u *Updater) show(st State) {
	seq := u.Journal.Seq()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.status.State, u.status.Seq, u.status.NextCheck = clone(st), seq, u.nextCheck
	u.status.Saved, u.status.Synced = u.saved.Phase != "", u.synced
}

// showTrouble says why nothing serves, "" when something does.
func (u *Updater) showTrouble(text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.status.Trouble = text
}

// showCheck keeps what a check saw, nil if it got no answer.
func (u *Updater) showCheck(now time.Time, g *glance, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.status.LastCheck, u.status.NextCheck = now, u.nextCheck
	u.status.CheckErr, u.status.CheckWas, u.status.CheckFull = "", "", false
	if err != nil {
		u.status.CheckErr, u.status.CheckWas, u.status.CheckFull = err.Error(), blame(err), durable.Full(err)
	}
	if g != nil {
		u.glance = g
	}
}

// emit tells one event to whoever listens and to the log.
func (u *Updater) emit(e Event) {
	e.At = time.Now()
	u.mu.Lock()
	if e.Phase == "" {
		e.Phase = u.status.State.Phase
	}
	if e.Kind == "alarm" {
		u.status.Alarm = e.Text
	}
	u.mu.Unlock()
	level := slog.LevelInfo
	switch {
	case e.Kind == "alarm":
		level = slog.LevelError
	case e.Kind == "watch", e.Kind == "download" && e.Done < e.Total:
		level = slog.LevelDebug
	}
	u.Log.Log(context.Background(), level, e.Text, "kind", e.Kind, "phase", e.Phase, "version", e.Number, "err", e.Err)
	if u.Notify != nil {
		u.Notify(e)
	}
}

// report tells the edge that was taken and sets what it means for the time to come.
func (u *Updater) report(st, after State, err error) {
	if err != nil {
		u.mu.Lock()
		u.status.LastErr = err.Error()
		u.mu.Unlock()
	}
	switch {
	case err == nil, st.Phase == journal.Idle:
	case after.Phase == st.Phase:
		u.rest = backoff(st.Starts-1, pace(st.Phase), 30*time.Second)
		u.emit(Event{Kind: "retry", Phase: st.Phase, Number: number(st.Candidate), Text: fmt.Sprintf("is tried again in %s", short(u.rest)), Err: err.Error()})
	case st.Candidate != nil:
		u.emit(Event{Kind: "turn", Phase: st.Phase, Number: st.Candidate.Number, Text: "is turned away", Err: err.Error(), Verdict: after.Verdict,
			Full: durable.Full(err)})
	}
	u.turn(st, after)
	if after.Phase == journal.Idle && st.Phase != journal.Idle {
		u.comeToRest(st, after)
	}
}

// pace is the first pause before a step is tried again: going back is in more of a hurry than forward.
func pace(p Phase) time.Duration {
	if p == journal.Reverting || p == journal.Probation {
		return time.Second
	}
	return 5 * time.Second
}

// comeToRest sets when idle looks at the channel again.
func (u *Updater) comeToRest(st, after State) {
	switch st.Verdict {
	case journal.World, journal.Refused:
		u.losses++
		u.lookAt(time.Now().Add(backoff(u.losses-1, min(firstMiss, u.Poll), u.Poll)))
	case journal.Superseded, journal.Yanked:
		u.lookAt(time.Now())
	default:
		u.losses = 0
	}
	if after.Want != nil || stranded(st, after) {
		u.lookAt(time.Now())
	}
}

// progress returns a callback that tells a download, at most ten times a second.
func (u *Updater) progress(v Version) func(done, total int64) {
	var last time.Time
	return func(done, total int64) {
		if now := time.Now(); now.Sub(last) >= 100*time.Millisecond {
			last = now
			u.emit(Event{Kind: "download", Number: v.Number, Done: done, Total: total})
		}
	}
}

// proven returns what the proven records say, newest first. A record that cannot be read is told and is no
// reason to distrust the others.
func (u *Updater) proven() []Version {
	list, err := u.Store.Proven()
	if err != nil {
		u.emit(Event{Kind: "alarm", Text: "a proven record in the store cannot be read", Err: err.Error()})
	}
	return list
}

// collect removes from the store what nothing needs. What either journal slot names, what runs, what is good
// and the newest proven ones stay; if any of these cannot be learnt, everything stays.
func (u *Updater) collect(st State) {
	named, err := u.Journal.Named()
	proven, err2 := u.Store.Proven()
	if err := errors.Join(err, err2); err != nil {
		u.emit(Event{Kind: "collect", Text: "nothing is removed while it is not known what is needed", Err: err.Error()})
		return
	}
	keep := slices.Concat(named, st.Good, u.Site.Running(), proven[:min(len(proven), maxGood)])
	if st.Candidate != nil {
		keep = append(keep, *st.Candidate)
	}
	removed, err := u.Store.Collect(keep)
	if err != nil {
		u.emit(Event{Kind: "collect", Text: "not everything that is not needed could be removed", Err: err.Error()})
	}
	for _, name := range removed {
		u.emit(Event{Kind: "collect", Text: "removed " + name})
	}
}

func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}
