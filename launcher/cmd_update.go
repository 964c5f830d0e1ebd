package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/policy"
)

func (a *app) updateCmd() *cobra.Command {
	var q control.Request
	var follow bool
	cmd := &cobra.Command{
		Use:   "update [VERSION]",
		Short: "install what the channel offers, or one of its versions",
		Long: "Orders the launcher to look at the channel and install what it offers, or one version of it.\n\n" +
			"--now skips the gates that only wait (share, pause, busy); never signatures, quarantine or a pin.\n" +
			"--follow stays until the outcome is known and ends with its exit code.\n\n" + exitHelp,
		Args: oneVersion,
	}
	cmd.RunE = a.do(func(ctx context.Context, args []string) (answer, error) {
		q.Version = first(args)
		what := "the newest release"
		if q.Version != "" {
			what = q.Version
		}
		return a.begin(ctx, "update", q, follow, "ordered: update to "+what)
	})
	cmd.Flags().BoolVar(&q.Now, "now", false, "do not wait for this host's share, the end of a pause, or a quiet moment")
	cmd.Flags().BoolVar(&follow, "follow", false, "show each step and wait for the outcome")
	return cmd
}

func (a *app) rollbackCmd() *cobra.Command {
	var q control.Request
	var follow bool
	cmd := &cobra.Command{
		Use:   "rollback [VERSION]",
		Short: "go back to the version before, or an older good one, and hold the one that is left",
		Args:  oneVersion,
	}
	cmd.RunE = a.do(func(ctx context.Context, args []string) (answer, error) {
		q.Version = first(args)
		return a.begin(ctx, "rollback", q, follow, "ordered: rollback")
	})
	cmd.Flags().StringVar(&q.Reason, "reason", "", "why, for those who ask later")
	cmd.Flags().BoolVar(&follow, "follow", false, "show each step and wait for the outcome")
	return cmd
}

// begin orders an update and, if asked, follows it. It follows before it orders, so as to miss nothing.
func (a *app) begin(ctx context.Context, verb string, q control.Request, follow bool, done string) (answer, error) {
	p, err := a.open()
	if err != nil {
		return nil, err
	}
	if !follow {
		if err := p.client.Order(ctx, verb, q); err != nil {
			return nil, p.needs(err)
		}
		return said{done + "; to follow it: " + a.program + " watch"}, nil
	}
	events, err := p.client.Events(ctx)
	if err != nil {
		return nil, p.needs(err)
	}
	defer events.Close()
	begun := time.Now()
	if err := p.client.Order(ctx, verb, q); err != nil {
		return nil, p.needs(err)
	}
	var over updater.Event
	v, code, err := a.follow(ctx, events, judge{order: updater.OrderKind(verb), asked: q.Version, over: &over})
	if err != nil {
		return nil, err
	}
	if v == unmoved {
		return p.held(ctx, q.Version)
	}
	return p.conclude(ctx, over, begun, code)
}

// held asks for the gates that kept an update from beginning.
func (p place) held(ctx context.Context, asked string) (answer, error) {
	last := endAnswer{program: p.program}
	y, err := p.client.Why(ctx, "")
	if err != nil {
		return nil, err
	}
	if asked != "" && !slices.ContainsFunc(y.Findings, func(f policy.Finding) bool { return f.Number == asked }) {
		return last, outcome(control.HeldBack) // the channel does not offer it: the last event said so
	}
	last.Why = &y
	return last, outcome(map[control.Outcome]control.Code{control.Blocked: control.HeldBack, control.UpToDate: control.NothingToDo}[y.Outcome])
}

// conclude asks for the entry of the update that ended with the event over. An outcome that is no end of an
// update, such as a channel that cannot be read, has none, and what the history holds is about others.
func (p place) conclude(ctx context.Context, over updater.Event, begun time.Time, code control.Code) (answer, error) {
	last := endAnswer{code: code, program: p.program}
	if over.Kind == "" {
		return last, outcome(code)
	}
	entries, err := p.client.History(ctx, 5)
	i := slices.IndexFunc(entries, func(e control.Record) bool { return e.To == over.Number && !e.Ended.Before(begun) })
	if err == nil && i >= 0 { // without it the outcome stands all the same
		last.Entry = &entries[i]
	}
	return last, outcome(code)
}

func (a *app) watchCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "watch",
		Short: "show what happens, as it happens, until interrupted",
		Args:  cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) (answer, error) {
			p, err := a.open()
			if err != nil {
				return nil, err
			}
			events, err := p.client.Events(ctx)
			if err != nil {
				return nil, p.needs(err)
			}
			defer events.Close()
			return nil, a.watch(ctx, events)
		}),
	}
}
