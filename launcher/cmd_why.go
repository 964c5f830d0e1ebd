package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater/policy"
)

func (a *app) whyCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "why [VERSION]",
		Short: "why a release is, or is not, installed here: every gate and when it can change",
		Args:  oneVersion,
		RunE: a.do(func(ctx context.Context, args []string) (answer, error) {
			p, err := a.open()
			if err != nil {
				return nil, err
			}
			y, err := p.client.Why(ctx, first(args))
			if errors.Is(err, control.ErrNotRunning) {
				return p.whyOffline(ctx)
			}
			if err != nil {
				return nil, err
			}
			return whyAnswer{y, p.program}, nil
		}),
	}
}

// whyOffline is what the journal knows of the gates: it has the operator's, but not the channel's.
func (p place) whyOffline(ctx context.Context) (answer, error) {
	st, err := p.status(ctx)
	if st.Phase == "" {
		return nil, err
	}
	f := policy.Finding{Verdicts: []policy.Verdict{{Gate: "launcher", Text: "not running, so nothing is installed: " + p.start()}}}
	if st.Pin != nil {
		f.Verdicts = append(f.Verdicts, policy.Verdict{Gate: "pin", Text: dots("pinned to "+st.Pin.Number, st.Pin.Reason), Until: st.Pin.Until})
	}
	if st.Pause != nil {
		f.Verdicts = append(f.Verdicts, policy.Verdict{Gate: "pause", Text: dots("updates are paused", st.Pause.Reason), Until: st.Pause.Until})
	}
	y := control.Why{Outcome: control.Blocked, Findings: []policy.Finding{f}}
	if st.Active != nil {
		y.Active = st.Active.Number
	}
	return whyAnswer{y, p.program}, outcome(control.NotRunning)
}

func (a *app) checkCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "read the channel now and say what it offers (exit 0 available, 3 up to date, 10 held back)",
		Args:  cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) (answer, error) {
			p, err := a.open()
			if err != nil {
				return nil, err
			}
			y, err := p.client.Check(ctx)
			if err != nil {
				return nil, p.needs(err)
			}
			code := map[control.Outcome]control.Code{control.UpToDate: control.NothingToDo, control.Blocked: control.HeldBack}[y.Outcome]
			return whyAnswer{y, p.program}, outcome(code)
		}),
	}
}

type whyAnswer struct {
	control.Why
	program string
}

func (y whyAnswer) text(w io.Writer, now time.Time) {
	switch {
	case y.Outcome == control.NotChecked:
		fmt.Fprintf(w, "no check has succeeded since the launcher started: %s check\n", y.program)
	case y.Outcome == control.UpToDate:
		fmt.Fprintf(w, "%s is active, and the channel offers nothing newer%s\n", y.Active, y.read(now))
		for _, f := range y.Findings {
			if v := f.Refusal(); v != nil && v.Gate == "platform" {
				fmt.Fprintf(w, "  %s\n", v.Text)
			}
		}
	default:
		for _, f := range y.Findings {
			y.finding(w, f, now)
		}
	}
}

// read says how old the answer is when that matters.
func (y whyAnswer) read(now time.Time) string {
	if y.At.IsZero() || now.Sub(y.At) < 2*time.Second {
		return ""
	}
	return " (read " + ago(y.At, now) + ")"
}

func (y whyAnswer) finding(w io.Writer, f policy.Finding, now time.Time) {
	switch until := f.Until(); {
	case f.Passed() && y.Outcome == control.Underway:
		fmt.Fprintf(w, "%s is being installed: %s status\n", f.Number, y.program)
	case f.Passed():
		fmt.Fprintf(w, "%s will be installed here%s\n", f.Number, y.read(now))
	case f.Number == "":
		fmt.Fprintln(w, "nothing will be installed here")
	case until.IsZero():
		fmt.Fprintf(w, "%s is not installed here%s\n", f.Number, y.read(now))
	default:
		fmt.Fprintf(w, "%s waits; next change %s (%s)%s\n", f.Number, day(until, now), in(until, now), y.read(now))
	}
	var rows [][]string
	for _, v := range f.Verdicts {
		word := "pass"
		if !v.Pass {
			word = "WAIT"
		}
		rows = append(rows, []string{word, v.Gate, v.Text})
	}
	table(w, rows)
	if y.skippable(f) {
		fmt.Fprintf(w, "  For this host only: %s update %s --now\n", y.program, f.Number)
	}
}

// skippable says whether an operator may order the release now: only gates that wait hold it back.
func (y whyAnswer) skippable(f policy.Finding) bool {
	waiting := false
	for _, v := range f.Verdicts {
		if v.Pass {
			continue
		}
		if v.Gate != "share" && v.Gate != "pause" && v.Gate != "busy" {
			return false
		}
		waiting = true
	}
	return waiting && f.Number != ""
}
