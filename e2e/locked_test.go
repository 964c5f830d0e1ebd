package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
)

// lockLimit is how long a file is held at most: longer than every retry of the launcher.
const lockLimit = 12 * time.Second

// At each step of an update another program keeps the files of that step to itself, as virus scanners do. The
// update then succeeds, or ends as the world's fault with the file and its holder named; the service serves all
// the time; and once the files are free the same update succeeds.
func TestLockedFiles(t *testing.T) {
	programs, m := windows(t)
	locker := windowsTool(t, "./locker")
	s, err := stage.New(t.Context(), programs, stage.Options{Machine: m, Service: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the launcher's log:\n%s", s.Log())
		}
		_ = s.Close() // it was ended
	})
	publish(t, s, "1.0.0", windowsExample(t, programs, "1.0.0"))
	launch(t, s)
	serving(t, s, "1.0.0")
	told(t, s, "handoff")
	l := load.Start(load.Options{Address: s.Listen, Workers: map[load.Class]int{load.KeepAlive: 8, load.Fresh: 4}})
	defer l.Stop()
	for i, step := range []struct{ name, pattern string }{
		{"metadata", `trust\*`},
		{"download", `store\staging\*`},
		{"program", `store\1.3.0-*\tree\*`},
		{"seal", `store\1.4.0-*\*.json`},
		{"process record", `run\*`},
		{"journal", `journal\slot*`},
		{"history", `history.jsonl`},
		{"garbage", `store\*\tree\*`},
	} {
		version := fmt.Sprintf("1.%d.0", i+1)
		t.Run(step.name, func(t *testing.T) {
			publish(t, s, version, windowsExample(t, programs, version))
			held, code, out := lockedUpdate(t, s, m, locker, step.pattern)
			said := blamed(out, held)
			if code != 0 && said == "" {
				t.Errorf("the update ended with exit code %d and does not say which file is held, and by whom:\n%s", code, out)
			}
			if code != 0 {
				operator(t, s, 0, "update", "--now", "--follow")
			}
			serving(t, s, version)
			flow(t, l, 50)
			t.Logf("handoff: held: %s; exit code %d; told: %s", strings.Join(held, ", "), code, said)
		})
	}
	r := l.Stop()
	nothingLost(t, r)
	told(t, s, "handoff")
	t.Logf("handoff: %d requests: %d refused, %d failed, %d retryable", r.Requests, r.Refused, r.Failed, r.Retryable)
}

func windowsExample(t *testing.T, p stage.Programs, version string) string {
	t.Helper()
	file, err := p.Example(t.Context(), version, "")
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// blamed is the line in which the launcher says which of the files is held, and by whom: Wine does not know.
func blamed(out string, held []string) string {
	for line := range strings.Lines(out) {
		if !strings.Contains(line, "holder unknown") && !strings.Contains(line, "held by") {
			continue
		}
		for _, file := range held {
			if strings.Contains(line, file) {
				return strings.TrimSpace(line)
			}
		}
	}
	return ""
}

// lockedUpdate follows an update while the locker holds what matches, for at most lockLimit. It returns what
// was held, and how the update ended.
func lockedUpdate(t *testing.T, s *stage.Stage, m *stage.Machine, locker, pattern string) (held []string, code int, out string) {
	t.Helper()
	l := lock(t, s, m, locker, lockLimit, pattern)
	before := len(s.Log())
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockLimit)
	defer cancel()
	out, code = s.Operator(ctx, "update", "--now", "--follow")
	for _, file := range l.free() {
		held = append(held, file[strings.LastIndex(file, `\`)+1:])
	}
	if len(held) == 0 {
		t.Errorf("nothing was held of %s", pattern)
	}
	return held, code, out + s.Log()[before:]
}

// locked is files of the state folder that another program keeps to itself.
type locked struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines *bufio.Reader
	timer *time.Timer
}

// lock keeps what matches, now or later, until it is freed or the time is over.
func lock(t *testing.T, s *stage.Stage, m *stage.Machine, locker string, within time.Duration, patterns ...string) *locked {
	t.Helper()
	var args []string
	for _, p := range patterns {
		args = append(args, seenByWindows(s.State())+`\`+p)
	}
	cmd := m.Command(t.Context(), locker, args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	l := &locked{cmd: cmd, stdin: stdin, lines: bufio.NewReader(stdout)}
	if line, err := l.lines.ReadString('\n'); !strings.HasPrefix(line, "ready") {
		t.Fatalf("the locker says %q, %v", line, err)
	}
	l.timer = time.AfterFunc(within, func() { _ = stdin.Close() })
	return l
}

// free lets go of everything and returns what was held.
func (l *locked) free() (held []string) {
	l.timer.Stop()
	_ = l.stdin.Close() // perhaps it was
	return l.over()
}

// over waits for the end of that time and returns what was held.
func (l *locked) over() (held []string) {
	rest, _ := io.ReadAll(l.lines)
	_ = l.cmd.Wait() // it has said everything
	for line := range strings.Lines(string(rest)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "held "); ok {
			held = append(held, name)
		}
	}
	return held
}

func seenByWindows(path string) string { return "Z:" + strings.ReplaceAll(path, "/", `\`) }
