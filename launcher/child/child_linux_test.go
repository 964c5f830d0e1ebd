package child

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/wire"
)

// options are for a Host in a folder of its own whose path is short enough for sockets.
func options(t testing.TB) Options {
	dir, err := os.MkdirTemp("", "ts")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return Options{
		Disk: durable.OS(), Dir: filepath.Join(dir, "run"), Wire: filepath.Join(dir, "wire"),
		Output: filepath.Join(dir, "log"), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

func open(t testing.TB, o Options) *Host {
	t.Helper()
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// program is the Spec of a role of the test binary.
func program(t testing.TB, kind Kind, role, mode string) Spec {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Spec{Number: "1.0.0", Digest: "d1", Role: "active", Kind: kind, Path: exe,
		Env: []string{roleEnv + "=" + role, "TS_TEST_MODE=" + mode, "GORACE=atexit_sleep_ms=0"}}
}

func start(t testing.TB, h *Host, s Spec) *Process {
	t.Helper()
	p, err := h.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(context.Background(), 0) })
	return p
}

func ready(t testing.TB, p *Process) string {
	t.Helper()
	health, err := p.Ready(soon(t))
	if err != nil {
		t.Fatalf("ready: %v\n%s", err, p.Tail(1000))
	}
	return health
}

// soon bounds what should take milliseconds.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func records(t testing.TB, h *Host) []string {
	entries, err := os.ReadDir(h.o.Dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func waitDone(t testing.TB, p *Process) Exit {
	t.Helper()
	select {
	case <-p.Done():
	case <-soon(t).Done():
		t.Fatal("the process does not end")
	}
	return p.Exit()
}

func TestReadyByWire(t *testing.T) {
	h := open(t, options(t))
	p := start(t, h, program(t, SDK, "sdk", ""))
	if health := ready(t, p); health != "127.0.0.1:4567" {
		t.Errorf("health address %q", health)
	}
	if got := p.Protocol(); got != wire.Protocol {
		t.Errorf("it said protocol %d, and %d is known", wire.Protocol, got)
	}
	if got := p.Stats().Requests; got != 42 {
		t.Errorf("requests %d, want 42", got)
	}
	if b := p.Busy(); b == nil || b.Reason != "backup" || b.For > time.Hour || b.For < time.Minute {
		t.Errorf("busy %+v", b)
	}
	select {
	case <-p.Wants():
	default:
		t.Error("the wish for the lease was not heard")
	}
	if err := errors.Join(p.Accept(soon(t)), p.Grant(soon(t), 7), p.Yield(soon(t)), p.Park(soon(t))); err != nil {
		t.Error(err)
	}
	if err := p.Drain(soon(t), wire.Grace{Deadline: 5}); err != nil {
		t.Error(err)
	}
	if e := waitDone(t, p); e.Code != 0 || e.Signal != "" {
		t.Errorf("exit %v", e)
	}
	if s := p.Stats(); s.Requests != 43 || s.Cut != 5 {
		t.Errorf("the last counters of an ended process are lost: %+v", s)
	}
	if err := p.Accept(soon(t)); !errors.Is(err, ErrExited) {
		t.Errorf("order to a dead process: %v", err)
	}
	p.Stop(soon(t), 0)
	if names := records(t, h); len(names) != 0 {
		t.Errorf("records left: %v", names)
	}
}

func TestExitBeforeReady(t *testing.T) {
	for _, kind := range []Kind{SDK, Plain} {
		p := start(t, open(t, options(t)), program(t, kind, "exit", "3"))
		_, err := p.Ready(soon(t))
		if !errors.Is(err, ErrExited) || !strings.Contains(err.Error(), "exit code 3 after ") {
			t.Errorf("%s: %v", kind, err)
		}
		if got := p.Tail(100); got != "last words\n" {
			t.Errorf("tail %q", got)
		}
	}
}

func TestSurroundings(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "1")
	t.Setenv("HTTPS_PROXY", "http://user:secret@proxy")
	t.Setenv("LISTEN_FDS", "1")
	t.Setenv("NOTIFY_SOCKET", "/manager")
	h := open(t, options(t))
	_, l := listener(t)
	s := program(t, SDK, "print", "")
	s.Data, s.Addr = "/data", map[string]string{"http": "127.0.0.1:1", "admin": "127.0.0.1:2"}
	s.Listeners = []Listener{l}
	s.Env = append(s.Env, wire.EnvVersion+"=fake", "PATH=/first", "PATH=/second")
	p := start(t, h, s)
	if e := waitDone(t, p); e.Code != 0 {
		t.Fatal(e)
	}
	out := p.Tail(10000)
	// Descriptors: 0, 1, 2, token, listener, and two of the program's own (epoll, the folder it reads) or one more.
	for _, want := range []string{"record true", "leader true stdin 0 fds ", wire.EnvVersion + "=1.0.0\n", wire.EnvData + "=/data\n",
		"PATH=/second\n", wire.EnvListen + "=http=4\n", wire.EnvToken + "=3\n", wire.EnvAddr + "=admin=127.0.0.1:2,http=127.0.0.1:1\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	for _, bad := range []string{"WATCHDOG", "PROXY", "LISTEN_FDS", "/manager", "fake", "/first"} {
		if strings.Contains(out, bad) {
			t.Errorf("%q is in\n%s", bad, out)
		}
	}
}

func TestUser(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root to start a payload as another user")
		}
		t.Skip("needs root to start a payload as another user")
	}
	o := options(t)
	h := open(t, o)
	s := program(t, SDK, "sdk", "")
	s.Path = copyProgram(t, filepath.Dir(o.Wire))
	s.User = &User{UID: 65534, GID: 65534, Home: "/nowhere"}
	ready(t, start(t, h, s))
	s.Kind, s.Env[0] = Plain, roleEnv+"=print"
	p := start(t, h, s)
	waitDone(t, p)
	for _, want := range []string{"record true uid 65534 gid 65534 groups []", "HOME=/nowhere\n"} {
		if out := p.Tail(10000); !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	s.Env[0] = roleEnv + "=echo" // notifies
	ready(t, start(t, h, s))
	_, l := listener(t)
	s.Kind, s.Listeners, s.Env[0] = Activation, []Listener{l}, roleEnv+"=listen"
	h.o.ExecChild = []string{s.Path, "exec-child"}
	p = start(t, h, s)
	if line, err := ask(mustAddr(t, l.Conn), ""); err != nil || line != "http \n" {
		t.Errorf("activated as another user: %q %v\n%s", line, err, p.Tail(1000))
	}
}

// copyProgram puts the test binary where every user may run it.
func copyProgram(t *testing.T, dir string) string {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// failingDisk fails one step of writing a record.
type failingDisk struct {
	durable.Disk
	step string
}

type failingFile struct{ durable.File }

func (failingFile) Sync() error { return syscall.EIO }

func (d failingDisk) OpenFile(name string, flag int, perm os.FileMode) (durable.File, error) {
	if d.step == "create" && flag&os.O_CREATE != 0 {
		return nil, syscall.EIO
	}
	f, err := d.Disk.OpenFile(name, flag, perm)
	if d.step == "sync" && err == nil {
		f = failingFile{f}
	}
	return f, err
}

func (d failingDisk) SyncDir(name string) error {
	if d.step == "sync folder" && filepath.Base(name) == "run" {
		return syscall.EIO
	}
	return d.Disk.SyncDir(name)
}

func TestNoProcessWithoutASyncedRecord(t *testing.T) {
	for _, step := range []string{"create", "sync", "sync folder"} {
		o := options(t)
		o.Disk = failingDisk{o.Disk, step}
		h := open(t, o)
		p, err := h.Start(t.Context(), program(t, Plain, "silent", ""))
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("%s fails: start: %v", step, err)
			p.Stop(t.Context(), 0)
		}
		for _, s := range processes() {
			if filepath.Dir(readMark(s.pid)) == o.Dir {
				t.Errorf("%s fails: process %d was made", step, s.pid)
			}
		}
		for _, dir := range []string{o.Dir, o.Output} {
			if left, _ := os.ReadDir(dir); len(left) != 0 {
				t.Errorf("%s fails: files left: %v", step, left)
			}
		}
	}
}

func TestRefusedSpecs(t *testing.T) {
	h := open(t, options(t))
	good := program(t, Plain, "silent", "")
	plain := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, l := listener(t)
	for name, change := range map[string]func(*Spec){
		"version":        func(s *Spec) { s.Number = "../1" },
		"kind":           func(s *Spec) { s.Kind = "magic" },
		"relative":       func(s *Spec) { s.Path = "program" },
		"missing":        func(s *Spec) { s.Path = "/no/such/program" },
		"not executable": func(s *Spec) { s.Path = plain },
		"folder":         func(s *Spec) { s.Path = "/" },
		"plain sockets":  func(s *Spec) { s.Listeners = []Listener{l} },
		"no sockets":     func(s *Spec) { s.Kind = Activation },
		"same name":      func(s *Spec) { s.Kind, s.Listeners = SDK, []Listener{l, l} },
		"listener name":  func(s *Spec) { s.Kind, s.Listeners = SDK, []Listener{{Name: "a=1,b", Conn: l.Conn}} },
		"address name":   func(s *Spec) { s.Addr = map[string]string{"a,b": "127.0.0.1:1"} },
	} {
		s := good
		change(&s)
		if _, err := h.Start(t.Context(), s); !errors.Is(err, ErrSpec) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if names := records(t, h); len(names) != 0 {
		t.Errorf("records left: %v", names)
	}
}

func TestStartAfterClose(t *testing.T) {
	h := open(t, options(t))
	h.Close()
	if _, err := h.Start(t.Context(), program(t, Plain, "silent", "")); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	if names := records(t, h); len(names) != 0 {
		t.Errorf("records left: %v", names)
	}
}
