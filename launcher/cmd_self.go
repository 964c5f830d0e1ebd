package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/launcher/host"
	"github.com/turnstone-go/turnstone/launcher/self"
	"github.com/turnstone-go/turnstone/updater/policy"
)

// firstAct decides which launcher runs, before anything that could go wrong: during a trial the start is counted,
// and the new launcher goes on from here, or the old one after too many of them.
func firstAct(argv []string) {
	exe, err := os.Executable()
	dir, digest, ours := self.Find(exe)
	if err != nil || !ours || !serves(argv) {
		return
	}
	f := launchers(dir)
	t, _ := f.Trial() // Try says what is wrong with it
	next, err := f.Try(digest, os.Getpid())
	if err != nil {
		fmt.Fprintln(os.Stderr, "launcher: the trial of a launcher:", err)
	}
	switch {
	case t == nil:
	case next == self.Become:
		fmt.Fprintln(os.Stderr, "launcher:", leadIn(f, exe, t, argv))
	case next == self.Leave: // a manager starts it
		fmt.Fprintf(os.Stderr, "launcher: %s never reported in; %s comes back\n", t.Target.Version, t.Previous.Version)
		os.Exit(codeRenew)
	}
}

// leadIn becomes the launcher on trial, if that is still what was verified, with a guard beside it. It returns only to
// fail, and the trial is over then.
func leadIn(f *self.Folder, exe string, t *self.Trial, argv []string) error {
	next, pid := f.File(t.Target.Digest), os.Getpid()
	if sum, err := self.FileDigest(durable.OS(), next); err != nil || sum != t.Target.Digest {
		return errors.Join(fmt.Errorf("launcher %s is damaged on this disk", t.Target.Version), err, f.Back(t.Target.Digest, ""))
	}
	if host.Managed() {
		pid = 0 // the manager makes another
	}
	guard := append([]string{t.Link, guardVerb, f.Dir(), t.Target.Digest, strconv.Itoa(pid)}, argv...)
	if err := host.Spawn(exe, guard); err != nil {
		return fmt.Errorf("start the guard: %w", errors.Join(err, f.Back(t.Target.Digest, "")))
	}
	err := fmt.Errorf("become launcher %s: %w", t.Target.Version, host.Become(next, argv))
	return errors.Join(err, f.Back(t.Target.Digest, err.Error()))
}

// serves says whether a command line is that of the service and not an operator's. Its first word that is no
// flag says so.
func serves(argv []string) bool {
	for i := 1; i < len(argv); i++ {
		switch {
		case argv[i] == "--config":
			i++
		case len(argv[i]) > 0 && argv[i][0] == '-':
		default:
			return argv[i] == "run" || argv[i] == host.Verb
		}
	}
	return false
}

const (
	guardVerb        = "guard"
	guardServiceVerb = "guard-service"
)

// guardCmd is a process of the old launcher during the trial of a new one: FOLDER DIGEST PID ARGV...
func (a *app) guardCmd() *cobra.Command {
	return &cobra.Command{
		Use: guardVerb, Hidden: true, DisableFlagParsing: true, Args: cobra.MinimumNArgs(3),
		RunE: a.do(func(ctx context.Context, args []string) (answer, error) {
			pid, err := strconv.Atoi(args[2])
			if err != nil {
				return nil, err
			}
			return nil, guard(ctx, launchers(args[0]), args[1], pid, args[3:])
		}),
	}
}

// guard goes back if it must. Where no manager starts the old launcher again the guard becomes it: payloads end
// themselves when none comes, and a person who waits in a console is told by the log.
func guard(ctx context.Context, f *self.Folder, target string, pid int, argv []string) error {
	t, err := f.Trial()
	if t == nil || err != nil {
		return err
	}
	g := self.Guard{Target: target, Within: t.Within + guardGrace, Find: func(pid int, file string) (self.Process, error) {
		return process(host.OpenProgram(cmp.Or(pid, host.ServicePID(t.Link)), file))
	}}
	if pid != 0 {
		if g.Process, err = process(host.OpenParent(pid)); err != nil {
			return err
		}
		if g.Process == nil {
			g.Process = gone{}
		}
	}
	back, err := f.Guard(ctx, g)
	switch {
	case !back || err != nil:
		return err
	case pid == 0:
		return host.Revive(ctx, t.Link)
	}
	return host.Become(t.Link, argv)
}

// guardServiceCmd is the guard where it must come again with the machine: FOLDER DIGEST SERVICE.
func (a *app) guardServiceCmd() *cobra.Command {
	return &cobra.Command{
		Use: guardServiceVerb, Hidden: true, DisableFlagParsing: true, Args: cobra.ExactArgs(3),
		RunE: a.do(func(ctx context.Context, args []string) (answer, error) {
			service := host.Service{Name: host.GuardName(args[2]), Managed: true}
			service.Run = func(ctx context.Context, ready func(host.Controls)) error {
				ready(host.Controls{})
				return guardUntilOver(ctx, launchers(args[0]), args[1], args[2])
			}
			return nil, host.Run(ctx, service)
		}),
	}
}

// guardUntilOver is a guard that tries again what it could not do, and takes out its own service after the trial. It
// stays registered when it is told to end: the machine goes down.
func guardUntilOver(ctx context.Context, f *self.Folder, target, service string) error {
	watch := func() error {
		if err := host.Awaken(ctx, service); err != nil {
			return err
		}
		return guard(ctx, f, target, 0, nil)
	}
	for watch() != nil {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(guardGrace):
		}
	}
	return host.Unguard(service)
}

// process makes no process a nil one.
func process(o *host.Other, err error) (self.Process, error) {
	if o == nil {
		return nil, err
	}
	return o, err
}

// gone is a process that ended before it could be watched.
type gone struct{}

func (gone) Ended(time.Duration) bool { return true }
func (gone) Kill()                    {}

// Renew is the operators' order to replace the launcher, or to say what would be.
func (s *service) Renew(ctx context.Context, check bool) (control.Renewal, error) {
	r := s.renew
	answer := control.Renewal{Running: version}
	if r == nil || s.cfg.Launcher.Channel == "" {
		return answer, &control.Error{Code: control.Usage, Text: "the launcher does not update itself: name a channel of launchers, [launcher] channel = \"launcher\""}
	}
	pick, findings, err := r.choose(ctx, true)
	answer.Findings = findings
	switch {
	case err != nil:
		return answer, &control.Error{Code: renewCode(err), Text: err.Error()}
	case pick == nil:
		return answer, unchosen(findings)
	}
	answer.Offered, answer.Digest = pick.Version.Number, pick.Version.Digest
	if check {
		return answer, nil
	}
	if why := r.disturbs(); why != "" {
		return answer, &control.Error{Code: control.HeldBack, Text: "not now: " + why}
	}
	select {
	case r.orders <- *pick:
		return answer, nil
	case <-r.leaving:
	case <-time.After(time.Second):
	}
	return answer, &control.Error{Code: control.HeldBack, Text: "a self-update is under way"}
}

// unchosen says why no launcher was chosen.
func unchosen(findings []policy.Finding) error {
	if len(findings) == 0 {
		return &control.Error{Code: control.NothingToDo, Text: "the channel offers no launcher"}
	}
	for _, f := range findings {
		switch v := f.Refusal(); {
		case v == nil:
			return &control.Error{Code: control.NothingToDo, Text: f.Number + " runs"}
		case v.Moot():
		case v.Gate == "quarantine": // that of launchers is not cleared by an order
			return &control.Error{Code: control.HeldBack, Text: f.Number + ": did not report in here before; the next release of the channel is tried"}
		default:
			return &control.Error{Code: control.HeldBack, Text: f.Number + ": " + v.Text}
		}
	}
	return &control.Error{Code: control.NothingToDo, Text: findings[0].Number + ": " + findings[0].Refusal().Text}
}

func (a *app) selfUpdateCmd() *cobra.Command {
	var check, follow bool
	cmd := &cobra.Command{
		Use: "self-update", Short: "replace the launcher itself by the newest of its channel", Args: cobra.NoArgs,
		Long: "Orders the launcher to replace itself by the newest that launcher.channel offers. In handoff mode no request is\n" +
			"lost; in proxy mode what is open through the launcher is cut. A launcher that does not report in within\n" +
			"launcher.trial is replaced by the one before it.",
	}
	cmd.RunE = a.do(func(ctx context.Context, _ []string) (answer, error) {
		p, err := a.open()
		if err != nil {
			return nil, err
		}
		var events *control.Events
		if follow && !check {
			if events, err = p.client.Events(ctx); err != nil {
				return nil, p.needs(err)
			}
			defer events.Close()
		}
		r, err := p.client.Renew(ctx, check)
		switch {
		case err != nil:
			return nil, p.needs(err)
		case check:
			return renewAnswer{r, fmt.Sprintf("%s is offered, %s runs; to go on: %s self-update", r.Offered, r.Running, a.program)}, nil
		case !follow:
			return renewAnswer{r, fmt.Sprintf("ordered: launcher %s in place of %s", r.Offered, r.Running)}, nil
		}
		text, err := a.followRenewal(ctx, p, r, events)
		return renewAnswer{r, text}, err
	})
	cmd.Flags().BoolVar(&check, "check", false, "only say what is offered")
	cmd.Flags().BoolVar(&follow, "follow", false, "wait for the outcome")
	return cmd
}

// renewAnswer is what became of an order, or would become of one.
type renewAnswer struct {
	control.Renewal
	Text string `json:"text"`
}

func (r renewAnswer) text(w io.Writer, _ time.Time) { fmt.Fprintln(w, r.Text) }

// followRenewal waits until a launcher runs that is the new one, or that came back. The stream ends with the
// launcher that leaves; what comes after it is read from the folder's records.
func (a *app) followRenewal(ctx context.Context, p place, r control.Renewal, events *control.Events) (string, error) {
	for {
		e, err := events.Next()
		if err != nil {
			break
		}
		if e.Kind == "launcher" && e.Err != "" {
			return "", exit(control.Code(e.Code), "%s: %s", e.Text, e.Err)
		}
	}
	f := launchers(p.cfg.stateFile(selfFolder))
	ctx, cancel := context.WithTimeout(ctx, 4*p.cfg.Launcher.Trial+time.Minute)
	defer cancel()
	for {
		t, terr := f.Trial()
		rec, rerr := f.Record()
		_, serr := p.client.Status(ctx)
		switch refused := slices.IndexFunc(rec.Refused, func(x self.Refused) bool { return x.Digest == r.Digest }); {
		case terr != nil || rerr != nil || t != nil || serr != nil:
		case rec.Now.Digest == r.Digest:
			return fmt.Sprintf("launcher %s has taken over from %s", r.Offered, r.Running), nil
		case refused >= 0:
			return "", exit(control.RolledBack, "launcher %s %s; %s runs again", r.Offered, rec.Refused[refused].Reason, r.Running)
		default:
			return "", exit(control.RolledBack, "launcher %s did not take over; %s runs", r.Offered, r.Running)
		}
		select {
		case <-ctx.Done():
			return "", errors.Join(terr, rerr, p.needs(serr), ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// registeredFile is what a service is to be registered with: the link that leads to the launcher and not the file
// that it leads to now.
func registeredFile(exe, product string) string {
	if _, _, ours := self.Find(exe); !ours {
		return exe
	}
	link, err := host.Registered(product)
	if err != nil {
		return exe
	}
	if file, err := host.Pointed(link); err != nil || file != exe {
		return exe
	}
	return link
}
