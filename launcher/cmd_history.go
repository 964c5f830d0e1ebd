package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/launcher/control"
)

// maxShown is how many entries a question about the past asks for.
const maxShown = 1000

func (a *app) historyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "history",
		Short: "what was updated here and how it went",
		Args:  cobra.NoArgs,
	}
	limit := 20
	listed := a.do(func(ctx context.Context, _ []string) (answer, error) {
		p, err := a.open()
		if err != nil {
			return nil, err
		}
		if limit < 1 || limit > maxShown {
			return nil, exit(control.Usage, "--limit is 1 to %d", maxShown)
		}
		entries, err := p.history(ctx, limit)
		return historyAnswer{control.History{Entries: entries}, p.program}, err
	})
	list := &cobra.Command{Use: "list", Short: "the last updates, newest first", Args: cobra.NoArgs, RunE: listed}
	show := &cobra.Command{
		Use: "show [N]", Short: "everything about one update, or the last: times, evidence, last output", Args: cobra.MaximumNArgs(1),
		RunE: a.do(func(ctx context.Context, args []string) (answer, error) {
			p, err := a.open()
			if err != nil {
				return nil, err
			}
			return p.entry(ctx, first(args))
		}),
	}
	cmd.RunE = listed
	for _, c := range []*cobra.Command{cmd, list} {
		c.Flags().IntVar(&limit, "limit", limit, "how many")
	}
	cmd.AddCommand(list, show)
	return cmd
}

// history asks the launcher, or reads the file that it wrote. Entries beside an error are good.
func (p place) history(ctx context.Context, limit int) ([]control.Record, error) {
	entries, down := p.client.History(ctx, limit)
	if !errors.Is(down, control.ErrNotRunning) {
		return entries, down
	}
	entries, err := control.ReadHistory(p.disk, p.cfg.stateFile(historyFile), limit)
	if err != nil {
		return nil, exit(control.NotRunning, "%w, and its history cannot be read: %w", down, err)
	}
	return entries, outcome(control.NotRunning)
}

// historyFile is the name of the history in the state folder.
const historyFile = "history.jsonl"

// entry is the update of that number, or the last one for "".
func (p place) entry(ctx context.Context, number string) (answer, error) {
	n, limit := 0, 1
	if number != "" {
		var err error
		if n, err = strconv.Atoi(number); err != nil || n < 1 {
			return nil, exit(control.Usage, "%q is not the number of an entry: see %s history", number, p.program)
		}
		limit = maxShown
	}
	entries, err := p.history(ctx, limit)
	if err != nil && !errors.Is(err, errSaid) {
		return nil, err
	}
	for _, e := range entries {
		if n == 0 || e.N == n {
			return entryAnswer{e}, err
		}
	}
	if n == 0 {
		return said{"no update has been tried here yet"}, cmp.Or(err, outcome(control.NothingToDo))
	}
	return nil, exit(control.Usage, "there is no entry %d: see %s history", n, p.program)
}

type historyAnswer struct {
	control.History
	program string
}

func (h historyAnswer) text(w io.Writer, now time.Time) {
	if len(h.Entries) == 0 {
		fmt.Fprintln(w, "no update has been tried here yet")
		return
	}
	rows := [][]string{{"N", "when", "outcome", "from", "to", "took", ""}}
	for _, e := range h.Entries {
		rows = append(rows, entryRow(e, now))
	}
	table(w, rows)
	fmt.Fprintf(w, "  More about one: %s history show N\n", h.program)
}
