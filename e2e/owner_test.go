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
	"testing"

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
			owner := tenStart(t, s)
			serving(t, s, "1.0.0")
			if now := pids(t, s)["1.0.0"]; now != pid {
				t.Errorf("process %d serves, before it was %d", now, pid)
			}
			if left := running(t, s); len(left) != 1 {
				t.Errorf("there run %v", left)
			}
			flow(t, l, 100)
			_ = owner.Process.Kill() // its end is waited for
			_ = owner.Wait()
		}
		launch(t, s)
		serving(t, s, "1.0.0")
	})
	nothingLost(t, r)
}

// tenStart starts ten launchers and returns the one that is left.
func tenStart(t *testing.T, s *stage.Stage) *exec.Cmd {
	t.Helper()
	type end struct {
		cmd *exec.Cmd
		out string
	}
	ends, all := make(chan end), make([]*exec.Cmd, 10)
	gate := make(chan struct{})
	for i := range all {
		cmd := s.Command(context.WithoutCancel(t.Context()), "run")
		all[i] = cmd
		log, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdout, cmd.Stderr = log, log
		go func() {
			<-gate
			if err := cmd.Start(); err != nil {
				t.Error(err)
			}
			if i := cmd.ProcessState; i == nil {
				state, err := cmd.Process.Wait()
				_ = log.Close() // only read from here on
				text, _ := os.ReadFile(log.Name())
				if err == nil && state.ExitCode() != 2 && state.ExitCode() != -1 {
					t.Errorf("a launcher ended with %s: %s", state, text)
				}
				ends <- end{cmd, string(text)}
			}
		}()
	}
	close(gate)
	for range len(all) - 1 {
		e := <-ends
		says(t, e.out, "another launcher runs")
		all = slices.DeleteFunc(all, func(c *exec.Cmd) bool { return c == e.cmd })
	}
	go func() { <-ends }()
	return all[0]
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
		operator(t, s, 0, "update", "1.1.0", "--now")
		phase(t, s, journal.Warming)
		publish(t, s, "1.2.0", example(t, "1.2.0", ""))
		operator(t, s, 0, "update", "1.2.0", "--now", "--follow")
		histories(t, s, "1.2.0 committed", "1.1.0 discarded")
	})
	t.Run("probation", func(t *testing.T) {
		s := onTrial(t, "3s")
		publish(t, s, "1.1.0", example(t, "1.1.0", ""))
		operator(t, s, 0, "update", "1.1.0", "--now")
		phase(t, s, journal.Probation)
		publish(t, s, "1.2.0", example(t, "1.2.0", ""))
		operator(t, s, 0, "update", "1.2.0", "--now")
		if st := status(t, s); st.Phase != journal.Probation || st.Candidate.Number != "1.1.0" {
			t.Errorf("the order broke into the probation: %s of %v", st.Phase, st.Candidate)
		}
		serving(t, s, "1.2.0")
		histories(t, s, "1.2.0 committed", "1.1.0 committed")
	})
}

// histories demands what the history says of the last updates, newest first.
func histories(t *testing.T, s *stage.Stage, want ...string) {
	t.Helper()
	entries, err := s.Client().History(t.Context(), len(want))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.To+" "+string(e.Outcome))
	}
	if !slices.Equal(got, want) {
		t.Errorf("history says %q, want %q", got, want)
	}
}
