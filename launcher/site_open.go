package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

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
	if left, err = s.listen(ctx, left); err != nil {
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
// socket is ended. An address that somebody else has fails it before any process is ended that answers: it goes on, and
// is there for a launcher that can listen.
func (s *site) listen(ctx context.Context, left []*child.Process) ([]*child.Process, error) {
	files := s.recovered(ctx, left)
	sockets := s.readopt(files)
	handed := len(sockets) == len(s.cfg.Listen)
	err := s.claim(sockets, files)
	for _, f := range files {
		_ = f.Close() // a duplicate lives on in the socket
	}
	if err != nil {
		return nil, abandon(err, sockets, left)
	}
	left = s.fitting(left)
	if s.cfg.Traffic.Mode == "handoff" && !handed {
		for _, p := range left {
			s.log.Warn("a process of the last launcher has not the sockets that are configured, and is ended", "version", p.Spec().Number, "pid", p.PID())
			s.release(p)
		}
		left = nil
	}
	for _, l := range s.cfg.Listen {
		socket := sockets[l.Name]
		if socket == nil { // what was in its way has ended
			if socket, err = s.bind(l); err != nil {
				return nil, err
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

// claim binds what is not among the sockets yet, but for an address that a socket of the last launcher is in the way of.
func (s *site) claim(sockets map[string]*relay.Socket, files map[string]child.Socket) error {
	for _, l := range s.cfg.Listen {
		if sockets[l.Name] != nil || inTheWay(files, l.Address) {
			continue
		}
		socket, err := s.bind(l)
		if err != nil {
			return err
		}
		sockets[l.Name] = socket
	}
	return nil
}

func inTheWay(files map[string]child.Socket, address string) bool {
	for _, f := range files {
		if relay.InTheWay(f, address) {
			return true
		}
	}
	return false
}

// bindPatience is how long an address may be taken when a launcher starts: a process of the last one that is dying has its
// sockets until its memory is given back, and is no longer found meanwhile.
const bindPatience = 2 * time.Second

func (s *site) bind(l ListenConfig) (*relay.Socket, error) {
	socket, err := relay.Listen(l.Name, l.Address)
	for limit := time.Now().Add(bindPatience); errors.Is(err, relay.ErrInUse) && time.Now().Before(limit); {
		time.Sleep(20 * time.Millisecond)
		socket, err = relay.Listen(l.Name, l.Address)
	}
	if err != nil {
		return nil, exit(control.NotPrepared, "%w\n[[listen]] %q in %s names the address", err, l.Name, s.cfg.File)
	}
	return socket, nil
}

// abandon gives up the sockets of a start that failed, and says what lives on without it.
func abandon(err error, sockets map[string]*relay.Socket, left []*child.Process) error {
	for _, socket := range sockets {
		_ = socket.Close() // nobody was served on it by us
	}
	for _, p := range left {
		err = fmt.Errorf("%w\n%s, pid %d, goes on without a launcher; one that can listen takes it over", err, p.Spec().Number, p.PID())
	}
	return err
}

// readopt takes the configured sockets from files, by name.
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
	return found
}

// returned asks the living processes for the sockets they inherited; the first that answers has them all.
func (s *site) returned(ctx context.Context, left []*child.Process) map[string]child.Socket {
	for _, p := range left {
		if len(p.Spec().Listeners) == 0 { // behind a proxy, or a program without any
			continue
		}
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
