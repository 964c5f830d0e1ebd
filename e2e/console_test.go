package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

// Ctrl-C in the console of `launcher run` ends the service as an orderly stop does: a request that is inside is
// answered, the payload ends, and the exit code is 0.
func TestCtrlCOnWindows(t *testing.T) {
	programs, m := windows(t)
	console := windowsTool(t, "./console")
	s, err := stage.New(t.Context(), programs, stage.Options{Machine: m})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // only a repository is left
	publish(t, s, "1.0.0", windowsExample(t, programs, "1.0.0"))
	var log bytes.Buffer
	cmd := m.Command(t.Context(), console, programs.Launcher, "run", "--config", "Z:"+strings.ReplaceAll(s.Config, "/", `\`))
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	window, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the launcher does not start: %v", err)
	}
	serving(t, s, "1.0.0")
	told(t, s, "handoff")
	sv := &service{Stage: s, machine: m, mode: "handoff"}
	payload := sv.payload(t)

	answer := make(chan string, 1)
	go func() { answer <- sv.get(t, "/slow?ms=6000") }()
	inside(t, s)
	if err := window.Close(); err != nil { // which presses Ctrl-C
		t.Fatal(err)
	}
	if got := <-answer; !strings.Contains(got, "1.0.0") {
		t.Errorf("the request that was inside was answered with %q", got)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the launcher ended with %v\n%s", err, &log)
		}
	case <-time.After(2 * time.Minute):
		t.Fatalf("the launcher does not end\n%s", &log)
	}
	if tasks := sv.windows(t, 0, "tasklist"); strings.Contains(tasks, "launcher") || strings.Contains(tasks, "example") {
		t.Errorf("processes are left:\n%s", tasks)
	}
	t.Logf("handoff: Ctrl-C ended the launcher %s and its payload %d in order, with a request inside", strings.TrimSpace(pid), payload)
}

// inside waits until the service counts a request that it has not answered.
func inside(t *testing.T, s *stage.Stage) {
	t.Helper()
	for range 300 {
		st := status(t, s)
		if len(st.Processes) > 0 && st.Processes[0].Open > 0 {
			return
		}
		stage.Wait(t.Context(), 100*time.Millisecond)
	}
	text, _ := json.Marshal(status(t, s))
	t.Fatalf("no request gets inside: %s", text)
}

// windowsTool compiles a program of this folder for Windows.
func windowsTool(t *testing.T, program string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), filepath.Base(program)+".exe")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", file, program)
	build.Env = append(os.Environ(), "GOOS=windows", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", program, err, out)
	}
	return file
}
