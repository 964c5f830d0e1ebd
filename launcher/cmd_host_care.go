package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/launcher/host"
	"github.com/turnstone-go/turnstone/updater/store"
)

// reapCmd ends the payloads that a launcher left which does not come back. A service manager runs it after
// every end of the launcher.
func (a *app) reapCmd() *cobra.Command {
	name := ""
	cmd := &cobra.Command{
		Use: "reap", Hidden: true, Args: cobra.NoArgs, Short: "end what a launcher that is gone left running",
		RunE: a.do(func(ctx context.Context, _ []string) (answer, error) {
			cfg, err := a.load()
			if err != nil {
				return nil, err
			}
			if why := comesBack(os.Getenv("SERVICE_RESULT"), func() (bool, error) { return host.StopAsked(ctx, name) }); why != "" {
				return said{why}, nil
			}
			n, err := reap(ctx, cfg)
			return said{fmt.Sprintf("ended %s", plural(n, "payload"))}, err
		}),
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the service")
	return cmd
}

// comesBack says why nothing is to be reaped: unless somebody asked for the end, systemd starts a launcher again
// that did not end in order, and it takes over what lives. One that waits for a person, with a configuration that
// is wrong, finds its payloads too. result is the SERVICE_RESULT of systemd.exec(5), "" in a person's hands. A
// manager that cannot be asked is believed to start the launcher again: the payloads then end by themselves.
func comesBack(result string, stopAsked func() (bool, error)) string {
	if result == "" || result == "success" {
		return ""
	}
	if asked, err := stopAsked(); asked && err == nil {
		return ""
	}
	return "the launcher ended by " + result + " and nobody asked for it: its payloads go on"
}

func reap(ctx context.Context, cfg Config) (int, error) {
	lock, err := durable.Lock(cfg.stateFile("lock"))
	if errors.Is(err, durable.ErrLocked) {
		return 0, exit(control.Usage, "a launcher runs with %s and looks after its payloads: stop it first", cfg.State.Dir)
	} else if err != nil {
		return 0, fmt.Errorf("lock the state folder: %w", err)
	}
	defer lock.Close()
	h, err := child.New(child.Options{
		Disk: durable.OS(), Dir: cfg.stateFile("run"), Wire: cfg.wire(), Output: cfg.stateFile("log"), Log: newOutput(cfg.Log.Level).log,
	})
	if err != nil {
		return 0, err
	}
	defer h.Close()
	left, err := h.Adopt(ctx)
	for _, p := range left {
		p.Stop(ctx, cfg.Drain.Kill)
	}
	return len(left), err
}

// removeState removes what the launcher made. What else lies in the folder stays, and with it the folder.
func removeState(cfg Config) error {
	if _, err := reap(context.Background(), cfg); err != nil {
		return err
	}
	d := durable.OS()
	var errs []error
	for _, name := range []string{
		"journal", "store", "trust", "run", "log", "data", "spare", selfFolder, bundleFile, importFile, importLock,
		historyFile, "host-id", "lock", "control.sock", "wire.sock",
	} {
		if err := durable.RemoveAll(d, cfg.stateFile(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, os.Remove(cfg.State.Dir))...)
}

// doctorCmd looks at everything that must be right on this machine and changes nothing.
func (a *app) doctorCmd() *cobra.Command {
	var r registration
	cmd := &cobra.Command{
		Use: "doctor", Short: "look for what is wrong on this machine, and say what to do", Args: cobra.NoArgs,
	}
	cmd.RunE = a.do(func(ctx context.Context, _ []string) (answer, error) {
		cfg, err := a.load()
		if err != nil {
			return nil, err
		}
		steps := a.diagnose(ctx, cfg, &r)
		bad := 0
		for _, s := range steps {
			if s.Bad() {
				bad++
			}
		}
		if bad > 0 {
			return stepsAnswer{Steps: steps}, outcome(control.NotPrepared)
		}
		return stepsAnswer{steps, "nothing that was looked at is wrong"}, nil
	})
	r.flags(cmd)
	return cmd
}

// diagnose looks at one thing after the other.
func (a *app) diagnose(ctx context.Context, cfg Config, r *registration) []host.Step {
	var steps []host.Step
	look := func(name, now string, err error) {
		s := host.Step{Name: name, Result: host.Right, Now: now}
		if err != nil {
			s.Result, s.Err = host.Failed, err.Error()
			var bad *configError
			if errors.As(err, &bad) { // its text is a page, with lines and carets
				s.Err = "has mistakes: " + a.program + " config check shows them"
			}
		}
		steps = append(steps, s)
	}
	look("configuration", cfg.File, errors.Join(cfg.checkMachine(), cfg.checkReaders()))
	look("line to the repository", "", cfg.checkLine())
	account := accountStep(cfg.Payload.User, host.Privileged())
	if err := child.CheckAccount(cfg.Payload.User); err != nil {
		account.Result, account.Err = host.Failed, err.Error()
	}
	steps = append(steps, account)
	if p := passwordOf(cfg); p.Needed() {
		steps = append(steps, keptStep(p))
	}
	look("room for another version", cfg.State.Dir, hasRoom(cfg.State.Dir))
	word, up, err := host.Running(ctx, cfg.Product)
	if errors.Is(err, host.ErrNoService) {
		look("service", "not installed", nil)
		return steps
	}
	look("service", word, err)
	s, err := r.spec(cfg)
	if err == nil {
		var more []host.Step
		more, err = host.Inspect(ctx, s)
		steps = append(steps, more...)
	}
	if err != nil {
		look("registration", "", err)
	}
	if up {
		ask, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		st, err := control.NewClient(cfg.Control.Socket).Status(ask)
		look("launcher", string(st.Health), err)
	}
	return steps
}

// accountStep warns of a payload with the launcher's rights, which somebody wrote into the file on purpose.
func accountStep(user string, privileged bool) host.Step {
	s := host.Step{Name: "account of the payload", Result: host.Right, Now: user}
	if user == child.Same && privileged {
		s.Result, s.Err = host.Warned, "a broken payload has all rights of the launcher; name an account of its own ("+child.AccountHint+")"
	}
	return s
}

// hasRoom writes a little where versions go: a full or read-only disk says so.
func hasRoom(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil // install makes it
	}
	if err := durable.Room(durable.OS(), dir, store.ReserveBytes); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "doctor-")
	if err != nil {
		return err
	}
	_, werr := f.Write(make([]byte, 1<<20))
	return errors.Join(werr, f.Sync(), f.Close(), os.Remove(filepath.Clean(f.Name())))
}
