package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/launcher/host"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/store"
)

// service is one running launcher: its parts, in the order in which they are made.
type service struct {
	cfg    Config // as it was at the start; what a reload changed is in site.tuned
	log    *slog.Logger
	level  *slog.LevelVar
	disk   durable.Disk
	lock   *durable.LockFile
	feed   *feed
	store  *store.Store
	host   *child.Host
	user   *child.User // that payloads run as; nil is the launcher's own
	site   *site
	engine *updater.Updater
	server *control.Server
	began  time.Time
	ready  func(host.Controls)
	renew  *renewal
}

// ownDisk is what the service writes to. Only a launcher that is built for tests has another one.
var ownDisk = durable.OS

// runLauncher is the launcher until ctx ends: it then drains what serves, and returns nil. It calls ready when
// the service is being served as well as it can be without asking anybody.
func runLauncher(ctx context.Context, cfg Config, out output, ready func(host.Controls)) error {
	s := &service{cfg: cfg, log: out.log, level: out.level, disk: ownDisk(), began: time.Now()}
	defer s.release()
	if err := s.prepare(ctx); err != nil {
		return err
	}
	s.ready = ready
	s.renew = openRenewal(s)
	ln, err := s.listen()
	if err != nil {
		return fmt.Errorf("listen for operators: %w", err)
	}
	return s.run(ctx, ln)
}

// listen makes the operators' socket, for administrators alone if the group of readers cannot be let in now.
func (s *service) listen() (*control.Listener, error) {
	c := s.cfg.Control
	if c.ReadGroup != "" {
		ln, err := control.Listen(c.Socket, c.ReadGroup)
		if err == nil {
			return ln, nil
		}
		s.noReaders(err)
	}
	return control.Listen(c.Socket, "")
}

// noReaders tells that the service starts without its readers: nothing that a domain must answer keeps it down.
func (s *service) noReaders(err error) {
	s.log.Error("control.read_group cannot be let in until this is mended and the launcher started again", "kind", "alarm", "err", err)
}

// prepare makes everything that can fail for a reason that a person must mend, before anything runs.
func (s *service) prepare(ctx context.Context) error {
	if err := s.folders(); err != nil {
		return err
	}
	var err error
	if s.lock, err = durable.Lock(s.cfg.stateFile("lock")); errors.Is(err, durable.ErrLocked) {
		return exit(control.Usage, "another launcher runs with %s: stop it, or give this one its own [state] dir", s.cfg.State.Dir)
	} else if err != nil {
		return fmt.Errorf("lock the state folder: %w", err)
	}
	if s.feed, err = openFeed(s.disk, s.cfg); err != nil {
		return err
	}
	if s.store, err = store.Open(s.disk, s.cfg.stateFile("store")); err != nil {
		return err
	}
	s.store.Genuine, s.feed.bases, s.feed.tell = s.feed.Verify, s.store, s.tell
	j, err := journal.Open(s.disk, s.cfg.stateFile("journal"))
	if err != nil {
		return err
	}
	if err := s.enclose(); err != nil {
		return err
	}
	s.host, err = child.New(child.Options{
		Disk: durable.WithSpare(s.disk, s.cfg.stateFile("spare")), Dir: s.cfg.stateFile("run"), Wire: s.cfg.wire(), Output: s.cfg.stateFile("log"), Log: s.log,
	})
	if err != nil {
		return fmt.Errorf("prepare for payload processes: %w", err)
	}
	if s.site, err = openSite(ctx, s, j.Fence); err != nil {
		return err
	}
	return s.assemble(j)
}

// assemble makes the engine and the operators' server around the parts.
func (s *service) assemble(j *journal.Journal) error {
	id, err := hostID(s.disk, s.cfg.stateFile("host-id"))
	if err != nil {
		return err
	}
	s.engine = updater.New(updater.Parts{
		Journal: j, Store: s.store, Feed: s.feed, Site: s.site,
		Config: s.cfg.Hash(), HostID: id, Poll: s.cfg.Repository.Poll,
		ProbationTime: s.cfg.Probation.Time, MinRequests: s.cfg.Probation.MinRequests,
		BeforeSwitch: s.site.beforeSwitch,
		Busy:         s.site.Busy, Notify: s.publish, History: s.remember, Log: s.log,
	})
	s.server = control.NewServer(s, s.log)
	return nil
}

// folders makes the state folder, lets in who must reach something in it, and gives the payload its data.
func (s *service) folders() error {
	if err := s.cfg.furnish(s.disk); err != nil {
		return err
	}
	if g := s.cfg.Control.ReadGroup; g != "" { // its members must be able to walk to the operators' socket
		if err := host.LetIn(s.cfg.State.Dir, g); err != nil {
			s.noReaders(err)
		}
	}
	var err error
	if s.user, err = child.Account(s.cfg.Payload.User, s.cfg.Product); err != nil {
		return exit(control.NotPrepared, "payload.user: %w", err)
	}
	return s.user.Give(s.cfg.Payload.Data)
}

// enclose keeps whoever may walk through the state folder out of what is in it. A payload with an account of its
// own runs from the store.
func (s *service) enclose() error {
	names := []string{"trust"}
	if s.user == nil {
		names = append(names, "store")
	} else if err := s.user.Show(s.cfg.stateFile("store")); err != nil {
		return fmt.Errorf("let the payload run from the store: %w", err)
	}
	for _, name := range names {
		if err := s.disk.Chmod(s.cfg.stateFile(name), 0o700); err != nil {
			return fmt.Errorf("close the state folder: %w", err)
		}
	}
	return nil
}

// run is the service: every part runs until ctx ends, and each is waited for.
func (s *service) run(ctx context.Context, ln *control.Listener) error {
	var parts sync.WaitGroup
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	serving := context.WithoutCancel(ctx) // operators are answered until everything has drained
	serving, silence := context.WithCancel(serving)
	ended := make(chan error, 1+len(s.site.proxies))
	parts.Go(func() { ended <- s.server.Serve(serving, ln) })
	for _, p := range s.site.proxies {
		parts.Go(func() { ended <- p.Run(serving) })
	}
	s.log.Info("the launcher runs", "kind", "running", "config", s.cfg.File, "control", s.cfg.Control.Socket, "pid", os.Getpid())
	s.site.begin(s.engine.Order)
	var engine sync.WaitGroup
	engine.Go(func() { s.update(ctx) })
	engine.Go(func() { s.renew.run(ctx) })
	s.ready(s.controls())
	var err error
	select {
	case <-ctx.Done():
	case <-s.renew.leaving:
		stop()
		engine.Wait()
		err = s.renew.leave()
	case err = <-ended: // a part that must run for ever has ended: a clean end is better than half a service
	}
	s.drain(host.Within(ctx, s.longest()), func() { stop(); engine.Wait() })
	silence()
	parts.Wait()
	return err
}

// longest is how long a stop may take by the configuration alone.
func (s *service) longest() time.Duration {
	d := s.site.tuned().Drain
	return min(max(d.Deadline, d.Stream)+d.Kill+5*time.Second, d.Stop)
}

// drain ends the engine and then the payloads in order, within the time that is left. What the engine waits for
// in the middle of an exchange, the end of an old process, has no longer either.
func (s *service) drain(within time.Duration, engine func()) {
	s.site.hurry(within)
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	defer context.AfterFunc(ctx, s.site.end)()
	engine()
	s.site.Close(ctx)
}

// update runs the engine for as long as ctx lives. It comes back from a panic and from a journal that
// cannot be used: meanwhile the site keeps the service up by itself.
func (s *service) update(ctx context.Context) {
	for pause := time.Second; ; pause = min(2*pause, time.Minute) {
		err := s.guarded(ctx)
		if ctx.Err() != nil {
			return
		}
		s.log.Error("the engine ended and is started again", "err", err, "in", pause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// guarded turns a panic of the engine into an error.
func (s *service) guarded(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic in the engine: %v", r)
			s.publish(updater.Event{At: time.Now(), Kind: "alarm", Text: "internal error; the service goes on, updates are started again", Err: err.Error()})
		}
	}()
	return s.engine.Run(ctx)
}

// release lets go of what prepare took, in the opposite order.
func (s *service) release() {
	if s.host != nil {
		s.host.Close()
	}
	if s.site != nil {
		s.site.closeSockets()
	}
	if s.lock != nil {
		_ = s.lock.Close() // the kernel lets go of it in any case
	}
}

// publish tells an event to whoever follows.
func (s *service) publish(e updater.Event) {
	if s.server != nil {
		s.server.Publish(e)
	}
}

// remember appends a finished update to the history, which is for people: a failure is told and decides nothing.
func (s *service) remember(e updater.Entry) {
	if err := control.AppendHistory(s.disk, s.cfg.stateFile(historyFile), e); err != nil {
		s.log.Error("append to the history", "err", err)
	}
}

// wire is where payloads reach the launcher.
func (c *Config) wire() string { return child.WireAddress(c.State.Dir) }
