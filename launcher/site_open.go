package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/launcher/relay"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// openSite takes the public sockets and finds the processes that an earlier launcher left behind. Sockets
// that a living payload holds come back from it, since nobody else could bind their addresses.
func openSite(ctx context.Context, sv *service, fence func() (uint64, error)) (*site, error) {
	s := &site{
		cfg: sv.cfg, disk: sv.disk, store: sv.store, host: sv.host, fence: fence, emit: sv.tell, log: sv.log,
		members: make(map[string]*member), dead: make(map[string]updater.Evidence), ended: make(chan struct{}, 1),
		serves: make(chan struct{}),
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.upkeep, s.rest = context.WithCancel(s.life)
	s.user = sv.user
	left, err := sv.host.Adopt(ctx)
	if err != nil {
		sv.log.Error("not every process of the last launcher could be found or ended", "err", err)
		s.doubt = err
	}
	if left, err = s.listen(ctx, s.fitting(left)); err != nil {
		return nil, err
	}
	for _, p := range left {
		s.resume(p)
	}
	return s, nil
}

// begin starts what site does by itself, once there is somebody to tell. Close ends it.
func (s *site) begin(order func(context.Context, updater.Order) error) {
	s.order = order
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		s.watch(m)
	}
	for _, m := range s.leaving {
		s.watch(m)
		s.wg.Go(func() { s.finish(s.life, m) })
	}
	s.wg.Go(s.keeper)
}

// fitting ends the processes that were started under a configuration with other listeners, or in another mode:
// they could not be reached in the way that this one says.
func (s *site) fitting(left []*child.Process) (fit []*child.Process) {
	var names []string
	for _, l := range s.cfg.Listen {
		names = append(names, l.Name)
	}
	slices.Sort(names)
	for _, p := range left {
		spec := p.Spec()
		has := slices.Collect(maps.Keys(spec.Addr))
		if s.cfg.Traffic.Mode == "handoff" {
			has = nil
			for _, l := range spec.Listeners {
				has = append(has, l.Name)
			}
		}
		slices.Sort(has)
		if spec.Role == hookRole { // it is begun again with its step
			s.release(p)
			continue
		}
		if string(spec.Kind) == s.cfg.Payload.Kind && slices.Equal(has, names) {
			fit = append(fit, p)
			continue
		}
		s.log.Warn("a process of the last launcher does not fit the configuration and is ended", "version", spec.Number, "pid", p.PID(), "listeners", has)
		s.release(p)
	}
	return fit
}

// listen makes the public sockets, of those that outlived the last launcher where they are the ones that are
// configured. It returns the processes that can be reached by them: in handoff mode one that holds another
// socket is ended.
func (s *site) listen(ctx context.Context, left []*child.Process) ([]*child.Process, error) {
	found := s.readopt(s.recovered(ctx, left))
	if s.cfg.Traffic.Mode == "handoff" && len(found) < len(s.cfg.Listen) {
		for _, p := range left {
			s.log.Warn("a process of the last launcher has not the sockets that are configured, and is ended", "version", p.Spec().Number, "pid", p.PID())
			s.release(p)
		}
		left = nil
	}
	for _, l := range s.cfg.Listen {
		socket := found[l.Name]
		if socket == nil {
			var err error
			if socket, err = relay.Listen(l.Name, l.Address); err != nil {
				return nil, exit(control.NotPrepared, "%w\n[[listen]] %q in %s names the address", err, l.Name, s.cfg.File)
			}
		}
		s.keep(socket)
		s.sockets = append(s.sockets, socket)
		if s.cfg.Traffic.Mode == "proxy" {
			s.proxies = append(s.proxies, relay.NewProxy(socket, relay.Options{}))
		}
	}
	return left, nil
}

// readopt takes the configured sockets from files, by name, and closes the files.
func (s *site) readopt(files map[string]child.Socket) map[string]*relay.Socket {
	found := make(map[string]*relay.Socket)
	for _, l := range s.cfg.Listen {
		f := files[l.Name]
		if f == nil {
			continue
		}
		socket, err := relay.Adopt(l.Name, l.Address, f)
		if err != nil { // another address is configured now
			s.log.Warn("a socket that came back is not used", "name", l.Name, "err", err)
			continue
		}
		found[l.Name] = socket
	}
	for _, f := range files {
		_ = f.Close() // a duplicate lives on in the socket
	}
	return found
}

// returned asks the living processes for the sockets they inherited; the first that answers has them all.
func (s *site) returned(ctx context.Context, left []*child.Process) map[string]child.Socket {
	if s.cfg.Traffic.Mode != "handoff" || len(s.cfg.Listen) == 0 {
		return nil
	}
	for _, p := range left {
		files, err := p.Sockets(ctx)
		if err == nil && len(files) > 0 {
			return files
		}
		s.log.Warn("a living payload did not give its sockets back", "version", p.Spec().Number, "pid", p.PID(), "err", err)
		s.release(p)
	}
	return nil
}

// release ends a process whose sockets cannot be had: while it lives nobody else can bind them.
func (s *site) release(p *child.Process) {
	p.Stop(context.WithoutCancel(s.life), s.tuned().Drain.Kill)
	select {
	case <-p.Done():
	default:
		s.doubt = fmt.Errorf("pid %d survives being killed", p.PID())
	}
}

// resume takes a process of the last launcher into the books, as parked or serving: the engine says which.
func (s *site) resume(p *child.Process) {
	spec := p.Spec()
	v, err := s.store.Named(spec.Number, spec.Digest)
	if err != nil { // it goes on, but could not be started again from what is on the disk
		s.log.Error("a living process of a version that is not in the store", "version", spec.Number, "err", err)
		v = journal.Version{Number: spec.Number, Digest: spec.Digest}
	}
	m := &member{version: v, proc: p, addrs: spec.Addr, fit: true}
	if !m.alive() {
		return
	}
	if s.living(m.version) != nil { // a second process of the same version
		s.mu.Lock()
		s.depart(m)
		s.mu.Unlock()
		return
	}
	s.enter(m)
	s.event("start", m.version, "pid %d was left by the last launcher and goes on", p.PID())
}

// closeSockets gives the public sockets up, at the very end.
func (s *site) closeSockets() {
	s.end()
	for _, l := range s.sockets {
		if err := l.Close(); err != nil {
			s.log.Warn("close a public socket", "name", l.Name(), "err", err)
		}
	}
}
