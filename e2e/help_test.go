package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// quick is the configuration of a stage whose test is not about probation. Tables in more replace it.
func quick(more map[string]string) stage.Options {
	tables := map[string]string{
		"health":    "interval = \"100ms\"\ngood = 2\nready_timeout = \"10s\"\n",
		"probation": "time = \"300ms\"\nmin_requests = 0\n",
	}
	maps.Copy(tables, more)
	return stage.Options{Config: tables}
}

// edit changes the launcher's configuration file; a launcher that runs does not notice.
func edit(t testing.TB, s *stage.Stage, old, new string) {
	t.Helper()
	b, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(old)) {
		t.Fatalf("%q is not in the configuration:\n%s", old, b)
	}
	if err := os.WriteFile(s.Config, bytes.Replace(b, []byte(old), []byte(new), 1), 0o600); err != nil {
		t.Fatal(err)
	}
}

// change runs the release tool and publishes.
func change(t *testing.T, s *stage.Stage, args ...string) {
	t.Helper()
	if err := s.Change(t.Context(), args...); err != nil {
		t.Fatal(err)
	}
}

// kill ends the launcher without a warning.
func kill(t testing.TB, s *stage.Stage) {
	t.Helper()
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
}

// byOrder lets nothing come by itself any more: a launcher looks at the channel as soon as it runs, so without this an
// order for what is offered by then finds the update anywhere between not begun and over.
func byOrder(t *testing.T, s *stage.Stage) {
	t.Helper()
	operator(t, s, 0, "pause")
}

// phase waits until the engine is in a phase.
func phase(t *testing.T, s *stage.Stage, name journal.Phase) {
	t.Helper()
	if err := s.Phase(t.Context(), string(name)); err != nil {
		t.Fatal(err)
	}
}

// eventually asks again and again until cond is true, for a bounded time.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for range 1500 {
		if cond() {
			return
		}
		stage.Wait(t.Context(), 20*time.Millisecond)
	}
	t.Fatalf("waited in vain: %s", what)
}

// reply is what every command prints with --json.
type reply struct {
	Schema  int
	Command string
	Exit    struct {
		Code   int
		Reason string
	}
	Error  string
	Result json.RawMessage
}

// asked runs a command with --json, demands its exit code, inside and out, and returns the one object that
// it printed.
func asked(t *testing.T, s *stage.Stage, code int, args ...string) reply {
	t.Helper()
	out := operator(t, s, code, append(args, "--json")...)
	var r reply
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v does not print one JSON object: %v\n%s", args, err, out)
	}
	if r.Schema != 1 || r.Exit.Code != code || r.Exit.Reason == "" {
		t.Errorf("%v: schema %d, exit %+v, want 1 and code %d", args, r.Schema, r.Exit, code)
	}
	return r
}

// into reads the result of a reply.
func into[T any](t *testing.T, r reply) (v T) {
	t.Helper()
	if err := json.Unmarshal(r.Result, &v); err != nil {
		t.Fatalf("result of %s: %v\n%s", r.Command, err, r.Result)
	}
	return v
}

// says demands that a text for a person holds each of words.
func says(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not told:\n%s", w, text)
		}
	}
}

// answer is one answer of the service on a connection of its own.
func answer(ctx context.Context, s *stage.Stage) (string, error) {
	status, body, err := fetch(ctx, "http://"+s.Listen+"/")
	return status + " " + body, err
}

// fetch gets a page on a connection of its own.
func fetch(ctx context.Context, url string) (status, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", "", err
	}
	req.Close = true
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.Status, string(b), err
}

// unmoved runs f while clients ask the service all the time, and demands that every one of them got the
// same bytes as before: the same version, from the same process.
func unmoved(t *testing.T, s *stage.Stage, f func()) {
	t.Helper()
	end := clients(t, s)
	f()
	end()
}

// clients ask the service all the time, until end demands what unmoved does.
func clients(t testing.TB, s *stage.Stage) (end func()) {
	t.Helper()
	before, err := answer(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	l := load.Start(load.Options{
		Address: s.Listen, NoSlow: true, Pause: 20 * time.Millisecond,
		Workers: map[load.Class]int{load.KeepAlive: 2, load.Fresh: 2},
	})
	stop, other := compare(s, before)
	t.Cleanup(func() { stop(); l.Stop() })
	return func() {
		t.Helper()
		flow(t, l, 20)
		stop()
		nothingLost(t, l.Stop())
		for _, o := range other() {
			t.Errorf("the service said %q, and before %q", o, before)
		}
	}
}

// compare asks the service every 10 ms and collects the first answers that are not as before.
func compare(s *stage.Stage, before string) (stop func(), other func() []string) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var different []string
	wg.Go(func() {
		for ctx.Err() == nil && len(different) < 5 {
			got, err := answer(context.Background(), s)
			if err != nil {
				got = err.Error()
			}
			if got != before {
				different = append(different, got)
			}
			stage.Wait(ctx, 10*time.Millisecond)
		}
	})
	return func() { cancel(); wg.Wait() }, func() []string { return different }
}

// pids returns the process of each living version.
func pids(t *testing.T, s *stage.Stage) map[string]int {
	t.Helper()
	m := make(map[string]int)
	for _, p := range status(t, s).Processes {
		m[p.Number] = p.PID
	}
	return m
}

// diary collects what the launcher tells to whoever follows, until the test ends.
type diary struct {
	mu     sync.Mutex
	events []updater.Event
}

func follow(t *testing.T, s *stage.Stage) *diary {
	t.Helper()
	stream, err := s.Client().Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := &diary{}
	go func() {
		defer stream.Close()
		for {
			ev, err := stream.Next()
			if err != nil {
				return // the launcher stopped, or the test has ended
			}
			d.mu.Lock()
			d.events = append(d.events, ev)
			d.mu.Unlock()
		}
	}()
	return d
}

// find returns the first event of that kind about that version; "" is any.
func (d *diary) find(kind, number string) (updater.Event, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, ev := range d.events {
		if ev.Kind == kind && (number == "" || ev.Number == number) {
			return ev, true
		}
	}
	return updater.Event{}, false
}

// await waits for such an event.
func (d *diary) await(t *testing.T, kind, number string) (ev updater.Event) {
	t.Helper()
	eventually(t, fmt.Sprintf("event %s of %q", kind, number), func() (found bool) {
		ev, found = d.find(kind, number)
		return found
	})
	return ev
}

// ordered is a command that runs in the background.
type ordered struct {
	done chan struct{}
	out  string
	code int
}

func background(t *testing.T, s *stage.Stage, args ...string) *ordered {
	t.Helper()
	o := &ordered{done: make(chan struct{})}
	ctx := t.Context()
	go func() {
		defer close(o.done)
		o.out, o.code = s.Operator(ctx, args...)
	}()
	return o
}

// ends waits for the command and demands its exit code.
func (o *ordered) ends(t *testing.T, code int) string {
	t.Helper()
	select {
	case <-o.done:
	case <-time.After(90 * time.Second):
		t.Fatal("the command does not end")
	}
	if o.code != code {
		t.Fatalf("exit code %d, want %d\n%s", o.code, code, o.out)
	}
	return o.out
}

// last is the newest entry of the history, of the update to that version: it is written a moment after the journal says
// that the update has come to its end.
func last(t *testing.T, s *stage.Stage, to string) (e control.Record) {
	t.Helper()
	eventually(t, "the history ends with "+to, func() bool {
		entries, err := s.Client().History(t.Context(), 1)
		if err == nil && len(entries) > 0 {
			e = entries[0]
		}
		return e.To == to
	})
	return e
}

// tree is a digest of every name and byte below a folder.
func tree(t testing.TB, dir string) string {
	t.Helper()
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		sum.Write([]byte(path + "\x00"))
		sum.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}
