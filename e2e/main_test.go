// Package e2e drives the built programs from outside: a vendor's pipeline on one side, an operator and
// clients on the other. Every test here says what a user was promised.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/launcher/control"
)

// programs are built once for all tests.
var programs stage.Programs

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tsbin")
	if err == nil {
		programs, err = stage.Build(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir) // a temporary folder
	os.Exit(code)
}

var examples struct {
	sync.Mutex
	files map[string]string
}

// example is the example payload of that version with a fault inside, compiled once.
func example(t testing.TB, version, fault string) string {
	t.Helper()
	examples.Lock()
	defer examples.Unlock()
	key := version + " " + fault
	if f := examples.files[key]; f != "" {
		return f
	}
	file, err := programs.Example(t.Context(), version, fault)
	if err != nil {
		t.Fatal(err)
	}
	if examples.files == nil {
		examples.files = make(map[string]string)
	}
	named := filepath.Join(programs.Dir, "x"+strings.Map(plainName, key))
	if err := os.Rename(file, named); err != nil {
		t.Fatal(err)
	}
	examples.files[key] = named
	return named
}

func plainName(r rune) rune {
	if strings.ContainsRune(" :/", r) {
		return '-'
	}
	return r
}

// launched is a stage that serves the example 1.0.0.
func launched(t testing.TB, o stage.Options) *stage.Stage {
	t.Helper()
	s := staged(t, o)
	publish(t, s, "1.0.0", example(t, "1.0.0", ""))
	launch(t, s)
	serving(t, s, "1.0.0")
	return s
}

func staged(t testing.TB, o stage.Options) *stage.Stage {
	t.Helper()
	return stagedWith(t, programs, o)
}

func stagedWith(t testing.TB, p stage.Programs, o stage.Options) *stage.Stage {
	t.Helper()
	s, err := stage.New(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the launcher's log:\n%s", s.Log())
		}
		if err := s.Close(); err != nil {
			t.Errorf("close the stage: %v", err)
		}
	})
	return s
}

func publish(t testing.TB, s *stage.Stage, version, file string) {
	t.Helper()
	if err := s.Publish(t.Context(), version, file); err != nil {
		t.Fatal(err)
	}
}

func launch(t testing.TB, s *stage.Stage) {
	t.Helper()
	if err := s.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func serving(t testing.TB, s *stage.Stage, version string) {
	t.Helper()
	if err := s.Serving(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}

func status(t testing.TB, s *stage.Stage) control.Status {
	t.Helper()
	st, err := s.Client().Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// operator runs a command of the operator's, demands its exit code and returns what it printed.
func operator(t testing.TB, s *stage.Stage, code int, args ...string) string {
	t.Helper()
	out, got := s.Operator(t.Context(), args...)
	if got != code {
		t.Fatalf("launcher %s: exit code %d, want %d\n%s\n%s", strings.Join(args, " "), got, code, out, s.Log())
	}
	return out
}

// everyone is load of every class that a switch must not hurt.
var everyone = map[load.Class]int{load.KeepAlive: 32, load.Fresh: 16, load.H2: 8, load.Stream: 8}

// underLoad runs f while clients are at work, and returns what they saw.
func underLoad(t *testing.T, s *stage.Stage, o load.Options, f func(l *load.Load)) load.Report {
	t.Helper()
	o.Address = s.Listen
	l := load.Start(o)
	defer l.Stop()
	follower, err := s.Watch(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer follower.Close()
	flow(t, l, 300)
	f(l)
	flow(t, l, 300)
	r := l.Stop()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", text)
	return r
}

// flow waits until n more requests have been answered.
func flow(t testing.TB, l *load.Load, n int) {
	t.Helper()
	from := l.Report().Requests
	for range 600 {
		if l.Report().Requests >= from+n {
			return
		}
		stage.Wait(t.Context(), 50*time.Millisecond)
	}
	t.Fatalf("the load does not flow: %+v", l.Report())
}

// nothingLost demands that no client lost a request.
func nothingLost(t testing.TB, r load.Report) {
	t.Helper()
	if r.Lost() || r.CutByCrash > 0 {
		t.Errorf("lost requests: refused %d, failed %d, retryable %d, cut by crash %d: %s", r.Refused, r.Failed, r.Retryable, r.CutByCrash, strings.Join(r.Samples, "\n"))
	}
}
