package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

// windows runs a program of Windows and demands its exit code.
func (s *service) windows(t *testing.T, code int, program string, args ...string) string {
	t.Helper()
	out, err := s.machine.Run(t.Context(), program, args...)
	got := 0
	var exited *exec.ExitError
	if errors.As(err, &exited) {
		got = exited.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if got != code {
		t.Fatalf("%s %s: exit code %d, want %d\n%s\n%s", program, strings.Join(args, " "), got, code, out, s.log(t))
	}
	return out
}

func (s *service) control(t *testing.T, word string) scmState {
	t.Helper()
	out, err := s.machine.Run(t.Context(), s.scmctl, stage.Product, word)
	if err != nil {
		t.Fatal(err)
	}
	var st scmState
	if err := json.Unmarshal([]byte(out), &st); err != nil {
		t.Fatalf("%s: %v: %s", word, err, out)
	}
	return st
}

func (s *service) query(t *testing.T) scmState {
	t.Helper()
	return s.control(t, "query")
}

// is waits until the manager says that state, and sc says it too.
func (s *service) is(t *testing.T, state uint32) {
	t.Helper()
	s.until(t, fmt.Sprintf("the service is not in state %d", state), func() bool { return s.query(t).State == state })
	words := map[uint32]string{scmRunning: "RUNNING", scmPaused: "PAUSED", scmStopped: "STOPPED"}
	if out := s.windows(t, 0, "sc", "query", stage.Product); !strings.Contains(out, words[state]) {
		t.Errorf("sc query says\n%s", out)
	}
}

func (s *service) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 600 {
		if cond() {
			return
		}
		stage.Wait(t.Context(), 100*time.Millisecond)
	}
	t.Fatalf("%s\n%s", what, s.log(t))
}

// log is the service's own log.
func (s *service) log(t *testing.T) string {
	b, err := os.ReadFile(filepath.Join(s.State(), "log", "launcher.log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// logged demands that events of these kinds were written, under their ids: the file has the id of every
// entry of the Event Log, which Wine does not store.
func (s *service) logged(t *testing.T, kinds ...string) {
	t.Helper()
	ids := map[string]float64{"running": 1, "stopping": 2, "stopped": 3, "reloaded": 4, "switch": 103, "commit": 104, "rollback": 105, "quarantine": 106, "order": 109}
	seen := map[string]float64{}
	for line := range strings.Lines(s.log(t)) {
		var r struct {
			Kind string  `json:"kind"`
			ID   float64 `json:"event_id"`
		}
		if json.Unmarshal([]byte(line), &r) == nil {
			seen[r.Kind] = r.ID
		}
	}
	for _, kind := range kinds {
		if seen[kind] == 0 || ids[kind] != 0 && seen[kind] != ids[kind] {
			t.Errorf("event %s: id %v in the log, want %v", kind, seen[kind], ids[kind])
		}
	}
}

// payload is the pid that answers.
func (s *service) payload(t *testing.T) int {
	t.Helper()
	var who struct{ PID int }
	if err := json.Unmarshal([]byte(s.get(t, "/")), &who); err != nil {
		t.Fatal(err)
	}
	return who.PID
}

// get asks the service on a connection of its own; an error is its answer.
func (s *service) get(t *testing.T, path string) string {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := client.Get("http://" + s.Listen + path)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
