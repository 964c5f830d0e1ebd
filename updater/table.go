package updater

import (
	"context"
	"time"

	"github.com/turnstone-go/turnstone/updater/journal"
)

// row is one phase: its work, and the phase that follows when it is done or when it is not.
type row struct {
	do      func(*Updater, context.Context, *State) error
	ok, bad Phase
	yields  bool // an order interrupts the step; where it does not, the step is short and moves traffic
}

// table is the whole update. Work may be cut short anywhere and is then done again.
var table = map[Phase]row{
	journal.Idle:       {(*Updater).choose, journal.Fetching, journal.Idle, true},         // a release that every gate lets through
	journal.Fetching:   {(*Updater).fetch, journal.Staging, journal.Discarding, true},     // its bytes, length and digest checked
	journal.Staging:    {(*Updater).stage, journal.Warming, journal.Discarding, true},     // sealed in the store, signature and itself checked
	journal.Warming:    {(*Updater).warm, journal.Switching, journal.Discarding, true},    // up beside Good[0] and healthy
	journal.Switching:  {(*Updater).cutover, journal.Probation, journal.Reverting, false}, // it accepts, Good[0] is parked
	journal.Probation:  {(*Updater).observe, journal.Retiring, journal.Reverting, true},   // Good[0] stays warm; then commit
	journal.Retiring:   {(*Updater).retire, journal.Idle, journal.Idle, false},            // drain the old one, collect garbage
	journal.Reverting:  {(*Updater).revert, journal.Discarding, journal.Idle, false},      // traffic back to Good[0] or the next good one
	journal.Discarding: {(*Updater).discard, journal.Idle, journal.Idle, false},           // drain the candidate, keep its evidence
}

// follow takes the edge: where we were, what the step left and how it ended make the next State. It is pure.
func follow(st, next State, err error, o outlook) State {
	if err == nil && st.Phase == journal.Idle && next.Candidate == nil {
		return next // it learnt something, but not what to install
	}
	if err == nil {
		if next.Verdict == journal.None {
			next.Reason = ""
		}
		return enter(next, table[st.Phase].ok, o.probation)
	}
	return fail(st, err, o)
}

// fail is the edge of a step that did not end well. World is tried again in the same phase while it may be.
func fail(st State, err error, o outlook) State {
	if final(err) || st.Starts >= maxStarts || st.Phase == journal.Idle {
		return giveUp(st, blame(err), err, o)
	}
	st.Starts++
	if st.Verdict == journal.None { // else the reason for going back is the one worth keeping
		st.Reason = plain(err.Error())
	}
	return st
}

// giveUp is the right-hand edge.
func giveUp(st State, verdict journal.Verdict, err error, o outlook) State {
	from := st.Phase
	st = condemn(st, verdict, journal.Mark{Config: o.config, Reason: err.Error(), At: o.now})
	st = enter(st, table[from].bad, o.probation)
	if from == journal.Idle { // an order to update that found nothing to begin is done with
		st.Want, st.Reason = nil, plain(err.Error())
	}
	return st
}

// reboot is the edge that a start of the launcher takes before anything else: pure, too. A phase that was
// cut short counts one start more, so that a step which kills the launcher is not begun for ever. Going back is
// not counted: boot gives the traffic back before it, and to give it up would leave the candidate running. A
// probation counts a boot instead, and only if the payload died as well: a launcher that was killed alone
// says nothing about the candidate.
func reboot(st State, alive bool, o outlook) State {
	clean := st.Clean
	st.Clean = false
	switch {
	case clean, st.Phase == journal.Idle, st.Phase == journal.Reverting, st.Phase == journal.Probation && alive:
		return st
	case st.Phase == journal.Probation:
		if st.Boots++; st.Boots > maxBoots {
			return giveUp(st, journal.Bad, errCrashLoop, o)
		}
		return st
	case st.Starts >= maxStarts:
		return giveUp(st, journal.World, errTooOften, o)
	}
	st.Starts++
	return st
}

// outlook is what the edges need to know beside the State.
type outlook struct {
	probation time.Duration
	config    string
	now       time.Time
}
