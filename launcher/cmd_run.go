package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/launcher/host"
)

func (a *app) runCmd() *cobra.Command {
	var m managed
	cmd := &cobra.Command{
		Use:   "run",
		Short: "be the launcher, in the foreground, until interrupted",
		Args:  cobra.NoArgs,
		RunE:  a.do(func(ctx context.Context, _ []string) (answer, error) { return nil, a.serve(ctx, m) }),
	}
	m.folderFlag(cmd)
	return cmd
}

func (m *managed) folderFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&m.unprotected, "unprotected", false, "start even if others can change the state folder")
}

// managed is what the command line of a registered service says beside the configuration.
type managed struct {
	by          bool   // a service manager started us
	name        string // of the service
	unprotected bool   // the state folder need not be safe from others
}

// runServiceCmd is what install registers. People need it never.
func (a *app) runServiceCmd() *cobra.Command {
	m := managed{by: true}
	cmd := &cobra.Command{
		Use: host.Verb, Hidden: true, Args: cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) (answer, error) { return nil, a.serve(ctx, m) }),
	}
	cmd.Flags().StringVar(&m.name, "name", "", "name of the service")
	m.folderFlag(cmd)
	return cmd
}

// serve is the launcher under its manager. The manager hears of us before the configuration is read, so that
// a mistake in it is an exit code and not a timeout.
func (a *app) serve(ctx context.Context, m managed) error {
	service := host.Service{Name: m.name, Managed: m.by, Code: func(err error) int { return int(codeOf(err)) }}
	service.Run = func(ctx context.Context, ready func(host.Controls)) error {
		cfg, err := a.load()
		if m.by && errors.Is(err, errUnread) {
			err = exit(control.Internal, "%w", err) // its disk may come later: the manager tries again
		}
		out, end := m.output(cfg)
		defer end()
		if err == nil {
			err = m.allowed(cfg, out.log)
		}
		if err == nil {
			err = runLauncher(ctx, cfg, out, ready)
		}
		m.farewell(out.log, err, service.ExitCode(err))
		return err
	}
	return host.Run(ctx, service)
}

// output opens the service's own log, or the console's.
func (m managed) output(cfg Config) (output, func()) {
	out := newOutput(cfg.Log.Level)
	if !m.by {
		return out, func() {}
	}
	log, err := host.OpenLog(m.name, cfg.stateFile("log"), out.level) // without a configuration there is no folder
	if err != nil {
		out.log.Error("the service's log cannot be written", "err", err)
		return out, func() {}
	}
	out.log = log.Logger
	return out, func() { _ = log.Close() } // it has said everything
}

// allowed refuses a configuration that cannot work here, and a state folder that others could have prepared
// for us: whoever may write there decides what runs with the launcher's rights.
func (m managed) allowed(cfg Config, log *slog.Logger) error {
	if err := cfg.checkMachine(); err != nil {
		return err
	}
	if err := cfg.checkLine(); err != nil {
		log.Error("the service runs, and its updates wait until this is mended and the launcher started again", "err", err)
	}
	privileged := os.Geteuid() == 0 // false on Windows, where a console's folders belong to its user
	if !m.by && !privileged {
		return nil
	}
	err := host.CheckFolder(cfg.State.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err = host.MakeFolder(cfg.State.Dir); err == nil {
			err = host.CheckFolder(cfg.State.Dir)
		}
	}
	if err != nil && m.unprotected {
		log.Warn("starting although others can change the state folder: --unprotected", "kind", "unprotected", "err", err)
		return nil
	}
	return err
}

// farewell is the last line of the service's log.
func (m managed) farewell(log *slog.Logger, err error, code int) {
	if !m.by {
		return
	}
	if err != nil {
		log.Error(err.Error(), "kind", "ended", "code", code, "meaning", host.ExitSentence(code))
		return
	}
	log.Info("stopped in order", "kind", "stopped")
}

// ctrlCCmd asks a program on Windows to end, from a process that has nothing else to do.
func (a *app) ctrlCCmd() *cobra.Command {
	return &cobra.Command{
		Use:                "ctrl-c",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE:               a.do(func(_ context.Context, args []string) (answer, error) { return nil, child.SendCtrlC(args) }),
	}
}

// execChildCmd becomes the payload: it sets what only the process itself can know (its own pid, for
// LISTEN_PID) and execs. The launcher calls it, not people, so its arguments are not looked at here.
func (a *app) execChildCmd() *cobra.Command {
	return &cobra.Command{
		Use:                "exec-child",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: a.do(func(_ context.Context, args []string) (answer, error) {
			return nil, exit(control.Internal, "become the payload: %w", child.ExecActivated(args)) // returns only to fail
		}),
	}
}
