package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/launcher/control"
)

func (a *app) metricsCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "metrics",
		Short: "the status as Prometheus text, for a collector that reads files or runs commands",
		Args:  cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) (answer, error) {
			p, err := a.open()
			if err != nil {
				return nil, err
			}
			st, err := p.status(ctx)
			if errors.Is(err, control.ErrNotRunning) { // that it is down is what a collector wants to know
				return metricsAnswer{st}, outcome(control.NotRunning)
			}
			if err != nil {
				return nil, err
			}
			return metricsAnswer{st}, nil
		}),
	}
}

type metricsAnswer struct{ control.Status }

func (m metricsAnswer) text(w io.Writer, _ time.Time) { _, _ = w.Write(m.Metrics()) }

func (a *app) stacksCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "stacks",
		Short: "what every goroutine of the running launcher does, for a bug report",
		Args:  cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) (answer, error) {
			p, err := a.open()
			if err != nil {
				return nil, err
			}
			s, err := p.client.Stacks(ctx)
			if err != nil {
				return nil, p.needs(err)
			}
			return stacksAnswer{s}, nil
		}),
	}
}

type stacksAnswer struct{ control.Stacks }

func (s stacksAnswer) text(w io.Writer, _ time.Time) { _, _ = io.WriteString(w, s.Text) }
