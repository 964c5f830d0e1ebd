package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/host"
	"github.com/turnstone-go/turnstone/launcher/probe"
	"github.com/turnstone-go/turnstone/launcher/relay"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// start returns the living process of v, or verifies v on disk and starts one.
func (s *site) start(ctx context.Context, v journal.Version) (*member, error) {
	s.starting.Lock()
	defer s.starting.Unlock()
	if m := s.living(v); m != nil {
		return m, nil
	}
	begun := time.Now()
	release, err := s.verified(ctx, v)
	if err != nil {
		return nil, err
	}
	defer release()
	hashed := time.Since(begun)
	if err := s.furnish(); err != nil {
		return nil, unmade{err}
	}
	m := &member{version: v}
	spec, err := s.spec(m)
	if err != nil {
		return nil, err
	}
	if err := s.refuseScript(spec.Path, v); err != nil {
		return nil, err
	}
	s.heal() // the last one to have the sockets may have left them blocking
	if m.proc, err = s.host.Start(ctx, spec); err != nil {
		return nil, s.cannotStart(spec.Path, v, err)
	}
	beside := ""
	for _, o := range s.others(m) {
		beside = " beside " + o.name()
	}
	s.measured("start", v, figures{"hash_ms": millis(hashed), "record_ms": millis(m.proc.Forked().Sub(begun) - hashed)},
		"pid %d%s, verified again in %s", m.proc.PID(), beside, hashed.Round(100*time.Microsecond))
	if s.enter(m) {
		m.proc.Kill()
	}
	s.watch(m)
	if ctx.Err() != nil { // who wanted it has gone on, and may have ended all of v before this was in the books
		return nil, errors.Join(context.Cause(ctx), s.abort(m))
	}
	return m, nil
}

// verified looks at the bytes of v on disk and keeps them from being changed until release is called, which is
// when they run.
func (s *site) verified(ctx context.Context, v journal.Version) (release func(), err error) {
	release = func() {}
	held, err := host.Hold(s.store.File(v))
	if err == nil {
		release = func() { held.Close() }
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("keep %s from being changed: %w", v.Number, err)
	}
	if err := s.store.Verify(ctx, v); err != nil {
		release()
		return nil, fmt.Errorf("before its start: %w", err)
	}
	return release, nil
}

// refuseScript wants the interpreter of a script named in the configuration: else the first line of a downloaded file
// would choose which program of this machine runs, and that program would open the script by its name once more.
func (s *site) refuseScript(path string, v journal.Version) error {
	if !strings.HasPrefix(path, s.store.Dir(v)+string(filepath.Separator)) {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("run %s, which payload.command names: %w", path, err)
	}
	defer f.Close()
	var start [2]byte
	if _, err := io.ReadFull(f, start[:]); err != nil || string(start[:]) != "#!" {
		return nil // too short for a script, or whatever the system makes of it
	}
	return updater.Bad(fmt.Errorf("%s is a script: name its interpreter, as in payload.command = [\"/bin/sh\", \"{{.File}}\"]", path))
}

// heal makes the public sockets non-blocking again, which every process that inherited one can undo for all.
func (s *site) heal() {
	for _, l := range s.sockets {
		if err := l.Nonblock(); err != nil {
			s.log.Warn("a process that accepts on it may hang", "err", err)
		}
	}
}

// cannotStart words an error of the operating system. A file that is no program for this machine will not
// become one; anything else may pass, or is for an operator to mend.
func (s *site) cannotStart(path string, v journal.Version, err error) error {
	foreign := child.Foreign(err) && path == s.store.File(v)
	if path != s.store.File(v) {
		err = fmt.Errorf("%w (payload.command names it)", err)
	}
	if foreign {
		return updater.Bad(err)
	}
	return unmade{err}
}

// unmade is an error of this machine, by which there is no process: it says nothing about the version.
type unmade struct{ error }

func (u unmade) Unwrap() error { return u.error }

// enter makes m the process of its version, and says whether it comes too late: Close has gone through the
// members already.
func (s *site) enter(m *member) (late bool) {
	for _, p := range s.proxies {
		m.targets = append(m.targets, p.NewTarget(m.name(), m.addrs[p.Name()]))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members[m.version.Digest] = m
	delete(s.dead, m.version.Digest)
	return s.closing
}

// spec says how the program of m is started under this configuration.
func (s *site) spec(m *member) (child.Spec, error) {
	p := s.cfg.Payload
	spec := child.Spec{
		Number: m.version.Number, Digest: m.version.Digest, Kind: child.Kind(p.Kind),
		Dir: p.Data, Data: p.Data, User: s.user, ReadyTimeout: s.tuned().Health.ReadyTimeout,
	}
	if s.proxies != nil {
		if err := m.pickPorts(s.sockets); err != nil {
			return spec, err
		}
		spec.Addr = m.addrs
	} else {
		for _, l := range s.sockets {
			spec.Listeners = append(spec.Listeners, child.Listener{Name: l.Name(), Conn: l.RawConn()})
		}
	}
	data := s.commandData(m)
	argv, err := renderCommand(p.Command, data)
	if err != nil {
		return spec, fmt.Errorf("payload.command: %w", err)
	}
	spec.Path, spec.Args = argv[0], argv[1:]
	if spec.Env, err = s.variables(data); err != nil {
		return spec, err
	}
	if data.Port != "" {
		spec.Env = append(spec.Env, "PORT="+data.Port)
	}
	return spec, nil
}

// variables fills in payload.env.
func (s *site) variables(data CommandData) (env []string, err error) {
	for k, v := range s.cfg.Payload.Env {
		text, err := render(v, data)
		if err != nil {
			return nil, fmt.Errorf("payload.env.%s: %w", k, err)
		}
		env = append(env, k+"="+text)
	}
	return env, nil
}

// commandData is what command lines and environment values may name in {{ }}.
func (s *site) commandData(m *member) CommandData {
	file := s.store.File(m.version)
	d := CommandData{Exe: file, File: file, Dir: s.store.Dir(m.version), Data: s.cfg.Payload.Data, Ports: make(map[string]string)}
	for i, l := range s.sockets {
		_, port, _ := net.SplitHostPort(m.addrs[l.Name()]) // no private address: no port
		d.Ports[l.Name()] = port
		if i == 0 {
			d.Port = port
		}
	}
	return d
}

// pickPorts reserves one free loopback port for each public socket. Another program could take it before
// the payload binds it; readiness therefore counts only if the payload's own process listens there.
func (m *member) pickPorts(sockets []*relay.Socket) error {
	m.addrs = make(map[string]string)
	for _, l := range sockets {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("find a private port for %s: %w", l.Name(), err)
		}
		defer ln.Close() // after the last one was found, so that none is found twice
		m.addrs[l.Name()] = ln.Addr().String()
	}
	return nil
}

var errNotReady = errors.New("not ready in time")

// ready waits until m says it is ready and passes K probes in a row. An error that is not ctx's own is
// evidence against the version, unless the version that serves fails the same probe at the same minute.
func (s *site) ready(ctx context.Context, m *member) error {
	h := s.tuned().Health
	if err := s.announced(ctx, m); err != nil { // within its own ready_timeout, which the program may extend
		return s.blame(ctx, m, err)
	}
	limited, cancel := context.WithTimeout(ctx, h.ReadyTimeout)
	defer cancel()
	results, err := probe.Ready(limited, s.check(m), h.Good, m.proc.Done())
	m.note(results...)
	if err == nil {
		err = s.ownsPorts(limited, m)
	}
	if n := len(results); n > 0 && results[n-1].Mute && errors.Is(err, probe.ErrNeverHealthy) && ctx.Err() == nil {
		return fmt.Errorf("run %s, which health.command names: %s", s.check(m).Command[0], results[n-1].Text)
	}
	if err != nil {
		return s.blame(ctx, m, err)
	}
	m.mark(func(m *member) { m.fit = true })
	took, f := time.Since(m.proc.Began()), figures{}
	if forked := m.proc.Forked(); !forked.IsZero() {
		took = time.Since(forked)
		f["ready_ms"] = millis(took)
	}
	s.measured("probe", m.version, f, "ready after %s, healthy %d times in a row", took.Round(100*time.Microsecond), h.Good)
	return nil
}

// announced waits for the program's own word, where it gives one.
func (s *site) announced(ctx context.Context, m *member) error {
	if s.cfg.Payload.Kind != "sdk" && !s.tuned().Health.Notify {
		return nil
	}
	if m.proc.Forked().IsZero() { // an adopted one has no deadline of its own
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.tuned().Health.ReadyTimeout)
		defer cancel()
	}
	_, err := m.proc.Ready(ctx)
	return err
}

// ownsPorts waits until m's own processes listen at its private addresses: a program that satisfies an exec
// probe, or that nothing is asked, may not have come to that yet.
func (s *site) ownsPorts(ctx context.Context, m *member) error {
	for name, addr := range m.addrs {
		for pause := 2 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
			err := m.proc.OwnsPort(addr)
			if err == nil {
				break
			}
			select {
			case <-time.After(pause):
				continue
			case <-m.proc.Done():
			case <-ctx.Done():
			}
			return fmt.Errorf("listener %s: %w", name, err)
		}
	}
	return nil
}

// blame decides what a failed start says: nothing when we were told to stop, the world's fault when the
// serving version is just as unwell, else evidence against the version.
func (s *site) blame(ctx context.Context, m *member, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w (%s): %w", errNotReady, s.tuned().Health.ReadyTimeout, err)
	}
	if base := s.baseline(m); base != nil { // also when m ended: why it did, nobody knows
		if r := s.check(base).Once(ctx); !r.OK {
			return fmt.Errorf("%s is not healthy, but neither is %s, which serves: %w", m.name(), base.name(), err)
		}
	}
	if !m.alive() && !errors.Is(err, child.ErrExited) {
		err = fmt.Errorf("%s: %w", m.proc.Exit(), err)
	}
	return updater.Bad(fmt.Errorf("%s never became healthy: %w", m.name(), err))
}

// baseline returns another living version to compare m with, nil if there is none: the one that serves, if it
// can be that.
func (s *site) baseline(m *member) *member {
	if o := s.living(s.served()); o != nil && o != m {
		return o
	}
	for _, o := range s.others(m) {
		return o
	}
	return nil
}

// check returns the health probe of m.
func (s *site) check(m *member) probe.Check {
	h := s.tuned().Health
	c := probe.Check{Kind: probe.Kind(h.Probe), Address: m.proc.Health(), Path: h.Path, Timeout: h.Timeout, Interval: h.Interval}
	switch {
	case c.Address != "":
	case len(m.addrs) > 0:
		c.Address = m.addrs[s.sockets[0].Name()]
	case c.Kind == probe.Exec:
	case s.cfg.Payload.Kind == "activation" && len(s.sockets) > 0:
		c.Address = reachable(s.sockets[0].Addr()) // nobody else accepts there
	default: // an SDK program without listeners and without a health function: its own word was the answer
		c.Kind = probe.None
	}
	if h.Probe == "exec" {
		argv, err := renderCommand(h.Command, s.commandData(m))
		if err != nil { // the configuration was checked at load
			panic("launcher: internal error: health.command: " + err.Error())
		}
		c.Command, c.Attr = argv, s.user.Attr() // what the payload could have written is not run with our rights
	}
	return c
}

// reachable is where this machine finds a public listener.
func reachable(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok || !t.IP.IsUnspecified() {
		return a.String()
	}
	host := "127.0.0.1"
	if t.IP.To4() == nil {
		host = "::1"
	}
	return net.JoinHostPort(host, strconv.Itoa(t.Port))
}
