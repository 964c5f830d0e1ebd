package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// judge reads the events that follow an order and tells when, and how, its update has ended. It is pure:
// the same events always give the same verdict.
type judge struct {
	order  updater.OrderKind
	asked  string        // the version that was ordered, "" for any
	begun  bool          // the order has been applied: what comes now is its work
	at     updater.Phase // in which it was applied
	behind bool          // another update was too far on to make way, and ends first
	joined updater.Event // the end of that one: it is the outcome if no other update comes after it
	full   bool          // the last candidate was turned away for want of space on the disk
	hooked bool          // the last run of update.before_switch failed
	unfit  bool          // the last candidate failed its health.self_check

	over *updater.Event // is given the event with which the update ended, if it had one; may be nil
}

// verdict is what the events have come to.
type verdict int

const (
	open    verdict = iota // nothing is decided yet
	ended                  // the update ended, with a code
	unmoved                // no update began: what the gates say is the outcome
)

func (j *judge) feed(ev updater.Event) (verdict, control.Code) {
	if !j.begun {
		j.begun, j.at = ev.Kind == "order", ev.Phase
		j.behind = j.order == updater.OrderUpdate && hasTraffic(ev.Phase)
		return open, 0
	}
	switch ev.Kind {
	case "check":
		return j.check(ev)
	case "turn":
		j.full = ev.Full
	case "hook":
		j.hooked = ev.Err != ""
	case "self-check":
		j.unfit = ev.Err != ""
	case "end":
		return j.end(ev)
	}
	return open, 0
}

// hasTraffic says whether the candidate of that phase has, or had, the traffic: an order to update then waits
// until its update is over.
func hasTraffic(p journal.Phase) bool {
	switch p {
	case journal.Switching, journal.Probation, journal.Retiring, journal.Reverting, journal.Discarding:
		return true
	}
	return false
}

// check is a look at the channel from which no update came.
func (j *judge) check(ev updater.Event) (verdict, control.Code) {
	switch {
	case j.order != updater.OrderUpdate:
		return open, 0
	case j.joined.Kind != "":
		return j.outcome(j.joined)
	case ev.Err == "":
		return unmoved, 0
	case ev.Verdict == journal.Bad, ev.Verdict == journal.Refused:
		return ended, control.NotVerified
	case ev.Full:
		return ended, control.NotPrepared
	}
	return ended, control.NotDownloaded
}

// end is the end of an update. One that the order came behind is its outcome at once if it is the version that was
// ordered and the order ended with it, and else the turn of the order comes after it.
func (j *judge) end(ev updater.Event) (verdict, control.Code) {
	behind := j.behind
	j.behind, j.joined = false, updater.Event{}
	if !behind || ev.Number == j.asked && !wasLost(j.at) {
		return j.outcome(ev)
	}
	if v, _ := j.outcome(ev); v == ended {
		j.joined = ev
	}
	return open, 0
}

// wasLost says whether the candidate of that phase had its verdict already: an order to the same version is not
// ended by it.
func wasLost(p journal.Phase) bool { return p == journal.Reverting || p == journal.Discarding }

// outcome is what the end of an update means for the order.
func (j *judge) outcome(ev updater.Event) (verdict, control.Code) {
	switch {
	case j.order == updater.OrderUpdate && j.asked != "" && ev.Number != j.asked:
		return open, 0 // the turn of the one that was ordered comes after it
	case ev.Outcome == updater.Discarded && ev.Verdict == journal.Superseded && j.asked != "":
		return ended, control.HeldBack // by another order, or because it is offered no more
	case ev.Outcome == updater.Discarded && (ev.Verdict == journal.Superseded || ev.Verdict == journal.None):
		return open, 0 // it made way for another, and that one counts
	case ev.Outcome == updater.Committed:
		return ended, control.OK
	case ev.Outcome == updater.RolledBack && ev.Verdict == journal.Operator && j.order == updater.OrderRollback:
		return ended, control.OK // as ordered
	case ev.Outcome == updater.Stranded:
		return ended, control.NoWayBack
	case ev.Outcome == updater.RolledBack:
		return ended, control.RolledBack
	}
	if (j.full || j.hooked) && ev.Verdict == journal.World {
		return ended, control.NotPrepared
	}
	if j.unfit && ev.Verdict == journal.Bad {
		return ended, control.NeverHealthy
	}
	return ended, discarded(ev)
}

// discarded is the code of a candidate that never had traffic.
func discarded(ev updater.Event) control.Code {
	switch {
	case ev.Verdict == journal.Yanked:
		return control.HeldBack
	case ev.Verdict == journal.Refused:
		return control.NotVerified
	case ev.Failed == journal.Fetching && ev.Verdict == journal.World:
		return control.NotDownloaded
	case ev.Failed == journal.Fetching, ev.Failed == journal.Staging && ev.Verdict == journal.Bad:
		return control.NotVerified
	case ev.Failed == journal.Staging:
		return control.NotPrepared
	}
	return control.NeverHealthy
}

// stream is where events come from: a control.Events, or a script.
type stream interface {
	Next() (updater.Event, error)
}

// follow shows events until the update that was ordered has ended.
func (a *app) follow(ctx context.Context, events stream, j judge) (verdict, control.Code, error) {
	s := newScreen(a)
	defer s.close()
	for {
		ev, err := events.Next()
		if err != nil {
			return open, 0, a.lost(ctx, err)
		}
		s.show(ev)
		if v, code := j.feed(ev); v != open {
			if ev.Kind != "end" {
				ev = j.joined // none, mostly
			}
			if j.over != nil {
				*j.over = ev
			}
			return v, code, nil
		}
	}
}

// watch shows events until interrupted.
func (a *app) watch(ctx context.Context, events stream) error {
	s := newScreen(a)
	defer s.close()
	for {
		ev, err := events.Next()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return a.lost(ctx, err)
		}
		s.show(ev)
	}
}

// lost explains the end of the stream.
func (a *app) lost(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return exit(control.Internal, "stopped following; the update goes on: %s watch", a.program)
	case errors.Is(err, io.EOF):
		return exit(control.NotRunning, "the launcher stopped, or this command could not keep up; an update resumes when the launcher is back: %s status", a.program)
	}
	return err
}

// endAnswer is how an update that was followed ended.
type endAnswer struct {
	Entry   *control.Record `json:"entry,omitempty"` // the update, if one was begun
	Why     *control.Why    `json:"why,omitempty"`   // the gates, if none was
	code    control.Code
	program string
}

func (e endAnswer) text(w io.Writer, now time.Time) {
	switch {
	case e.Why != nil:
		whyAnswer{*e.Why, e.program}.text(w, now)
	case e.Entry != nil && e.code != control.OK:
		e.failure(w)
	}
}
