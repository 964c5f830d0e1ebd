package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater/journal"
)

func (a *app) quarantineCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quarantine",
		Short: "versions that failed here, or were turned away, and are not tried again",
		Args:  cobra.NoArgs,
	}
	listed := a.do(func(ctx context.Context, _ []string) (answer, error) {
		p, err := a.open()
		if err != nil {
			return nil, err
		}
		st, err := p.status(ctx)
		if err != nil && st.Phase == "" {
			return nil, err
		}
		q := quarantineAnswer{control.Quarantine{Quarantine: st.Quarantine, Held: st.Held}, a.program}
		if errors.Is(err, control.ErrNotRunning) {
			err = outcome(control.NotRunning)
		}
		return q, err
	})
	cmd.RunE = listed
	cmd.AddCommand(&cobra.Command{Use: "list", Short: "list them", Args: cobra.NoArgs, RunE: listed}, a.clearCmd())
	return cmd
}

func (a *app) clearCmd() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "clear VERSION | --all",
		Short: "let a version be tried again",
		Args:  oneVersion,
		RunE: a.do(func(ctx context.Context, args []string) (answer, error) {
			if (len(args) == 0) != all {
				return nil, exit(control.Usage, "name one version, or use --all")
			}
			what := "all of them"
			if !all {
				what = args[0]
			}
			return a.order(ctx, "quarantine/clear", control.Request{Version: first(args), All: all}, "cleared: "+what+" may be tried again at the next check")
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "clear the quarantine and every hold")
	return cmd
}

type quarantineAnswer struct {
	control.Quarantine
	program string
}

func (q quarantineAnswer) text(w io.Writer, now time.Time) {
	if len(q.Quarantine.Quarantine)+len(q.Held) == 0 {
		fmt.Fprintln(w, "no version is turned away here")
		return
	}
	rows := [][]string{{"version", "digest", "since", "as", "because"}}
	rows = append(rows, marks(q.Quarantine.Quarantine, "failed", now)...)
	rows = append(rows, marks(q.Held, "held", now)...)
	table(w, rows)
	fmt.Fprintf(w, "  To try one again: %s quarantine clear VERSION\n", q.program)
}

func marks(list []journal.Mark, as string, now time.Time) (rows [][]string) {
	for _, m := range list {
		rows = append(rows, []string{m.Number, m.Digest[:min(8, len(m.Digest))], day(m.At, now), as, firstLine(m.Reason)})
	}
	return rows
}
