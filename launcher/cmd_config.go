package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) configCmd() *cobra.Command {
	show := a.do(func(context.Context, []string) (answer, error) { return a.configShow() })
	cmd := &cobra.Command{Use: "config", Short: "the configuration: show it, or check the file", Args: cobra.NoArgs, RunE: show}
	cmd.AddCommand(
		&cobra.Command{
			Use: "check", Short: "is the file right, and true on this machine", Args: cobra.NoArgs,
			RunE: a.do(func(context.Context, []string) (answer, error) { return a.configCheck() }),
		},
		&cobra.Command{
			Use: "show", Short: "the whole configuration with every default", Args: cobra.NoArgs, RunE: show,
		})
	return cmd
}

func (a *app) configCheck() (answer, error) {
	cfg, err := a.load()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(cfg.checkMachine(), cfg.checkReaders(), cfg.checkLine()); err != nil {
		return nil, err
	}
	return said{cfg.File + " is right"}, nil
}

func (a *app) configShow() (answer, error) {
	cfg, err := a.load()
	if err != nil {
		return nil, err
	}
	doc, err := reread(cfg.File)
	if err != nil {
		return nil, err
	}
	return configAnswer{cfg, doc.has}, nil
}

// configAnswer is a configuration with the keys that its file gives.
type configAnswer struct {
	cfg   Config
	given func(path string) bool
}

func (c configAnswer) MarshalJSON() ([]byte, error) {
	return json.Marshal(treeConfig(reflect.ValueOf(c.cfg)))
}

func (c configAnswer) text(w io.Writer, _ time.Time) {
	fmt.Fprintf(w, "# %s\n%s", c.cfg.File, showConfig(c.cfg, c.given))
}
