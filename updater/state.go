package updater

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/turnstone-go/turnstone/updater/journal"
)

// State is what the journal keeps: everything that an update must remember across a crash.
type State = journal.State

// Version is one immutable version for this host's platform.
type Version = journal.Version

// Phase is a row of the table.
type Phase = journal.Phase

// Bounds on what a State holds, and on trying again.
const (
	maxReason = 500 // bytes
	maxGood   = 4   // active, previous and two more to fall back on
	maxMarks  = 64  // of quarantine and of holds, each
	maxStarts = 3   // of the step of one phase; the next one takes the bad edge instead
	maxBoots  = 2   // in one probation without a clean stop, the payload dead too; the next one reverts
)

// serving returns the version that a booting launcher must serve, nil if there is none yet.
func serving(st State) *Version {
	if st.Phase == journal.Probation {
		return st.Candidate
	}
	if len(st.Good) == 0 {
		return nil
	}
	return &st.Good[0]
}

// left returns the version that a rollback ordered now would leave, nil if there is none.
func left(st State) *Version {
	switch st.Phase {
	case journal.Switching, journal.Probation, journal.Reverting:
		return st.Candidate
	}
	return serving(st)
}

// goingBack says whether the candidate is a version that was committed here before: such an update asks
// neither the channel nor a gate.
func goingBack(st State) bool {
	return st.Candidate != nil && slices.ContainsFunc(st.Good, is(*st.Candidate))
}

// inFlight says whether there is a candidate that has had no traffic yet.
func inFlight(st State) bool {
	switch st.Phase {
	case journal.Fetching, journal.Staging, journal.Warming:
		return true
	}
	return false
}

// enter returns st at the beginning of a phase.
func enter(st State, p Phase, probation time.Duration) State {
	st.Phase, st.Starts, st.Boots, st.Remaining = p, 1, 0, 0
	switch p {
	case journal.Probation:
		if len(st.Good) > 0 { // the first version of all has nothing to go back to, so nothing waits for a verdict on it
			st.Remaining = probation
		}
	case journal.Idle:
		st.Starts, st.Candidate, st.Verdict = 0, nil, journal.None
		if len(st.Good) > 0 { // whatever a rollback meant to leave, what we ended on is not turned away
			st.Held = slices.DeleteFunc(slices.Clone(st.Held), marks(st.Good[0]))
		}
	}
	return st
}

// commit returns st with the candidate as the active version. A version that is held leaves the list: it
// is not what anyone wants to fall back on.
func commit(st State) State {
	c := *st.Candidate
	good := []Version{c}
	for _, v := range st.Good {
		if v.Digest != c.Digest && !slices.ContainsFunc(st.Held, marks(v)) && len(good) < maxGood {
			good = append(good, v)
		}
	}
	st.Good, st.Candidate = good, nil
	st.HighWater = max(st.HighWater, c.Epoch)
	return fulfil(st, c)
}

// fulfil drops the order to update to v, which has come to its end, well or not.
func fulfil(st State, v Version) State {
	if st.Want != nil && st.Want.Number == v.Number {
		st.Want = nil
	}
	return st
}

// condemn returns st with a verdict on its candidate and the mark that goes with it.
func condemn(st State, verdict journal.Verdict, m journal.Mark) State {
	if st.Verdict != journal.None || st.Candidate == nil {
		return st // the first verdict stands
	}
	m.Reason = plain(m.Reason)
	st.Verdict, st.Reason = verdict, m.Reason
	m.Number, m.Digest = st.Candidate.Number, st.Candidate.Digest
	switch verdict {
	case journal.Bad:
		m.Epoch = st.Candidate.Epoch
		st.Quarantine = add(st.Quarantine, m)
		if len(st.Good) > 0 && st.Good[0].Digest != m.Digest {
			st.Good = slices.DeleteFunc(slices.Clone(st.Good), is(*st.Candidate))
		}
	case journal.Operator:
		m.Config = ""
		st.Held = add(st.Held, m)
	}
	if verdict == journal.Superseded && st.Want != nil && st.Want.Newest {
		st.Want = &journal.Want{Now: st.Want.Now} // what takes its place was ordered just the same
	}
	return fulfil(st, *st.Candidate)
}

// add returns list with m at its end, once, and at most maxMarks long.
func add(list []journal.Mark, m journal.Mark) []journal.Mark {
	list = slices.DeleteFunc(slices.Clone(list), func(x journal.Mark) bool {
		return x.Digest == m.Digest && x.Config == m.Config
	})
	list = append(list, m)
	return list[max(0, len(list)-maxMarks):]
}

// previous returns the version that a rollback goes to, nil if there is none: the newest good one that is
// not itself turned away, or the one of that number.
func previous(st State, number, config string) *Version {
	for i, v := range st.Good {
		switch {
		case i == 0, number != "" && v.Number != number:
		case slices.ContainsFunc(st.Held, marks(v)):
		case slices.ContainsFunc(st.Quarantine, func(m journal.Mark) bool { return m.Digest == v.Digest && m.Config == config }):
		default:
			return &st.Good[i]
		}
	}
	return nil
}

// plain returns at most maxReason bytes of text that take no more room in JSON, so that a State with full
// lists fits the journal whatever a program or a person put into a reason.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '"':
			return '\''
		case r == '\\':
			return '/'
		case r == '<' || r == '>' || r == '&' || r == utf8.RuneError || !unicode.IsGraphic(r):
			return ' '
		}
		return r
	}, text)
	for len(text) > maxReason {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return text
}

func is(v Version) func(Version) bool {
	return func(x Version) bool { return x.Digest == v.Digest }
}

func marks(v Version) func(journal.Mark) bool {
	return func(m journal.Mark) bool { return m.Digest == v.Digest }
}

// clone returns a State whose lists a step may change without the original seeing it. What its pointers
// lead to is never changed in place, only replaced.
func clone(st State) State {
	st.Good = slices.Clone(st.Good)
	st.Quarantine = slices.Clone(st.Quarantine)
	st.Held = slices.Clone(st.Held)
	return st
}
