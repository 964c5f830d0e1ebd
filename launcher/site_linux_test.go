package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/store"
)

// payloads builds the program that is every payload here, once, and says where it lies: the release is a file that says
// how it behaves. It is small, and starts in a third of the time that this test binary needs.
var payloads = sync.OnceValues(func() (string, error) {
	exe := filepath.Join(payloadDir, "payload")
	if out, err := exec.Command("go", "build", "-o", exe, "./testdata/payload").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return exe, nil
})

var payloadDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "ts")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	payloadDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir) // a temporary folder
	os.Exit(code)
}

// slowStart is the file that a release with that word waits for before its first word to the launcher.
func slowStart(dir string) string { return filepath.Join(dir, "go-on") }

// ground is a machine with a site on it.
type ground struct {
	*site
	t   *testing.T
	sv  *service
	dir string

	dead    bool // the launcher died, and none was opened since
	fences  atomic.Uint64
	fenced  atomic.Bool // the journal cannot be written
	mu      sync.Mutex
	events  []updater.Event
	orders  []updater.Order
	changed chan struct{}
}

// newGround opens a site with fast settings; change says what is different.
func newGround(t *testing.T, change func(*Config)) *ground {
	t.Helper()
	dir, err := os.MkdirTemp("", "ts")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cfg := groundConfig(t, dir, freePort(t))
	if change != nil {
		change(&cfg)
	}
	g := &ground{t: t, dir: dir, changed: make(chan struct{}, 1)}
	log := slog.New(slog.DiscardHandler)
	g.sv = &service{cfg: cfg, log: log, disk: durable.OS()}
	if g.sv.store, err = store.Open(g.sv.disk, filepath.Join(dir, "store")); err != nil {
		t.Fatal(err)
	}
	g.boot()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if !g.dead { // else there is nobody who would hear of the ends that Close waits for
			g.Close(ctx)
		}
		g.sv.host.Close()
		g.closeSockets()
		if t.Failed() {
			for _, e := range g.told("") {
				t.Logf("%s %-8s %s %s", e.At.Format("15:04:05.000"), e.Kind, e.Number, e.Text)
			}
		}
	})
	return g
}

// groundConfig is a configuration with fast settings.
func groundConfig(t *testing.T, dir, address string) Config {
	t.Helper()
	exe := certain(payloads())(t)
	cfg := defaultConfig()
	cfg.State.Dir = dir
	cfg.Payload.User, cfg.Payload.Data = "same", dir
	cfg.Payload.Command = []string{exe, "{{.File}}"}
	cfg.Payload.Env = map[string]string{"LEASE_FILE": filepath.Join(dir, "lease")}
	cfg.Traffic = TrafficConfig{Mode: "handoff", Strategy: "parallel"}
	cfg.Listen = []ListenConfig{{Name: "http", Address: address}}
	cfg.Health.Probe = "http"
	cfg.Health.Interval, cfg.Health.Timeout, cfg.Health.ReadyTimeout, cfg.Health.Good = 50*time.Millisecond, time.Second, 10*time.Second, 2
	cfg.Drain = DrainConfig{Deadline: 2 * time.Second, Stream: 2 * time.Second, Kill: 2 * time.Second}
	return cfg
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// boot is what a launcher does on the machine before its engine runs.
func (g *ground) boot() {
	g.t.Helper()
	g.must(g.reopen())
	g.site.emit = g.hear
	serving, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	for _, p := range g.proxies {
		run.Go(func() { _ = p.Run(serving) })
	}
	g.t.Cleanup(func() {
		cancel()
		run.Wait()
	})
	g.begin(g.obey)
}

// reopen is the part of boot that can fail for what others do on the machine.
func (g *ground) reopen() (err error) {
	g.t.Helper()
	g.sv.host, err = child.New(child.Options{
		Disk: g.sv.disk, Dir: filepath.Join(g.dir, "run"), Wire: filepath.Join(g.dir, "wire"), Output: filepath.Join(g.dir, "log"), Log: g.sv.log,
	})
	if err != nil {
		g.t.Fatal(err)
	}
	opened, err := openSite(g.t.Context(), g.sv, g.next)
	if err != nil {
		g.sv.host.Close() // the launcher ends
		return err
	}
	g.site, g.dead = opened, false
	return nil
}

// die is the death of the launcher: payloads live on. The site's own goroutines, which would have died with
// it, go on waiting for processes that they do not hear of any more.
func (g *ground) die() {
	g.dead = true
	g.rest()
	g.sv.host.Close()
	g.closeSockets()
}

func (g *ground) next() (uint64, error) {
	if g.fenced.Load() {
		return 0, io.ErrShortWrite
	}
	return g.fences.Add(1), nil
}

func (g *ground) obey(_ context.Context, o updater.Order) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.orders = append(g.orders, o)
	g.stir()
	return nil
}

func (g *ground) hear(e updater.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = append(g.events, e)
	g.stir()
}

func (g *ground) stir() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// told returns the events of a kind, "" for all.
func (g *ground) told(kind string) (list []updater.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.events {
		if kind == "" || e.Kind == kind {
			list = append(list, e)
		}
	}
	return list
}

// until waits for a condition, which is asked again after every event and every few milliseconds.
func (g *ground) until(what string, cond func() bool) {
	g.t.Helper()
	limit := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-g.changed:
		case <-time.After(5 * time.Millisecond):
		case <-limit:
			g.t.Fatalf("never: %s", what)
		}
	}
}

// release seals a version of the given behaviour.
func (g *ground) release(number, words string) journal.Version {
	g.t.Helper()
	return g.sealed(number, []byte(number+" "+words))
}

func (g *ground) sealed(number string, b []byte) journal.Version {
	g.t.Helper()
	sum := sha256.Sum256(b)
	v := journal.Version{Number: number, Digest: hex.EncodeToString(sum[:]), Epoch: 1, File: "release", SizeBytes: int64(len(b))}
	if err := os.WriteFile(g.sv.store.Staged(v), b, 0o600); err != nil {
		g.t.Fatal(err)
	}
	if err := g.sv.store.Seal(g.t.Context(), v); err != nil {
		g.t.Fatal(err)
	}
	return v
}

func (g *ground) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// forward makes v serve beside what serves now, as the engine does.
func (g *ground) forward(v journal.Version) {
	g.t.Helper()
	g.must(g.Warm(g.t.Context(), v))
	g.must(g.Switch(g.t.Context(), v))
}

// answer asks the public address on a new connection.
func (g *ground) answer() (string, error) {
	c := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get("http://" + g.sockets[0].Addr().String() + "/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// answers fails the test unless v answers every one of some requests.
func (g *ground) answers(v journal.Version) {
	g.t.Helper()
	for range 10 {
		if got, err := g.answer(); err != nil || got != v.Number {
			g.t.Fatalf("%q, %v answers, want %s", got, err, v.Number)
		}
	}
}

// pid is the living process of v, 0 if it has none.
func (g *ground) pid(v journal.Version) int {
	if m := g.living(v); m != nil {
		return m.proc.PID()
	}
	return 0
}

func (g *ground) signal(v journal.Version, sig syscall.Signal) {
	g.t.Helper()
	pid := g.pid(v)
	if pid == 0 {
		g.t.Fatalf("%s does not run", v.Number)
	}
	g.must(syscall.Kill(pid, sig))
	if sig == syscall.SIGSTOP { // which the kernel delivers in its own time, and until then orders are obeyed
		g.until("the process to stop", func() bool { return stopped(pid) })
	}
}

// stopped reads whether every thread of a process is stopped; see proc(5).
func stopped(pid int) bool {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, task := range tasks {
		stat, rerr := os.ReadFile(task)
		_, state, found := strings.Cut(string(stat), ") ")
		if rerr != nil || !found || state[0] != 'T' {
			return false
		}
	}
	return err == nil && len(tasks) > 0
}
