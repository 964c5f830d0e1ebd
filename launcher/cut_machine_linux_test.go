package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/store"
)

// cutLimit is how long anything may take on a machine that has no time.
const cutLimit = 2 * time.Minute

// machine has a disk in memory, on which launchers live and die, and a folder with what is none of the disk's affair:
// the sockets, the lock, the output of payloads, and the file that the owner of the lease writes to.
type machine struct {
	course
	t      *testing.T
	dir    string
	cfg    Config
	root   []byte
	list   []journal.Version       // oldest first
	start  scene                   // of every trial
	shoot  func(*durabletest.Disk) // called when what follows the last cut begins
	trials int
	disk   *durabletest.Disk
	client http.Client

	falling atomic.Bool // an engine panics, and has not come to its end

	mu  sync.Mutex
	log []string
}

var machines atomic.Int32

// forked waits for processes that are just being made, for another machine perhaps: until it runs its program such a
// process has a copy of every descriptor, and a socket that was closed is held by it.
func forked() {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
}

func newMachine(t *testing.T, c course) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "ts")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	// Nobody else has this address, so that nobody takes the port between two launchers.
	pid := os.Getpid()
	ln, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 64+pid>>8&63, pid&255, 1+machines.Add(1)%250))
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close() // nothing came
	forked()
	m := &machine{course: c, t: t, dir: dir, shoot: func(*durabletest.Disk) {}, cfg: groundConfig(t, dir, ln.Addr().String())}
	m.client = http.Client{Timeout: cutLimit, Transport: &http.Transport{DisableKeepAlives: true}}
	repository := t.TempDir()
	m.root, m.list = publish(t, repository, c.editions...)
	m.cfg.Product = cutProduct
	m.cfg.Repository.URL, m.cfg.Repository.Root, m.cfg.Repository.Poll = repository, filepath.Join(dir, "root.json"), 200*time.Millisecond
	m.cfg.Health.Interval = 2 * time.Millisecond
	m.cfg.Probation.Time, m.cfg.Probation.MinRequests = 10*time.Millisecond, 0
	if c.name == "failing candidate" { // it dies when it takes connections, but on a slow machine not within a moment
		m.cfg.Probation.Time = time.Minute
	}
	m.cfg.Health.Timeout, m.cfg.Health.ReadyTimeout = cutLimit, cutLimit
	m.start = m.install()
	return m
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) version(number string) journal.Version {
	i := slices.IndexFunc(m.list, func(v journal.Version) bool { return v.Number == number })
	return m.list[i]
}

// scene is what there is while nothing lives: a disk after so many operations and a power cut with that seed, and what the
// owners of the lease wrote.
type scene struct {
	op     int
	seed   uint64
	disk   *durabletest.Disk
	owners []byte
}

// install makes the disk of a new machine: what is good has once served, in this order, and the rest is of no use.
func (m *machine) install() scene {
	m.t.Helper()
	d := durabletest.New()
	m.must(durable.MkdirAll(d, m.dir, 0o700))
	m.must(durable.WriteFile(d, m.cfg.Repository.Root, m.root, 0o600))
	s := certain(store.Open(d, m.cfg.stateFile("store")))(m.t)
	j := certain(journal.Open(d, m.cfg.stateFile("journal")))(m.t)
	st := journal.State{Phase: journal.Idle}
	for _, number := range append([]string{garbage}, m.good...) {
		v := m.version(number)
		data := certain(os.ReadFile(filepath.Join(m.cfg.Repository.URL, "artifacts", v.Digest)))(m.t)
		m.must(durable.WriteFile(d, s.Staged(v), data, 0o600))
		m.must(s.Seal(m.t.Context(), v))
		if number != garbage {
			m.must(s.Prove(v))
			st.Good, st.HighWater = append(st.Good, v), max(st.HighWater, v.Epoch)
		}
	}
	m.must(j.Save(st))
	return scene{disk: d}
}

// begin makes the machine as it is at the start of a trial.
func (m *machine) begin() {
	m.t.Helper()
	m.disk = m.start.disk.Kill()
	m.must(os.WriteFile(m.lease(), m.start.owners, 0o600))
	m.mu.Lock()
	m.log = nil
	m.mu.Unlock()
	m.legal()
}

func (m *machine) lease() string { return m.cfg.Payload.Env["LEASE_FILE"] }

// life is one launcher, from its start to its death.
type life struct {
	*service
	m     *machine
	disk  *durabletest.Disk
	up    chan struct{} // closed when everything is there
	cut   chan struct{} // closed at the cut
	ended chan struct{} // closed when the engine is gone, or was never there
	ctx   context.Context
	stop  context.CancelFunc

	ordered atomic.Bool // what the course begins with
}

// launch begins a launcher's life, as runLauncher does without an operators' socket and its own updates.
func (m *machine) launch() *life {
	m.note("-- a launcher starts")
	l := &life{m: m, disk: m.disk, up: make(chan struct{}), cut: make(chan struct{}), ended: make(chan struct{})}
	var once sync.Once
	m.disk.Ends(func() {
		once.Do(func() { close(l.cut) })
		runtime.Goexit()
	})
	l.service = &service{cfg: m.cfg, log: slog.New(listener{l}), level: new(slog.LevelVar), disk: m.disk, began: time.Now()}
	ctx, stop := context.WithCancel(context.Background())
	l.ctx, l.stop = ctx, stop
	go func() {
		defer close(l.ended)
		if err := l.prepare(ctx); err != nil {
			m.t.Errorf("the launcher does not start: %v", err)
			return
		}
		l.site.begin(l.engine.Order)
		close(l.up)
		for ctx.Err() == nil {
			if err := l.guarded(ctx); ctx.Err() == nil && !strings.Contains(err.Error(), errCut.Error()) {
				m.t.Errorf("the engine ended: %v", err)
				return
			}
			m.falling.Store(false)
			m.shoot(l.disk)
		}
	}()
	return l
}

// live lets the launcher live until the course has come to its end, and says whether a cut came before that.
func (l *life) live() (wasCut bool) {
	limit := time.After(cutLimit)
	for {
		select {
		case <-l.cut:
			return true
		case <-limit:
			l.m.t.Errorf("the update never came to its end: %v", l.unrest())
			return false
		case <-l.ended:
			select {
			case <-l.cut:
				return true
			default:
				return false // it has told why
			}
		case <-time.After(2 * time.Millisecond):
		}
		if l.unrest() == nil {
			return false
		}
	}
}

// unrest says why the course has not come to its end yet, after giving the order that it begins with.
func (l *life) unrest() error {
	select {
	case <-l.up:
	default:
		return errors.New("the launcher does not run")
	}
	st := l.engine.Status().State
	if st.Phase != journal.Idle || len(st.Good) == 0 {
		return fmt.Errorf("the engine is %s, good are %v", st.Phase, st.Good)
	}
	if l.m.rollback && st.Good[0].Number == l.m.good[0] && l.ordered.CompareAndSwap(false, true) {
		go func() { // the answer of a launcher that dies does not come, and that of an engine which panics is an error
			err := l.engine.Order(l.ctx, updater.Order{Kind: updater.OrderRollback, Leaves: st.Good[0].Digest})
			l.ordered.Store(err == nil)
		}()
	}
	if st.Good[0].Number != l.m.ends || !l.m.over(st) {
		return fmt.Errorf("the engine is at rest with %+v", st)
	}
	p, running := l.site.living(st.Good[0]), l.site.Running()
	if !l.site.accepts(p) || len(running) != 1 {
		return fmt.Errorf("%v run, and that %s accepts is %v", running, l.m.ends, l.site.accepts(p))
	}
	if p.proc.Fence() == 0 {
		return fmt.Errorf("%s, pid %d, has no lease; that it waits for it is %v", l.m.ends, p.proc.PID(), p.is(func(m *member) bool { return m.wanting }))
	}
	l.site.starting.Lock() // a start that came too late is just being undone
	defer l.site.starting.Unlock()
	saved, _, err := journal.Read(l.disk.Crash(0), l.cfg.stateFile("journal")) // an engine that panics has not synced its last word
	records, rerr := l.disk.Kill().ReadDir(l.cfg.stateFile("run"))
	switch {
	case errors.Join(err, rerr) != nil:
		return errors.Join(err, rerr)
	case saved.Phase != journal.Idle || saved.Good[0] != st.Good[0] || !l.m.over(saved):
		return fmt.Errorf("the journal says %+v", saved)
	case len(records) != 1:
		return fmt.Errorf("the records of processes are %v", records)
	}
	return nil
}

// die is SIGKILL: nothing of this launcher reaches the disk or a payload any more.
func (l *life) die() *durabletest.Disk {
	found := l.disk.Next()
	l.stop()
	select {
	case <-l.ended:
	case <-time.After(cutLimit):
		l.m.t.Fatal("the launcher does not die")
	}
	if l.site != nil {
		l.site.rest()
		l.site.mu.Lock()
		l.site.serving = journal.Version{} // and is looked after
		l.site.mu.Unlock()
	}
	l.release()
	forked()
	return found
}

// listener hears what a launcher says of itself.
type listener struct{ *life }

func (h listener) Enabled(context.Context, slog.Level) bool { return true }
func (h listener) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h listener) WithGroup(string) slog.Handler            { return h }

func (h listener) Handle(_ context.Context, r slog.Record) error {
	if h.disk.Dead() {
		return nil
	}
	said, number := map[string]string{}, ""
	line := r.Time.Format("05.000 ") + r.Message
	r.Attrs(func(a slog.Attr) bool {
		said[a.Key] = a.Value.String()
		line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	number = said["version"]
	h.m.note(line)
	if said["kind"] == "start" {
		if err := h.m.whole(h.disk.Crash(0), h.m.version(number)); err != nil {
			h.m.t.Errorf("%s was started, and a power cut would not leave it whole: %v", number, err)
		}
	}
	return nil
}

func (m *machine) note(line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log = append(m.log, line)
}

func (m *machine) story() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.log, "\n")
}

// whole verifies versions on a disk, which is a copy.
func (m *machine) whole(d *durabletest.Disk, list ...journal.Version) error {
	s, err := store.Open(d, m.cfg.stateFile("store"))
	for _, v := range list {
		if err == nil {
			err = s.Verify(context.Background(), v)
		}
	}
	return err
}

// answer asks the public address on a new connection.
func (m *machine) answer() (string, error) {
	resp, err := m.client.Get("http://" + m.cfg.Listen[0].Address + "/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// processes lists what lives of the payloads of this machine.
func (m *machine) processes() (pids []int) {
	entries, _ := os.ReadDir("/proc") // without it every test here fails
	mark := []byte("LEASE_FILE=" + m.lease() + "\x00")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ")); err == nil && bytes.Contains(env, mark) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// lose is what becomes of processes when the power fails.
func (m *machine) lose() {
	for pids := m.processes(); len(pids) > 0; pids = m.processes() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_, _ = syscall.Wait4(pid, nil, 0, nil) // ECHILD: it is somebody else's to reap
		}
	}
}
