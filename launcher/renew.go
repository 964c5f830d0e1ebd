package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/minio/selfupdate"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/launcher/host"
	"github.com/turnstone-go/turnstone/launcher/self"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/policy"
	"github.com/turnstone-go/turnstone/updater/store"
)

// version is the launcher's own, set with -ldflags "-X main.version=1.2.3".
var version = "0.0.0-dev"

// selfFolder holds the launchers, in the state folder.
const selfFolder = "launcher"

// Times of a self-update. The guard leaves the new launcher the time to go back by itself.
const (
	guardGrace = 5 * time.Second
	firstLook  = time.Minute // after the start, at the latest
	askWithin  = time.Minute
	checkSelf  = 10 * time.Second // for a new launcher to say what it is
	codeRenew  = 75               // of a launcher whose manager is to start the next one: EX_TEMPFAIL of sysexits.h
)

// launchers opens the folder of launchers.
func launchers(dir string) *self.Folder {
	return self.New(dir, self.System{
		Disk: durable.OS(), Point: host.Point, Apply: apply,
		Lock:  func(name string) (io.Closer, error) { return durable.Lock(name) },
		Leads: host.Becomes,
	})
}

// apply is selfupdate.Apply, whose renames are tried again while a virus scanner looks at the fresh program.
func apply(update io.Reader, o selfupdate.Options) error {
	if err := selfupdate.PrepareAndCheckBinary(update, o); err != nil {
		return err
	}
	return durable.Insist(o.TargetPath, func() error { return selfupdate.CommitBinary(o) })
}

// renewal replaces the launcher that runs by a newer one.
type renewal struct {
	sv     *service
	mu     sync.Mutex // of opening feed
	feed   *feed      // of the launchers' channel, nil before it was opened; see channel
	lost   error      // why it is not known what runs
	folder *self.Folder
	exe    string // the file that runs, with every link followed
	link   string // what is registered
	orders chan policy.Release

	leaving chan struct{} // closed when another launcher is to take the place of this one
	failed  string        // why this launcher, on trial, gives its place back; set before leaving is closed
}

// run reports in, if this launcher is on trial, and then looks for a newer one until ctx ends.
func (r *renewal) run(ctx context.Context) {
	if !r.report(ctx) || r.sv.cfg.Launcher.Channel == "" {
		return
	}
	for wait := min(r.poll(), firstLook); ; wait = r.poll() {
		var err error
		select {
		case <-ctx.Done():
			return
		case pick := <-r.orders:
			err = r.install(ctx, pick)
		case <-time.After(wait):
			err = r.look(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == errRenewing:
			close(r.leaving)
			return
		case err != nil:
			r.tell("the launcher stays as it is", err)
		}
	}
}

func (r *renewal) poll() time.Duration { return r.sv.site.tuned().Repository.Poll }

// errRenewing says that the next launcher is on trial from now on.
var errRenewing = errors.New("the next launcher takes over")

// look is the automatic update. In proxy mode the launcher is in the way of every byte and its end cuts what is
// open, so that somebody has to order it.
func (r *renewal) look(ctx context.Context) error {
	if r.sv.cfg.Traffic.Mode == "proxy" && len(r.sv.cfg.Listen) > 0 {
		return nil
	}
	pick, _, err := r.choose(ctx, false)
	if pick == nil || err != nil || r.disturbs() != "" {
		return err
	}
	return r.install(ctx, *pick)
}

// disturbs says why this is no moment to replace the launcher.
func (r *renewal) disturbs() string {
	st := r.sv.Status()
	switch {
	case r.sv.engine.Status().State.Phase != journal.Idle:
		return "an update is under way"
	case st.Health != control.Healthy:
		return "the service is not healthy: " + st.Trouble
	}
	if host.Managed() {
		if err := host.Restarts(r.sv.cfg.Product); err != nil {
			return "nobody would start the next launcher: " + err.Error()
		}
	}
	return ""
}

// choose asks the gates for a newer launcher. Ordered skips those that only wait.
func (r *renewal) choose(ctx context.Context, ordered bool) (*policy.Release, []policy.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	feed, err := r.channel()
	if err != nil {
		return nil, nil, err
	}
	offers, err := feed.Check(ctx)
	if err != nil {
		return nil, nil, exit(control.NotDownloaded, "read channel %s: %w", r.sv.cfg.Launcher.Channel, err)
	}
	facts, err := r.facts(offers, ordered)
	if err != nil {
		return nil, nil, err
	}
	pick, findings, err := policy.Choose(facts, func(number string) (policy.Release, error) { return feed.Resolve(ctx, number) })
	if pick == nil || err != nil {
		return nil, findings, err
	}
	runs, err := self.FileDigest(r.sv.disk, r.exe)
	switch {
	case err != nil:
		return nil, findings, err
	case pick.Version.Digest == runs: // installed by hand
		return nil, findings, r.folder.Raise(named(pick.Version))
	}
	return pick, findings, nil
}

func named(v journal.Version) self.Launcher {
	return self.Launcher{Version: v.Number, Digest: v.Digest, Epoch: v.Epoch}
}

// facts says of launchers what the gates ask of versions.
func (r *renewal) facts(offers policy.Offers, ordered bool) (policy.Facts, error) {
	rec, err := r.folder.Record()
	if err != nil {
		return policy.Facts{}, err
	}
	id, err := hostID(r.sv.disk, r.sv.cfg.stateFile("host-id"))
	if err != nil {
		return policy.Facts{}, err
	}
	st := journal.State{HighWater: rec.HighWater, Pause: r.sv.engine.Status().State.Pause}
	if rec.Now.Digest != "" {
		st.Good = []journal.Version{{Number: rec.Now.Version, Digest: rec.Now.Digest, Epoch: rec.Now.Epoch}}
	}
	for _, x := range rec.Refused {
		st.Quarantine = append(st.Quarantine, journal.Mark{Number: x.Version, Digest: x.Digest, Epoch: x.Epoch, Reason: x.Reason, At: x.At})
	}
	if ordered {
		st.Want = &journal.Want{Now: true}
	}
	return policy.Facts{State: st, HighWater: rec.HighWater, Now: time.Now(), Offers: offers,
		Host: policy.Host{ID: id, Protocol: r.sv.site.protocol(), Launchers: true}}, nil
}

// install fetches and verifies a launcher and puts it on trial.
func (r *renewal) install(ctx context.Context, pick policy.Release) error {
	v := pick.Version
	if v.Format != "" {
		return exit(control.NotVerified, "launcher %s is an archive: a launcher is released as one file", v.Number)
	}
	if err := r.settle(); err != nil {
		return err
	}
	r.tell("fetching launcher "+v.Number, nil)
	if err := r.obtain(ctx, v); err != nil {
		return fmt.Errorf("launcher %s: %w", v.Number, err)
	}
	if err := r.isLauncher(ctx, r.folder.File(v.Digest)); err != nil {
		return exit(control.NotVerified, "launcher %s: %w", v.Number, err)
	}
	if runs, err := host.Pointed(r.link); err != nil || runs != r.exe {
		return fmt.Errorf("%s does not start the launcher that runs, %s: restart the service first", r.link, r.exe)
	}
	before, err := r.folder.Keep(r.exe, version)
	if err != nil {
		return err
	}
	if err := r.folder.Collect(before.Digest, v.Digest); err != nil {
		r.sv.log.Warn("old launchers stay on the disk", "err", err)
	}
	if why := r.disturbs(); why != "" || ctx.Err() != nil {
		return exit(control.HeldBack, "launcher %s waits: %s", v.Number, why)
	}
	return r.handOver(ctx, self.Trial{Target: named(v), Previous: before, Link: r.link})
}

// obtain puts verified bytes in their place.
func (r *renewal) obtain(ctx context.Context, v journal.Version) error {
	dir := r.sv.cfg.stateFile(selfFolder)
	if err := durable.Room(r.sv.disk, dir, 2*v.SizeBytes+store.ReserveBytes); err != nil { // the part, and its copy in place
		return err
	}
	part := filepath.Join(dir, v.Digest+".part")
	if err := r.feed.Fetch(ctx, v, part, func(int64, int64) {}); err != nil {
		return exit(control.NotDownloaded, "%w", err)
	}
	defer r.drop(part)
	if err := r.feed.Verify(ctx, v, part); err != nil {
		return err
	}
	f, err := r.sv.disk.OpenFile(part, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	r.feed.mu.Lock()
	keys := r.feed.view.Trust.Minisign
	r.feed.mu.Unlock()
	return r.folder.Place(self.Artifact{Launcher: named(v), Minisig: v.Minisig, Keys: keys}, f)
}

func (r *renewal) drop(part string) {
	for _, name := range []string{part, part + ".etag"} {
		_ = os.Remove(name) // Collect removes it with the next launcher
	}
}

// versionText is what a launcher says of itself. A program of another kind that was published in the launchers'
// channel by mistake does not.
const versionText = "turnstone launcher "

func (r *renewal) isLauncher(ctx context.Context, file string) error {
	var out []byte
	err := durable.Insist(file, func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, checkSelf)
		defer cancel()
		out, err = exec.CommandContext(ctx, file, "--version").Output()
		return err
	})
	if err != nil {
		return fmt.Errorf("does not run here: %w", err)
	}
	if !strings.HasPrefix(string(out), versionText) {
		return fmt.Errorf("is no launcher: asked for its version it says %.60q", out)
	}
	return nil
}

// handOver puts the new launcher on trial, which begins with the next start.
func (r *renewal) handOver(ctx context.Context, t self.Trial) error {
	t.Within = r.sv.cfg.Launcher.Trial
	if err := r.begin(ctx, t); err != nil {
		return err
	}
	r.tell("launcher "+t.Target.Version+" takes over from "+t.Previous.Version, nil)
	return errRenewing
}

// begin is Begin, where it must be so with a guard that is registered before: when power fails from here on, that comes
// with the machine, also if the new launcher does not.
func (r *renewal) begin(ctx context.Context, t self.Trial) error {
	if host.Becomes {
		return r.folder.Begin(t)
	}
	args := []string{guardServiceVerb, r.folder.Dir(), t.Target.Digest, r.link}
	start, err := host.RegisterGuard(ctx, r.link, r.folder.File(t.Previous.Digest), args)
	if err != nil {
		return fmt.Errorf("register the guard: %w", err)
	}
	if err = r.folder.Begin(t); err == nil {
		err = start()
	}
	if err != nil {
		err = errors.Join(err, r.folder.Back(t.Target.Digest, ""), host.Unguard(r.link))
	}
	return err
}

// leave makes room for the launcher that the link starts. Payloads go on meanwhile, as they do when a launcher
// dies. It returns only to fail.
func (r *renewal) leave() error {
	_, digest, _ := self.Find(r.exe)
	if r.failed != "" {
		if err := r.folder.Back(digest, r.failed); err != nil {
			return err
		}
	}
	if host.Managed() {
		os.Exit(codeRenew)
	}
	err := host.Become(r.link, os.Args)
	r.sv.log.Error("the next launcher cannot be started", "err", err)
	if t, terr := r.folder.Trial(); terr == nil && t != nil {
		err = errors.Join(err, r.folder.Back(t.Target.Digest, err.Error()))
	}
	return errors.Join(err, host.Become(r.link, os.Args))
}

// tell is a line for people and programs.
func (r *renewal) tell(text string, err error) {
	e := updater.Event{At: time.Now(), Kind: "launcher", Text: text}
	if err != nil {
		e.Err, e.Code = err.Error(), int(renewCode(err))
		r.sv.log.Warn(text, "kind", e.Kind, "err", err)
	} else {
		r.sv.log.Info(text, "kind", e.Kind)
	}
	r.sv.publish(e)
}

// renewCode is the exit code of a self-update that did not come to a trial: by what the error says of the bytes and
// of the disk, then by the step that it was in. What else can go wrong lies with this machine.
func renewCode(err error) control.Code {
	var step *exitError
	switch {
	case errors.Is(err, self.ErrRefused), lies(err):
		return control.NotVerified
	case errors.As(err, &step) && !durable.Full(err) && !durable.Busy(err):
		return step.code
	}
	return control.NotPrepared
}
