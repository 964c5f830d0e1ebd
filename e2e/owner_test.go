package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// running is the command of every process that bears the mark of this installation: payloads, hooks, and what
// they started.
func running(t *testing.T, s *stage.Stage) map[string]string {
	t.Helper()
	all := make(map[string]string)
	names, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if env, err := os.ReadFile(name); err == nil && strings.Contains(string(env), "TURNSTONE_RECORD="+s.State()+"/") {
			command, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline")) // it may be ending
			all[filepath.Base(filepath.Dir(name))] = strings.ReplaceAll(string(command), "\x00", " ")
		}
	}
	return all
}

// Of ten launchers that are started at once one runs, whichever it is; the others say so and touch nothing. The same
// when they meet a payload that its launcher has left.
func TestTenLaunchers(t *testing.T) {
	s := launched(t, quick(nil))
	pid := pids(t, s)["1.0.0"]
	r := underLoad(t, s, some, func(l *load.Load) {
		kill(t, s)
		for range 2 {
			end := tenStart(t, s)
			serving(t, s, "1.0.0")
			if now := pids(t, s)["1.0.0"]; now != pid {
				t.Errorf("process %d serves, before it was %d", now, pid)
			}
			if left := running(t, s); len(left) != 1 {
				t.Errorf("there run %v", left)
			}
			flow(t, l, 100)
			end()
		}
		launch(t, s)
		serving(t, s, "1.0.0")
	})
	nothingLost(t, r)
}

// tenStart starts ten launchers, demands that nine give up, and returns what kills the one that is left.
func tenStart(t *testing.T, s *stage.Stage) (end func()) {
	t.Helper()
	all, ends := make([]*exec.Cmd, 10), make(chan *exec.Cmd, 10)
	var started sync.WaitGroup
	for i := range all {
		log, err := os.Create(filepath.Join(t.TempDir(), fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		cmd := s.Command(context.WithoutCancel(t.Context()), "run")
		cmd.Stdout, cmd.Stderr, all[i] = log, log, cmd
		t.Cleanup(func() { _ = log.Close() }) // it was read
		started.Go(func() {
			if err := cmd.Start(); err != nil {
				t.Error(err)
			}
		})
	}
	started.Wait()
	if t.Failed() {
		t.FailNow()
	}
	left := all
	for _, cmd := range all {
		go func() { _ = cmd.Wait(); ends <- cmd }() // how it ended is in its state
		t.Cleanup(func() { _ = cmd.Process.Kill() })
	}
	for range len(all) - 1 {
		select {
		case cmd := <-ends:
			if code := cmd.ProcessState.ExitCode(); code != 2 {
				t.Errorf("a launcher ended with code %d, want 2", code)
			}
			says(t, contents(t, cmd.Stdout.(*os.File).Name()), "another launcher runs")
			left = slices.DeleteFunc(slices.Clone(left), func(c *exec.Cmd) bool { return c == cmd })
		case <-time.After(time.Minute):
			t.Fatalf("%d launchers run at once", len(left))
		}
	}
	return func() { _ = left[0].Process.Kill(); <-ends }
}

// A payload whose launcher was killed goes on in every respect: it serves, and what it says is kept, all of it,
// before, while and after nobody is there.
func TestOutputGoesOn(t *testing.T) {
	s := launched(t, quick(nil))
	say := func() {
		t.Helper()
		resp, err := http.Get("http://" + s.Listen + "/say?lines=100")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v, %s", resp.Status, err, text)
		}
	}
	say()
	kill(t, s)
	say()
	launch(t, s)
	serving(t, s, "1.0.0")
	say()
	logs, err := filepath.Glob(filepath.Join(s.State(), "log", "1.0.0-*.log"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("%v, %v", logs, err)
	}
	var want strings.Builder
	for n := range 300 {
		fmt.Fprintf(&want, "line %d\n", n+1)
	}
	if got := contents(t, logs[0]); !strings.HasSuffix(got, want.String()) {
		t.Errorf("its output is\n%s", got)
	}
}

// A second order does not break into an update where traffic moves: before the switch it takes the place of the
// first, after it waits until the first has come to its end.
func TestSecondOrder(t *testing.T) {
	t.Run("warming", func(t *testing.T) {
		s := launched(t, quick(nil))
		publish(t, s, "1.1.0", example(t, "1.1.0", "slow-start:5s"))
		publish(t, s, "1.2.0", example(t, "1.2.0", ""))
		operator(t, s, 0, "update", "1.1.0", "--now")
		phase(t, s, journal.Warming)
		operator(t, s, 0, "update", "1.2.0", "--now", "--follow")
		histories(t, s, "1.2.0 committed", "1.1.0 discarded")
	})
	t.Run("probation", func(t *testing.T) {
		s := onTrial(t, "8s")
		publish(t, s, "1.1.0", example(t, "1.1.0", ""))
		publish(t, s, "1.2.0", example(t, "1.2.0", ""))
		operator(t, s, 0, "update", "1.1.0", "--now")
		phase(t, s, journal.Probation)
		operator(t, s, 0, "update", "1.2.0", "--now")
		if st := status(t, s); st.Phase != journal.Probation || st.Candidate.Number != "1.1.0" {
			t.Errorf("the order broke into the probation: %s of %v", st.Phase, st.Candidate)
		}
		serving(t, s, "1.2.0")
		histories(t, s, "1.2.0 committed", "1.1.0 committed")
	})
}

// histories demands what the history says of the last updates, newest first; see last.
func histories(t *testing.T, s *stage.Stage, want ...string) {
	t.Helper()
	var got []string
	defer func() {
		if t.Failed() {
			t.Logf("the history says %q", got)
		}
	}()
	eventually(t, fmt.Sprintf("the history ends with %q", want), func() bool {
		got = nil
		entries, _ := s.Client().History(t.Context(), len(want)) // without an answer there are none
		for _, e := range entries {
			got = append(got, e.To+" "+string(e.Outcome))
		}
		return slices.Equal(got, want)
	})
}
