package e2e

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
)

// The Windows launcher, in its console mode, under Wine; the repository and the clients are on Linux.

// windowsPrograms are built once for all tests that need them.
var windowsPrograms = sync.OnceValues(func() (stage.Programs, error) {
	return stage.BuildWindows(context.Background(), programs.Dir)
})

// windows boots a machine of its own for a test. Without Wine that is a failure where the tests must be
// complete.
func windows(t *testing.T) (stage.Programs, *stage.Machine) {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("Wine runs programs for x86-64 on Linux for x86-64 only")
	}
	if testing.Short() {
		t.Skip("a Windows of its own takes a while; -short was given")
	}
	programs, err := windowsPrograms()
	if err != nil {
		t.Fatal(err)
	}
	m, err := programs.Boot(t.Context())
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("there is no Wine, and under CI=true it may not be missing: %v", err)
		}
		t.Skipf("there is no Wine: %v", err)
	}
	t.Cleanup(func() { _ = m.Close() }) // it was ended
	return programs, m
}

func TestWindows(t *testing.T) {
	for _, mode := range []string{"handoff", "proxy"} {
		t.Run(mode, func(t *testing.T) { updateOnWindows(t, mode) })
	}
}

func updateOnWindows(t *testing.T, mode string) {
	programs, m := windows(t)
	s, err := stage.New(t.Context(), programs, stage.Options{Machine: m, Config: map[string]string{
		"traffic": fmt.Sprintf("mode = %q\n", mode),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the launcher's log:\n%s", s.Log())
		}
		_ = s.Close() // the launcher ends with the machine
	})
	release := func(version, fault string) {
		t.Helper()
		file, err := programs.Example(t.Context(), version, fault)
		if err != nil {
			t.Fatal(err)
		}
		publish(t, s, version, file)
	}
	release("1.0.0", "")
	launch(t, s)
	serving(t, s, "1.0.0")
	told(t, s, mode)

	l := load.Start(load.Options{Address: s.Listen, Workers: map[load.Class]int{load.KeepAlive: 8, load.Fresh: 8, load.H2: 2}})
	defer l.Stop()
	flow(t, l, 300)
	release("1.1.0", "")
	operator(t, s, 0, "update", "--now", "--follow")
	serving(t, s, "1.1.0")
	told(t, s, mode)
	release("1.2.0", "health-fail:300ms")
	operator(t, s, 20, "update", "--now", "--follow")
	serving(t, s, "1.1.0")
	told(t, s, mode)
	if mode == "handoff" { // where the launcher's death is no outage
		if out, err := m.Run(t.Context(), "taskkill", "/f", "/im", "launcher.exe"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		flow(t, l, 300) // without a launcher
		launch(t, s)
		serving(t, s, "1.1.0")
		release("1.3.0", "")
		operator(t, s, 0, "update", "--now", "--follow")
		serving(t, s, "1.3.0")
		told(t, s, mode)
	}
	flow(t, l, 300)
	r := l.Stop()
	if r.Lost() {
		t.Errorf("lost requests: %+v", r)
	}
	t.Logf("%s: %d requests over a switch, another and the way back: %d refused, %d failed, %d retryable; by version %v",
		mode, r.Requests, r.Refused, r.Failed, r.Retryable, r.Versions)
}

// told checks and prints who has the connections of the service: in handoff mode the payload itself, in proxy
// mode the launcher.
func told(t *testing.T, s *stage.Stage, mode string) {
	t.Helper()
	p, err := s.Prove(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if p.Mode() != mode || mode == "handoff" && !strings.Contains(strings.Join(p.Holders, " "), "store") {
		t.Errorf("%s mode: %s", mode, p)
	}
	t.Log(p)
}
