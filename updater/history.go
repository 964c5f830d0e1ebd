package updater

import (
	"fmt"
	"time"

	"github.com/turnstone-go/turnstone/updater/journal"
)

// Outcome is how an update ended.
type Outcome string

const (
	Committed  Outcome = "committed"   // the candidate is active
	RolledBack Outcome = "rolled-back" // it had the traffic, or the old version was stopped for it, and lost it again
	Stranded   Outcome = "stranded"    // it had the traffic and failed, and no other version could take it
	Discarded  Outcome = "discarded"   // it was turned away before it had any
)

// Entry is one finished update, for people to read. After a crash in the middle it tells what is known
// since. A crash just after the end can lose it; it decides nothing.
type Entry struct {
	Started    time.Time       `json:"started"`
	Ended      time.Time       `json:"ended"`
	Outcome    Outcome         `json:"outcome"`
	From       string          `json:"from,omitempty"`
	To         string          `json:"to"`
	Digest     string          `json:"digest"` // of To
	Verdict    journal.Verdict `json:"verdict,omitempty"`
	Failed     Phase           `json:"failed,omitempty"` // the phase that turned it away
	Reason     string          `json:"reason,omitempty"`
	Millis     map[Phase]int64 `json:"millis"`                // spent in each phase
	SwitchMS   float64         `json:"switch_ms,omitempty"`   // the order to switch, until all was acknowledged
	RollbackMS float64         `json:"rollback_ms,omitempty"` // from the verdict until the traffic was back
	Evidence   *Evidence       `json:"evidence,omitempty"`
}

// story is what Run remembers of the update under way.
type story struct {
	entry    Entry
	entered  time.Time     // this phase
	turned   time.Time     // the verdict
	switched time.Duration // the switch forward took
	back     time.Duration // from the verdict until the traffic was back
	evidence *Evidence
}

// begin opens the story of the update in st.
func (u *Updater) begin(st State) {
	now := time.Now()
	u.story = &story{entered: now, turned: now, entry: Entry{Started: now, Millis: map[Phase]int64{}}}
	e := &u.story.entry
	if len(st.Good) > 0 {
		e.From = st.Good[0].Number
	}
	switch {
	case st.Candidate != nil:
		e.To, e.Digest = st.Candidate.Number, st.Candidate.Digest
	case len(st.Good) > 0: // committed before the cut
		e.From, e.To, e.Digest = "", st.Good[0].Number, st.Good[0].Digest
		if len(st.Good) > 1 {
			e.From = st.Good[1].Number
		}
	}
	e.Verdict, e.Reason = st.Verdict, st.Reason
	u.mark(st.Phase)
}

// turn goes on to the next page: from one phase to another, or by an order to another candidate.
func (u *Updater) turn(st, after State) {
	now := time.Now()
	if s := u.story; s != nil {
		s.entry.Millis[st.Phase] += now.Sub(s.entered).Milliseconds()
		s.entered = now
	}
	switch {
	case u.story == nil && after.Phase != journal.Idle:
		u.begin(after)
		return
	case u.story != nil && after.Candidate != nil && after.Candidate.Digest != u.story.entry.Digest:
		u.end(st)
		u.begin(after)
		return
	case u.story == nil:
		return
	}
	if after.Verdict != journal.None && u.story.entry.Verdict == journal.None {
		u.story.turned = now
		u.story.entry.Failed = st.Phase
		u.story.entry.Verdict, u.story.entry.Reason = after.Verdict, after.Reason
	}
	u.mark(after.Phase)
	if stranded(st, after) {
		u.story.entry.Outcome = Stranded
	}
}

// stranded says whether the edge is the one that reverting takes when every way back is broken.
func stranded(st, after State) bool {
	return st.Phase == journal.Reverting && after.Phase == journal.Idle
}

// mark notes what reaching a phase means for the outcome.
func (u *Updater) mark(p Phase) {
	switch p {
	case journal.Retiring:
		u.story.entry.Outcome = Committed
	case journal.Reverting:
		u.story.entry.Outcome = RolledBack
		if u.story.entry.From == "" {
			u.story.entry.Outcome = Stranded
		}
	}
}

// close ends the story once idle is saved.
func (u *Updater) close(st State) {
	if st.Phase == journal.Idle && u.story != nil {
		u.end(st)
	}
}

func (u *Updater) end(st State) {
	s := u.story
	u.story = nil
	e := s.entry
	e.Ended = time.Now()
	if e.Outcome == "" {
		e.Outcome = Discarded
	}
	e.Evidence = s.evidence
	e.SwitchMS, e.RollbackMS = millis(s.switched), millis(s.back)
	if u.History != nil {
		u.History(e)
	}
	failure := e.Reason
	if e.Outcome == Committed {
		failure = "" // the reason is then why it was ordered
	}
	u.emit(Event{Kind: "end", Phase: st.Phase, Number: e.To, Text: e.String(), Err: failure, Outcome: e.Outcome, Verdict: e.Verdict, Failed: e.Failed})
}

// String says in one line how the update ended.
func (e Entry) String() string {
	text := fmt.Sprintf("%s in %s", e.Outcome, short(e.Ended.Sub(e.Started)))
	if (e.Outcome == RolledBack || e.Outcome == Discarded) && e.From != "" {
		text += ", " + e.From + " serves"
	}
	return text
}

// cameBack tells that v has the traffic again, and what was broken on the way to it.
func (u *Updater) cameBack(st State, v Version, broken []error) {
	u.nowUp()
	if s := u.story; s.back == 0 {
		s.back = time.Since(s.turned)
	}
	for _, err := range broken {
		u.emit(Event{Kind: "alarm", Number: v.Number, Text: v.Number + " serves, an older version than the last good one, which is broken", Err: err.Error()})
	}
	u.emit(Event{Kind: "rollback", Number: v.Number, Text: fmt.Sprintf("has the traffic again after %s: %s", short(u.story.back), st.Reason)})
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
