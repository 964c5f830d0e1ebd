package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater/journal"
)

func (a *app) statusCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "how the service is: what runs, what comes next, what went wrong",
		Args:  cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) (answer, error) {
			p, err := a.open()
			if err != nil {
				return nil, err
			}
			st, err := p.status(ctx)
			switch {
			case errors.Is(err, control.ErrNotRunning) && st.Phase != "":
				return statusAnswer{st, p.program}, exit(control.NotRunning, "%w; this is the journal's word: %s", err, p.start())
			case err != nil:
				return nil, err
			case st.Health == control.Unhealthy, st.Health == control.Starting:
				return statusAnswer{st, p.program}, outcome(control.NotHealthy)
			}
			return statusAnswer{st, p.program}, nil
		}),
	}
}

// start is what to do about a launcher that does not run.
func (p place) start() string {
	return fmt.Sprintf("start it with the service manager, or by %s run", p.program)
}

// status asks the launcher, or the journal beside the error when there is no launcher.
func (p place) status(ctx context.Context) (control.Status, error) {
	st, down := p.client.Status(ctx)
	if !errors.Is(down, control.ErrNotRunning) {
		return st, down
	}
	st = control.Status{Product: p.cfg.Product, Channel: p.cfg.Repository.Channel, Repository: p.cfg.Repository.URL, Health: control.Unknown}
	last, seq, err := journal.Read(p.disk, filepath.Join(p.cfg.State.Dir, "journal"))
	switch {
	case err == nil:
		st.Journal(last, seq)
		return st, down
	case errors.Is(err, journal.ErrEmpty), errors.Is(err, fs.ErrNotExist):
		return st, exit(control.NotRunning, "%w, and nothing was ever installed in %s: %s", down, p.cfg.State.Dir, p.start())
	case errors.Is(err, fs.ErrPermission):
		return st, exit(control.NoPrivilege, "%w, and its journal is not open to you: run the command as an administrator (sudo)", down)
	}
	return st, exit(control.NotRunning, "%w, and its journal cannot be read: %w; what is proven serves when it runs again: %s", down, err, p.start())
}

type statusAnswer struct {
	control.Status
	program string
}

func (s statusAnswer) text(w io.Writer, now time.Time) {
	s.headline(w, now)
	for _, p := range s.Processes {
		row(w, p.Role, dots(p.Number, p.State, fmt.Sprintf("pid %d", p.PID), plural(p.Open, "connection"),
			fmt.Sprintf("%d answered", p.Requests), "up "+short(now.Sub(p.Since)), restarts(p.Restarts), busy(p.Busy)))
	}
	s.update(w, now)
	if s.Previous != nil && s.Phase == journal.Idle && s.Running {
		row(w, "previous", fmt.Sprintf("%s on disk, to go back: %s rollback", s.Previous.Number, s.program))
	}
	s.policy(w, now)
	s.marks(w)
	s.trust(w, now)
}

func (s statusAnswer) headline(w io.Writer, now time.Time) {
	dot := map[control.Health]string{control.Healthy: "●", control.Unhealthy: "✗", control.Starting: "○", control.Unknown: "○"}[s.Health]
	number, since, health := "nothing installed", "", string(s.Health)
	if s.Active != nil {
		number = s.Active.Number
	}
	if !s.Since.IsZero() {
		since = "since " + day(s.Since, now)
	}
	if !s.Running {
		health = "not running"
	}
	fmt.Fprintf(w, "%s %s  %s  %s\n", dot, s.Product, health, dots(number, since))
	row(w, "trouble", s.Trouble)
}

// phases is each phase as a person would say it.
var phases = map[journal.Phase]string{
	journal.Fetching: "is downloaded", journal.Staging: "is verified", journal.Warming: "is started beside the active version",
	journal.Switching: "takes over the connections", journal.Probation: "is in probation", journal.Retiring: "is committed, the old version drains",
	journal.Reverting: "failed, going back", journal.Discarding: "is discarded",
}

func (s statusAnswer) update(w io.Writer, now time.Time) {
	if s.Candidate != nil && s.Phase != journal.Idle {
		left := ""
		if s.ProbationLeftMS > 0 {
			left = short(time.Duration(s.ProbationLeftMS)*time.Millisecond) + " left"
		}
		row(w, "update", dots(s.Candidate.Number+" "+phases[s.Phase], left, firstLine(s.Reason)))
	}
	if s.Phase == journal.Idle {
		row(w, "last update", s.Reason) // what came to nothing, ordered or not
	}
	if s.Why != nil {
		row(w, "next", next(*s.Why, s.program))
	}
	checked := ""
	if !s.LastCheck.IsZero() {
		checked = "last " + ago(s.LastCheck, now)
	}
	if !s.NextCheck.IsZero() {
		checked = dots(checked, "next "+in(s.NextCheck, now))
	}
	row(w, "check", dots(checked, firstLine(s.CheckError)))
	row(w, "alarm", firstLine(s.Alarm))
}

// next says in one line what the offers come to; nothing when there is nothing newer.
func next(y control.Why, program string) string {
	for _, f := range y.Findings {
		switch {
		case f.Passed() && y.Outcome == control.Underway:
			return "" // the line above says it
		case f.Passed():
			return f.Number + " will be installed"
		case y.Outcome == control.Blocked:
			var gates []string
			for _, v := range f.Verdicts {
				if !v.Pass {
					gates = append(gates, v.Gate)
				}
			}
			return fmt.Sprintf("%s is held back by %s: %s why", f.Number, list(gates), program)
		}
	}
	return ""
}

func (s statusAnswer) policy(w io.Writer, now time.Time) {
	if s.Pin != nil {
		row(w, "pinned", dots("to "+s.Pin.Number, s.Pin.Reason, end(s.Pin.Until, now), s.program+" unpin"))
	}
	if s.Pause != nil {
		row(w, "paused", dots("no updates are started", s.Pause.Reason, end(s.Pause.Until, now), s.program+" resume"))
	}
}

// end says when something that an operator set ends by itself.
func end(until, now time.Time) string {
	switch {
	case until.IsZero():
		return "no end set"
	case !until.After(now):
		return "over since " + day(until, now)
	}
	return "until " + day(until, now)
}

func (s statusAnswer) marks(w io.Writer) {
	for _, m := range s.Quarantine {
		row(w, "quarantine", dots(m.Number, firstLine(m.Reason)))
	}
	for _, m := range s.Held {
		row(w, "held", dots(m.Number, firstLine(m.Reason)))
	}
	switch all := slices.Concat(s.Quarantine, s.Held); len(all) {
	case 0:
	case 1:
		row(w, "", "to try again: "+s.program+" quarantine clear "+all[0].Number)
	default:
		row(w, "", "to try again: "+s.program+" quarantine clear VERSION")
	}
}

func (s statusAnswer) trust(w io.Writer, now time.Time) {
	if s.Trust == nil {
		return
	}
	fresh := "fresh until " + day(s.Trust.Expires, now)
	switch {
	case s.Trust.Expired:
		fresh = "EXPIRED " + ago(s.Trust.Expires, now) + ": serving goes on, updates wait for the vendor's signature"
	case len(s.Trust.Ending) > 0:
		first := s.Trust.Ending[0]
		fresh = "EXPIRES " + in(first.Expires, now) + " (" + first.Role + "): then updates wait; the vendor must publish, or the repository cannot be reached"
	}
	row(w, "trust", dots(fmt.Sprintf("root v%d", s.Trust.RootVersion), fresh, "channel "+s.Channel, s.Repository))
}

func restarts(n int) string {
	if n == 0 {
		return ""
	}
	return plural(n, "restart")
}

func busy(reason string) string {
	if reason == "" {
		return ""
	}
	return "asks to wait: " + reason
}
