package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/manifest"
)

// needs explains an order that found no launcher: only a running one can change anything.
func (p place) needs(err error) error {
	if errors.Is(err, control.ErrNotRunning) {
		return exit(control.NotRunning, "%w, and only a running one can do this: %s", err, p.start())
	}
	return err
}

// order sends an order and says what it came to.
func (a *app) order(ctx context.Context, verb string, q control.Request, done string) (answer, error) {
	p, err := a.open()
	if err != nil {
		return nil, err
	}
	if err := p.client.Order(ctx, verb, q); err != nil {
		return nil, p.needs(err)
	}
	return said{done}, nil
}

// terms are the flags of whatever an operator sets for a time.
type terms struct {
	reason, until string
	lasts         time.Duration
}

func (t *terms) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.reason, "reason", "", "why, for those who ask later")
	cmd.Flags().StringVar(&t.until, "until", "", "ends by itself at this time: 2026-12-05, or 2026-12-05T18:00")
	cmd.Flags().DurationVar(&t.lasts, "for", 0, "ends by itself after this time: 90m, 48h")
	cmd.MarkFlagsMutuallyExclusive("until", "for")
}

// request turns the flags into the body of an order. Times without a zone are local.
func (t *terms) request(now time.Time) (control.Request, error) {
	q := control.Request{Reason: t.reason}
	switch {
	case t.lasts < 0:
		return q, exit(control.Usage, "--for is %s: it must be after now", t.lasts)
	case t.lasts > 0:
		q.Until = now.Add(t.lasts).Round(time.Second)
	case t.until != "":
		var err error
		for _, form := range []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
			if q.Until, err = time.ParseInLocation(form, t.until, now.Location()); err == nil {
				break
			}
		}
		if err != nil {
			return q, exit(control.Usage, "--until %q is not a time: write 2026-12-05, 2026-12-05T18:00 or 2026-12-05T18:00:00+01:00", t.until)
		}
		if !q.Until.After(now) {
			return q, exit(control.Usage, "--until %s is over: it must be after now", t.until)
		}
	}
	return q, nil
}

func (t *terms) end(q control.Request, now time.Time) string {
	if q.Until.IsZero() {
		return ""
	}
	return " until " + day(q.Until, now)
}

func (a *app) pinCmd() *cobra.Command {
	var t terms
	cmd := &cobra.Command{
		Use:   "pin [VERSION]",
		Short: "stay on one version (default: the active one) until unpin",
		Args:  oneVersion,
	}
	cmd.RunE = a.do(func(ctx context.Context, args []string) (answer, error) {
		q, err := t.request(time.Now())
		if err != nil {
			return nil, err
		}
		what := "the active version"
		if q.Version = first(args); q.Version != "" {
			what = q.Version
		}
		return a.order(ctx, "pin", q, fmt.Sprintf("pinned to %s%s; to end it: %s unpin", what, t.end(q, time.Now()), a.program))
	})
	t.flags(cmd)
	return cmd
}

func (a *app) unpinCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "unpin",
		Short: "let the channel decide again",
		Args:  cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) (answer, error) {
			return a.order(ctx, "unpin", control.Request{}, "not pinned any more; the next check follows the channel")
		}),
	}
}

func (a *app) pauseCmd() *cobra.Command {
	var t terms
	cmd := &cobra.Command{
		Use:   "pause",
		Short: "start no updates until resume; serving goes on",
		Args:  cobra.NoArgs,
	}
	cmd.RunE = a.do(func(ctx context.Context, _ []string) (answer, error) {
		q, err := t.request(time.Now())
		if err != nil {
			return nil, err
		}
		return a.order(ctx, "pause", q, fmt.Sprintf("updates are paused%s; to go on: %s resume", t.end(q, time.Now()), a.program))
	})
	t.flags(cmd)
	return cmd
}

func (a *app) resumeCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "resume",
		Short: "start updates again",
		Args:  cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) (answer, error) {
			return a.order(ctx, "resume", control.Request{}, "updates are not paused any more")
		}),
	}
}

// oneVersion takes no argument, or a version.
func oneVersion(cmd *cobra.Command, args []string) error {
	if err := cobra.MaximumNArgs(1)(cmd, args); err != nil || len(args) == 0 {
		return err
	}
	if manifest.CheckVersion(args[0]) != nil {
		return fmt.Errorf("%q is not a version: write it as 1.2.3 or 1.2.3-rc.1", args[0])
	}
	return nil
}

// first is the argument, or "" if there is none.
func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
