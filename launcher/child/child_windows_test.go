package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/relay"
	"github.com/turnstone-go/turnstone/payload"
)

// roleEnv turns the test binary into one of the programs below.
const roleEnv = "TS_TEST_ROLE"

const patience = 60 * time.Second // Wine on a busy machine is slow

var roles = map[string]func(){
	"service":  serviceProgram,
	"hung":     hungProgram,
	"silent":   func() { fmt.Println("listens"); <-interrupted },
	"stubborn": func() { fmt.Println("listens"); select {} },
	"exit":     func() { fmt.Println("last words"); os.Exit(3) },
	"forker":   forkerProgram,
	"echo":     listenProgram,
	"print":    printProgram,
}

// interrupted receives CTRL_C from before the program does anything.
var interrupted = make(chan os.Signal, 1)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "ctrl-c" {
		if err := SendCtrlC(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if role := os.Getenv(roleEnv); role != "" {
		if role != "service" {
			signal.Notify(interrupted, os.Interrupt)
		}
		time.AfterFunc(5*time.Minute, func() { os.Exit(98) }) // a failed test leaves nothing for ever
		roles[role]()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func check(err error) {
	if err != nil {
		fmt.Println("helper:", err)
		os.Exit(99)
	}
}

// serviceProgram is a service with the SDK.
func serviceProgram() {
	ln, err := payload.Listen("http", "127.0.0.1:0")
	check(err)
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"version":%q,"pid":%d}`, payload.Version(), os.Getpid())
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		ms, _ := strconv.Atoi(r.FormValue("ms"))
		time.Sleep(time.Duration(ms) * time.Millisecond)
		fmt.Fprintf(w, `{"version":%q,"pid":%d}`, payload.Version(), os.Getpid())
	})
	check(payload.Ready())
	check(payload.Serve(&http.Server{Handler: mux}, ln))
}

// hungProgram accepts by an accept loop that is stuck in its first connection: it never answers a park.
func hungProgram() {
	ln, err := payload.Listen("http", "")
	check(err)
	payload.OnDrain(func(context.Context) { select {} })
	check(payload.Ready())
	for {
		c, err := ln.Accept()
		check(err)
		_ = c
	}
}

// forkerProgram starts a stubborn child and waits.
func forkerProgram() {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"=stubborn")
	check(cmd.Start())
	fmt.Println("child", cmd.Process.Pid)
	<-interrupted
}

// listenProgram listens at the private address that it is told.
func listenProgram() {
	ln, err := net.Listen("tcp", os.Getenv("ADDR"))
	check(err)
	fmt.Println("listens")
	<-interrupted
	_ = ln.Close()
}

func printProgram() {
	for _, nv := range os.Environ() {
		fmt.Println(nv)
	}
}

func options(t *testing.T) Options {
	t.Helper()
	dir := t.TempDir()
	logs := new(bytes.Buffer)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", logs)
		}
	})
	return Options{
		Disk: durable.OS(), Dir: filepath.Join(dir, "run"), Wire: WireAddress(dir), Output: filepath.Join(dir, "log"),
		Log: slog.New(slog.NewTextHandler(logs, nil)),
	}
}

func open(t *testing.T, o Options) *Host {
	t.Helper()
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

func program(t *testing.T, kind Kind, role string, env ...string) Spec {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Spec{
		Number: "1.0.0", Digest: "d", Kind: kind, Path: exe, Dir: t.TempDir(), ReadyTimeout: patience,
		Env: append(env, roleEnv+"="+role),
	}
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, h *Host, s Spec) *Process {
	t.Helper()
	p, err := h.Start(soon(t), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("output of %s, %s:\n%s", s.Number, p.Exit(), p.Tail(4000))
		}
		p.Stop(context.Background(), 0)
	})
	return p
}

// says waits until the program has written text.
func says(t *testing.T, p *Process, text string) {
	t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(p.Tail(1<<16), text); {
		if time.Now().After(end) {
			t.Fatalf("it never said %q:\n%s", text, p.Tail(1<<16))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func ended(t *testing.T, p *Process) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatal("it did not end")
	}
}

// CTRL_C reaches the hidden console of a program that knows nothing of us, and its exit code is its own.
func TestStopByCtrlC(t *testing.T) {
	h := open(t, options(t))
	p := start(t, h, program(t, Plain, "silent"))
	says(t, p, "listens")
	if exit := p.Stop(soon(t), patience); exit.Code != 0 || exit.Ran > patience {
		t.Errorf("exit %s, want exit code 0", exit)
	}
}

func TestStopKillsTheStubborn(t *testing.T) {
	h := open(t, options(t))
	p := start(t, h, program(t, Plain, "stubborn"))
	says(t, p, "listens")
	begun := time.Now()
	exit := p.Stop(soon(t), 300*time.Millisecond)
	if exit.At.IsZero() || exit.Code != 1 || time.Since(begun) > patience/2 {
		t.Errorf("exit %s after %s", exit, time.Since(begun))
	}
}

func TestExitAndLastWords(t *testing.T) {
	h := open(t, options(t))
	p := start(t, h, program(t, Plain, "exit"))
	ended(t, p)
	if p.Exit().Code != 3 || !strings.Contains(p.Tail(1000), "last words") {
		t.Errorf("exit %s, output %q", p.Exit(), p.Tail(1000))
	}
}

// What a program started is ended with it.
func TestTreeIsGone(t *testing.T) {
	h := open(t, options(t))
	p := start(t, h, program(t, Plain, "forker"))
	says(t, p, "child ")
	pid, err := strconv.Atoi(strings.Fields(p.Tail(1000))[1])
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := openProcess(pid, 0)
	if err != nil || leaf == nil {
		t.Fatalf("the child does not run: %v", err)
	}
	defer leaf.close()
	p.Stop(soon(t), 300*time.Millisecond)
	if err := leaf.wait(soon(t)); err != nil {
		t.Errorf("the child lives on: %v", err)
	}
	entries, err := os.ReadDir(h.o.Dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("records left: %v, %v", entries, err)
	}
}

// A payload sees what is allowed and told, and no secret of the launcher's.
func TestSurroundings(t *testing.T) {
	t.Setenv("TS_SECRET", "passphrase")
	h := open(t, options(t))
	s := program(t, Plain, "print", "MINE=1")
	s.Data = s.Dir
	p := start(t, h, s)
	ended(t, p)
	out := p.Tail(1 << 16)
	for _, want := range []string{"MINE=1", "TURNSTONE_VERSION=1.0.0", "TURNSTONE_DATA="} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is missing:\n%s", want, out)
		}
	}
	if strings.Contains(out, "passphrase") {
		t.Errorf("the launcher's secret was handed on:\n%s", out)
	}
}

func TestOwnsPort(t *testing.T) {
	h := open(t, options(t))
	addr := freePort(t)
	p := start(t, h, program(t, Plain, "echo", "ADDR="+addr))
	says(t, p, "listens")
	if err := p.OwnsPort(addr); err != nil {
		t.Error(err)
	}
	squatter, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	for _, other := range []string{squatter.Addr().String(), "127.0.0.1:1", "nonsense"} {
		if err := p.OwnsPort(other); !errors.Is(err, ErrNotOwner) {
			t.Errorf("%s: %v", other, err)
		}
	}
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

// A program that lives on is found again by the next launcher; its number alone is not enough.
func TestAdoption(t *testing.T) {
	o := options(t)
	first, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := first.Start(soon(t), program(t, Plain, "silent"))
	if err != nil {
		t.Fatal(err)
	}
	says(t, p, "listens")
	pid := p.PID()
	first.Close()
	next := open(t, o)
	ps, err := next.Adopt(soon(t))
	if err != nil || len(ps) != 1 || ps[0].PID() != pid {
		t.Fatalf("adopted %v, %v", ps, err)
	}
	if ps[0].handle.job == 0 {
		t.Error("its job was not found again")
	}
	if exit := ps[0].Stop(soon(t), patience); exit.Code != 0 {
		t.Errorf("exit %s", exit)
	}
	if other, err := openProcess(windowsPID(), 12345); other != nil || err != nil {
		t.Errorf("a process with another creation time was taken: %v, %v", other, err)
	}
}

func windowsPID() int { return int(windows.GetCurrentProcessId()) }

// A launcher that died before it wrote the pid ends what it may have started.
func TestWhatAnEarlierLauncherLeftIsEnded(t *testing.T) {
	o := options(t)
	first, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	p, err := first.Start(soon(t), program(t, Plain, "silent"))
	if err != nil {
		t.Fatal(err)
	}
	hd, err := openProcess(p.PID(), 0)
	if err != nil || hd == nil {
		t.Fatal(err)
	}
	defer hd.close()
	first.Close()
	cut := p.rec
	cut.path = p.rec.path
	if err := os.Remove(p.rec.path); err != nil {
		t.Fatal(err)
	}
	if err := createRecord(o.Disk, cut); err != nil { // line 1 alone
		t.Fatal(err)
	}
	next := open(t, o)
	if ps, err := next.Adopt(soon(t)); err != nil || len(ps) != 0 {
		t.Fatalf("adopted %v, %v", ps, err)
	}
	if err := hd.wait(soon(t)); err != nil {
		t.Errorf("it lives on: %v", err)
	}
}

func TestActivationIsRefused(t *testing.T) {
	h := open(t, options(t))
	s := program(t, Activation, "silent")
	sock, err := relay.Listen("http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sock.Close()
	s.Listeners = []Listener{{Name: "http", Conn: sock.RawConn()}}
	if _, err := h.Start(soon(t), s); !errors.Is(err, ErrUnsupported) {
		t.Errorf("start: %v", err)
	}
}
