package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/launcher/host"
)

// registration is what install can be told beside the configuration.
type registration struct {
	display, description, start string
	needs                       []string
	preShutdown                 time.Duration
	unprotected                 bool
}

func (r *registration) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.display, "display-name", "", "name for people (default: the product)")
	f.StringVar(&r.description, "description", "", "one sentence on what the service does")
	f.StringVar(&r.start, "start", string(host.Automatic), "automatic, delayed, manual or disabled")
	f.StringSliceVar(&r.needs, "needs", nil, "services that must run before")
	f.DurationVar(&r.preShutdown, "preshutdown", 3*time.Minute, "how long Windows waits for the drain before it shuts down")
	f.BoolVar(&r.unprotected, "unprotected", false, "accept folders that others can change (file systems without access lists)")
}

// spec is the service of a configuration.
func (r *registration) spec(cfg Config) (host.Spec, error) {
	exe, err := os.Executable()
	if err == nil {
		exe, err = filepath.Abs(exe)
	}
	if err != nil {
		return host.Spec{}, fmt.Errorf("find the launcher's own file: %w", err)
	}
	if !slices.Contains([]host.Start{"", host.Automatic, host.Delayed, host.Manual, host.Disabled}, host.Start(r.start)) {
		return host.Spec{}, exit(control.Usage, "--start %q: use automatic, delayed, manual or disabled", r.start)
	}
	exe = registeredFile(exe, cfg.Product)
	s := host.Spec{
		Name: cfg.Product, Display: r.display, Description: r.description, Exe: exe,
		Args:  []string{host.Verb, "--config", cfg.File, "--name", cfg.Product},
		Start: host.Start(r.start), Needs: r.needs, PreShutdown: r.preShutdown,
		State: cfg.State.Dir, Unprotected: r.unprotected,
	}
	if s.Description == "" {
		s.Description = "Keeps " + cfg.Product + " running and up to date."
	}
	if r.unprotected {
		s.Args = append(s.Args, "--unprotected")
	}
	return s, nil
}

func (a *app) installCmd() *cobra.Command {
	var r registration
	passwordFile := ""
	cmd := &cobra.Command{
		Use: "install", Short: "register the launcher as a service of this machine, or mend that", Args: cobra.NoArgs,
		Long: "Registers the launcher as a service of this machine, under the product's name. What is registered already is\n" +
			"compared and mended, and what was changed is said. Needs an administrator. The launcher stays where it is: put it\n" +
			"where only administrators can write first. On Windows an account of the payload that has a password is tried, and\n" +
			"the password kept among the secrets of the system, where uninstall takes it out.",
	}
	cmd.RunE = a.do(func(ctx context.Context, _ []string) (answer, error) {
		cfg, err := a.load()
		if err != nil {
			return nil, err
		}
		s, err := r.spec(cfg)
		if err != nil {
			return nil, err
		}
		password, err := readPassword(passwordFile)
		if err != nil {
			return nil, exit(control.Usage, "%w", err)
		}
		defer clear(password)
		steps, err := host.Install(ctx, s)
		if err != nil {
			return stepsAnswer{Steps: steps}, privileged(err, "install")
		}
		steps = append(steps, passwordSteps(passwordOf(cfg), password, func() ([]byte, error) { return askPassword(cfg.Payload.User, a.stderr) })...)
		return a.installed(cfg, steps)
	})
	r.flags(cmd)
	cmd.Flags().StringVar(&passwordFile, "payload-password-file", "", "`file` with the password of payload.user, if that has one (default: a prompt)")
	return cmd
}

// installed is what install came to, once the service is there: with which file, and whether every step was done.
func (a *app) installed(cfg Config, steps []host.Step) (answer, error) {
	steps = append([]host.Step{{Name: "configuration", Result: host.Right, Now: cfg.File}}, steps...)
	if err := undone(steps); err != nil {
		return stepsAnswer{Steps: steps}, fmt.Errorf("the service is registered; %w", err)
	}
	return stepsAnswer{steps, fmt.Sprintf("installed; start it: %s start", a.program)}, nil
}

// registered is the configuration as far as it is needed to find the service: one with mistakes elsewhere must
// not keep anybody from stopping it.
func (a *app) registered() (Config, error) {
	p, err := a.open()
	return p.cfg, err
}

// privileged says what to do about a missing right.
func privileged(err error, verb string) error {
	if errors.Is(err, host.ErrPrivilege) {
		return fmt.Errorf("%s: %w", verb, err)
	}
	if errors.Is(err, host.ErrNoService) {
		return exit(control.Usage, "%w: run install first", err)
	}
	return err
}

func (a *app) uninstallCmd() *cobra.Command {
	purge := false
	cmd := &cobra.Command{
		Use: "uninstall", Short: "stop the service and take out its registration; the state folder stays", Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "remove the state folder too, with every version and all history")
	cmd.RunE = a.do(func(ctx context.Context, _ []string) (answer, error) {
		cfg, err := a.registered()
		if err != nil {
			return nil, err
		}
		trial := launchers(cfg.stateFile(selfFolder)).Settle("") // else its guard moves the launcher once more
		steps, err := host.Uninstall(ctx, cfg.Product, cfg.State.Dir)
		if err != nil {
			return stepsAnswer{Steps: steps}, privileged(err, "uninstall")
		}
		steps = append(steps, forgetSteps(passwordOf(cfg))...)
		if trial != nil {
			steps = append(steps, host.Step{Name: "self-update", Result: host.Failed, Err: trial.Error()})
		}
		if purge {
			step := host.Step{Name: "state folder", Result: host.Removed, Now: cfg.State.Dir}
			if err := removeState(cfg); err != nil {
				step.Result, step.Err = host.Failed, err.Error()
			}
			steps = append(steps, step)
		}
		if err := undone(steps); err != nil {
			return stepsAnswer{Steps: steps}, err
		}
		return stepsAnswer{steps, "uninstalled"}, nil
	})
	return cmd
}

// undone names the steps that left something to be mended.
func undone(steps []host.Step) error {
	var names []string
	for _, s := range steps {
		if s.Bad() {
			names = append(names, s.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return exit(control.NotPrepared, "not done: %s; mend what stands there and run it again", strings.Join(names, ", "))
}

// stepsAnswer is what was done, line by line.
type stepsAnswer struct {
	Steps []host.Step `json:"steps"`
	Text  string      `json:"text,omitempty"`
}

func (s stepsAnswer) text(w io.Writer, _ time.Time) {
	bad, warned := 0, 0
	for _, st := range s.Steps {
		mark := "  "
		switch {
		case st.Bad():
			mark, bad = "! ", bad+1
		case st.Result == host.Warned:
			mark, warned = "? ", warned+1
		}
		fmt.Fprintln(w, mark+printable(st.String()))
	}
	if bad > 0 {
		fmt.Fprintf(w, "%s not as wanted, marked with !\n", plural(bad, "step"))
	}
	if warned > 0 {
		fmt.Fprintf(w, "%s, marked with ?\n", plural(warned, "warning"))
	}
	if s.Text != "" {
		fmt.Fprintln(w, s.Text)
	}
}

func (a *app) startCmd() *cobra.Command {
	return a.serviceCmd("start", "start the installed service and wait until it runs", "runs", host.StartService)
}

func (a *app) stopCmd() *cobra.Command {
	return a.serviceCmd("stop", "stop the service: its connections are drained first", "stopped", host.StopService)
}

func (a *app) restartCmd() *cobra.Command {
	return a.serviceCmd("restart", "stop and start; updates need no restart", "runs again", func(ctx context.Context, name string) error {
		if err := host.StopService(ctx, name); err != nil {
			return err
		}
		return host.StartService(ctx, name)
	})
}

func (a *app) serviceCmd(verb, short, done string, do func(context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use: verb, Short: short, Args: cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) (answer, error) {
			cfg, err := a.registered()
			if err != nil {
				return nil, err
			}
			if err := do(ctx, cfg.Product); err != nil {
				return nil, privileged(err, verb)
			}
			return said{fmt.Sprintf("service %s %s", cfg.Product, done)}, nil
		}),
	}
}
