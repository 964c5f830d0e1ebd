// Package control lets people and programs on this machine ask the running launcher how it is and tell it
// what to do: HTTP with JSON bodies over a unix socket, or a named pipe on Windows.
//
// Whoever may open the socket may read. Only an administrator, or the account that the launcher runs as,
// may change anything, and who it is comes from the kernel and never from the request. A request is
// bounded: 64 KiB, 5 seconds to arrive, 32 clients at a time; a further one waits in the kernel's queue.
// An order is answered when the engine has applied or refused it, not when its work is done; the work is
// followed by the stream of events.
//
// It does not decide anything, keeps no state and starts nothing. Payloads have a socket of their own with
// other words.
package control

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/policy"
)

// Status is how the service is. It is built from the journal and, if a launcher runs, from what lives.
type Status struct {
	Product    string `json:"product"`
	Channel    string `json:"channel"`
	Repository string `json:"repository"`
	Running    bool   `json:"running"` // false: no launcher answered, and this is the journal's word
	Health     Health `json:"health"`
	Trouble    string `json:"trouble,omitempty"` // why it is not healthy

	Phase           journal.Phase  `json:"phase"`
	Seq             uint64         `json:"seq"` // of the journal record that this comes from
	Active          *Version       `json:"active,omitempty"`
	Previous        *Version       `json:"previous,omitempty"` // on disk, to go back to
	Candidate       *Version       `json:"candidate,omitempty"`
	ProbationLeftMS int64          `json:"probation_left_ms,omitempty"`
	Reason          string         `json:"reason,omitempty"` // why the last step failed; idle: why the last update, or the order to one, came to nothing
	Pin             *journal.Pin   `json:"pin,omitempty"`
	Pause           *journal.Pause `json:"pause,omitempty"`
	Quarantine      []journal.Mark `json:"quarantine,omitempty"`
	Held            []journal.Mark `json:"held,omitempty"`

	Since      time.Time `json:"since,omitzero"` // start of the launcher
	Processes  []Process `json:"processes,omitempty"`
	LastCheck  time.Time `json:"last_check,omitzero"`
	NextCheck  time.Time `json:"next_check,omitzero"`
	CheckError string    `json:"check_error,omitempty"` // of the last check, "" if it got an answer
	CheckCode  Code      `json:"check_code,omitempty"`  // what that is as an exit code
	LastError  string    `json:"last_error,omitempty"`  // of the last step that failed
	Alarm      string    `json:"alarm,omitempty"`       // the last one since the launcher started
	Trust      *Trust    `json:"trust,omitempty"`
	Why        *Why      `json:"why,omitempty"` // what the last check found

	Updates map[updater.Outcome]int `json:"updates,omitempty"` // that ended since the launcher started
	Runtime *Runtime                `json:"runtime,omitempty"`
}

// Health says whether the active version serves.
type Health string

const (
	Healthy   Health = "healthy"
	Unhealthy Health = "unhealthy"
	Starting  Health = "starting" // the launcher has just begun, and what should serve does not yet
	Unknown   Health = "unknown"  // no launcher to ask
)

// Version names one version without what is needed to fetch it.
type Version struct {
	Number string `json:"number"`
	Digest string `json:"digest"`
	Epoch  uint64 `json:"epoch"`
}

// Process is one living payload process.
type Process struct {
	Number   string    `json:"number"`
	Role     string    `json:"role"`  // active, candidate, previous or old
	State    string    `json:"state"` // accepting, parked, draining or starting
	PID      int       `json:"pid"`
	Since    time.Time `json:"since"`
	Open     int       `json:"open"`     // connections
	Requests uint64    `json:"requests"` // answered since it began
	Restarts int       `json:"restarts"` // of this version by this launcher
	Busy     string    `json:"busy,omitempty"`
}

// Trust is how fresh the signed metadata is.
type Trust struct {
	RootVersion int64     `json:"root_version"`
	Expires     time.Time `json:"expires"`
	Expired     bool      `json:"expired"`
	Ending      []Ending  `json:"ending,omitempty"` // what expires so soon that the vendor should have signed anew
}

// Ending is signed metadata that expires soon.
type Ending struct {
	Role    string    `json:"role"`
	Expires time.Time `json:"expires"`
}

// Why is every gate between this host and the releases that the last successful check saw.
type Why struct {
	Outcome  Outcome          `json:"outcome"`
	Active   string           `json:"active,omitempty"`
	At       time.Time        `json:"at,omitzero"`
	Findings []policy.Finding `json:"findings,omitempty"` // newest release first, as the gates see it now
}

// Outcome of judging the offers, in one word.
type Outcome string

const (
	NotChecked Outcome = "not_checked" // no check has succeeded since the launcher started
	UpToDate   Outcome = "up_to_date"
	Available  Outcome = "available" // every gate lets a newer release through
	Underway   Outcome = "under_way" // and it is being installed already
	Blocked    Outcome = "blocked"   // there is a newer release, and a gate holds it back
)

// NewWhy sums findings up. active is the number of the version that serves, at the time of the check.
func NewWhy(active string, at time.Time, findings []policy.Finding) Why {
	w := Why{Outcome: UpToDate, Active: active, At: at, Findings: findings}
	switch {
	case at.IsZero():
		w.Outcome = NotChecked
	case slices.ContainsFunc(findings, policy.Finding.Passed):
		w.Outcome = Available
	case slices.ContainsFunc(findings, newer):
		w.Outcome = Blocked
	}
	return w
}

// newer says whether a finding is on a release that this host has not, and could have.
func newer(f policy.Finding) bool { return !slices.ContainsFunc(f.Verdicts, policy.Verdict.Moot) }

// about narrows w down to one release; "" leaves it whole.
func (w Why) about(number string) (Why, error) {
	if number == "" {
		return w, nil
	}
	var offered []string
	for _, f := range w.Findings {
		if f.Number == number {
			return NewWhy(w.Active, w.At, []policy.Finding{f}), nil
		}
		offered = append(offered, f.Number)
	}
	if w.At.IsZero() {
		return w, nil
	}
	return Why{}, &Error{Usage, fmt.Sprintf("%s was not judged at the last check; judged were %v: run check to read the channel again", number, offered)}
}

// checkCode is 0 after a check that got an answer.
func checkCode(e updater.Status) Code {
	switch {
	case e.CheckErr == "":
		return OK
	case e.CheckWas == journal.Refused, e.CheckWas == journal.Bad:
		return NotVerified
	case e.CheckFull:
		return NotPrepared
	}
	return NotDownloaded
}

// Engine fills in what the engine says: all that is not about processes, trust or the configuration. Health
// must be known by then: the engine may know better why nothing serves.
func (s *Status) Engine(e updater.Status) {
	s.Journal(e.State, e.Seq)
	s.LastCheck, s.NextCheck, s.CheckError, s.CheckCode = e.LastCheck, e.NextCheck, e.CheckErr, checkCode(e)
	s.LastError, s.Alarm = e.LastErr, e.Alarm
	active := ""
	if s.Active != nil {
		active = s.Active.Number
	}
	at := e.LastCheck
	if e.Findings == nil && e.CheckErr != "" {
		at = time.Time{} // none has succeeded yet
	}
	why := NewWhy(active, at, e.Findings)
	if why.Outcome == Available && underway(e.State, e.Findings) {
		why.Outcome = Underway
	}
	s.Why = &why
	if s.Health == Unhealthy && e.Trouble != "" { // the engine knows why, and what becomes of it
		s.Trouble = e.Trouble
	}
}

// underway says whether the release that every gate lets through is the one that is being installed.
func underway(st journal.State, findings []policy.Finding) bool {
	i := slices.IndexFunc(findings, policy.Finding.Passed)
	c := st.Candidate
	return c != nil && st.Phase != journal.Idle && st.Verdict == journal.None && findings[i].Number == c.Number
}

// Journal fills in what the journal says.
func (s *Status) Journal(st journal.State, seq uint64) {
	s.Phase, s.Seq, s.Reason = st.Phase, seq, st.Reason
	s.Pin, s.Pause, s.Quarantine, s.Held = st.Pin, st.Pause, st.Quarantine, st.Held
	s.ProbationLeftMS = 0
	if st.Phase == journal.Probation {
		s.ProbationLeftMS = st.Remaining.Milliseconds()
	}
	s.Active, s.Previous, s.Candidate = nil, nil, name(st.Candidate)
	if len(st.Good) > 0 {
		s.Active = name(&st.Good[0])
	}
	if len(st.Good) > 1 {
		s.Previous = name(&st.Good[1])
	}
}

func name(v *journal.Version) *Version {
	if v == nil {
		return nil
	}
	return &Version{Number: v.Number, Digest: v.Digest, Epoch: v.Epoch}
}

// Backend is the running launcher as the API sees it. Its methods are called from many goroutines. An
// error of Order that is an *Error, or one of the engine's refusals, reaches the client with its code; any
// other is an internal error.
type Backend interface {
	Status() Status
	// Order returns when the order is applied, or refused with the reason.
	Order(ctx context.Context, o updater.Order) error
	// History returns the last entries, newest first, at most limit.
	History(limit int) ([]Record, error)
}
