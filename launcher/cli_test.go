package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/policy"
)

// desk stands for the launcher's inside behind a real control server.
type desk struct {
	mu      sync.Mutex
	status  control.Status
	orders  []updater.Order
	refuse  error
	history []control.Record
	acted   func() // runs after an order was taken
}

func (d *desk) Status() control.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status
}

func (d *desk) Order(_ context.Context, o updater.Order) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse != nil {
		return d.refuse
	}
	d.orders = append(d.orders, o)
	if o.Kind == updater.OrderCheck {
		d.status.LastCheck = time.Now()
	}
	if d.acted != nil {
		d.acted()
	}
	return nil
}

func (d *desk) History(limit int) ([]control.Record, error) {
	return d.history[:min(limit, len(d.history))], nil
}

// install makes a configuration in a folder whose sockets have short names.
func install(t *testing.T) (dir, config string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ts")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config = filepath.Join(dir, "launcher.toml")
	write(t, config, smallest+"[payload]\nuser = \"same\"\n")
	write(t, filepath.Join(dir, "root.json"), "{}")
	if err := os.Mkdir(filepath.Join(dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir, config
}

// launch runs a control server for d at the place that the configuration names.
func launch(t *testing.T, d *desk) (config string, s *control.Server) {
	t.Helper()
	dir, config := install(t)
	ln, err := control.Listen(control.Address(filepath.Join(dir, "state"), "acme"), "")
	if err != nil {
		t.Fatal(err)
	}
	s = control.NewServer(d, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return config, s
}

// cli runs one command line as a user would.
func cli(t *testing.T, config string, args ...string) (code control.Code, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	argv := append([]string{"/usr/bin/acme", "--config", config}, args...)
	code = control.Code(execute(t.Context(), argv, &out, &errs))
	return code, out.String(), errs.String()
}

// object reads what --json printed: exactly one envelope, whose exit code is that of the process.
func object(t *testing.T, code control.Code, out string) map[string]any {
	t.Helper()
	var e struct {
		Schema int
		Exit   struct {
			Code   control.Code
			Reason string
		}
	}
	var all map[string]any
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatal(err)
	}
	if e.Schema != schema || e.Exit.Code != code || e.Exit.Reason != code.String() {
		t.Errorf("envelope %+v, exit code %d", e, code)
	}
	return all
}

func newer(pass bool) policy.Verdict {
	return policy.Verdict{Gate: "newer", Pass: pass, Text: "newer than 1.0.0"}
}

func blockedBy(gate, text string, until time.Time) []policy.Finding {
	return []policy.Finding{{Number: "1.1.0", Epoch: 2, Verdicts: []policy.Verdict{newer(true), {Gate: gate, Text: text, Until: until}}}}
}

func whyOf(findings ...policy.Finding) *control.Why {
	y := control.NewWhy("1.0.0", time.Now(), findings)
	return &y
}

func TestStatusExits(t *testing.T) {
	d := &desk{status: control.Status{Product: "acme", Running: true, Health: control.Healthy, Phase: journal.Idle}}
	config, _ := launch(t, d)
	if code, out, errs := cli(t, config, "status"); code != control.OK || errs != "" || !strings.HasPrefix(out, "● acme  healthy  nothing installed\n") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	d.status.Health, d.status.Trouble = control.Unhealthy, "1.0.0 does not answer"
	code, out, errs := cli(t, config, "status")
	if code != control.NotHealthy || errs != "" || !strings.Contains(out, "✗ acme  unhealthy") || !strings.Contains(out, "trouble     1.0.0 does not answer") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	code, out, _ = cli(t, config, "status", "--json")
	if r := object(t, code, out)["result"].(map[string]any); r["health"] != "unhealthy" || code != control.NotHealthy {
		t.Errorf("%d %v", code, r)
	}
	d.status.Health = control.Starting
	if code, out, _ = cli(t, config, "status"); code != control.NotHealthy || !strings.HasPrefix(out, "○ acme  starting") {
		t.Errorf("%d %q", code, out)
	}
}

func TestCheckExits(t *testing.T) {
	d := &desk{}
	config, _ := launch(t, d)
	for _, tc := range []struct {
		why  *control.Why
		code control.Code
		text string
	}{
		{whyOf(), control.NothingToDo, "1.0.0 is active, and the channel offers nothing newer\n"},
		{whyOf(policy.Finding{Number: "1.1.0", Verdicts: []policy.Verdict{newer(true)}}), control.OK, "1.1.0 will be installed here\n  pass  newer  newer than 1.0.0\n"},
		{whyOf(blockedBy("quarantine", "failed here", time.Time{})...), control.HeldBack, "1.1.0 is not installed here\n  pass  newer       newer than 1.0.0\n  WAIT  quarantine  failed here\n"},
		{whyOf(blockedBy("share", "offered to 25 % of hosts", time.Time{})...), control.HeldBack,
			"1.1.0 is not installed here\n  pass  newer  newer than 1.0.0\n  WAIT  share  offered to 25 % of hosts\n  For this host only: acme update 1.1.0 --now\n"},
	} {
		d.status.Why = tc.why
		code, out, errs := cli(t, config, "check")
		if code != tc.code || out != tc.text || errs != "" {
			t.Errorf("%d %q %q", code, out, errs)
		}
		code, out, _ = cli(t, config, "check", "--json")
		if object(t, code, out); code != tc.code {
			t.Errorf("--json: %d", code)
		}
		if code, _, _ := cli(t, config, "why"); code != control.OK {
			t.Errorf("why: %d", code)
		}
	}
	d.status.CheckError, d.status.CheckCode = "no route", control.NotDownloaded
	if code, out, errs := cli(t, config, "check"); code != control.NotDownloaded || out != "" || !strings.Contains(errs, "acme check: the channel cannot be used now") {
		t.Errorf("%d %q %q", code, out, errs)
	}
}

func TestChangesReachTheEngine(t *testing.T) {
	d := &desk{}
	config, _ := launch(t, d)
	for _, tc := range []struct {
		args []string
		want updater.Order
		text string
	}{
		{[]string{"update"}, updater.Order{Kind: updater.OrderUpdate}, "ordered: update to the newest release; to follow it: acme watch\n"},
		{[]string{"update", "1.1.0", "--now"}, updater.Order{Kind: updater.OrderUpdate, Number: "1.1.0", Now: true}, "ordered: update to 1.1.0; to follow it: acme watch\n"},
		{[]string{"rollback", "--reason", "slow"}, updater.Order{Kind: updater.OrderRollback, Reason: "slow"}, "ordered: rollback; to follow it: acme watch\n"},
		{[]string{"pin", "--reason", "close"}, updater.Order{Kind: updater.OrderPin, Reason: "close"}, "pinned to the active version; to end it: acme unpin\n"},
		{[]string{"pin", "1.0.0"}, updater.Order{Kind: updater.OrderPin, Number: "1.0.0"}, "pinned to 1.0.0; to end it: acme unpin\n"},
		{[]string{"unpin"}, updater.Order{Kind: updater.OrderUnpin}, "not pinned any more; the next check follows the channel\n"},
		{[]string{"pause"}, updater.Order{Kind: updater.OrderPause}, "updates are paused; to go on: acme resume\n"},
		{[]string{"resume"}, updater.Order{Kind: updater.OrderResume}, "updates are not paused any more\n"},
		{[]string{"quarantine", "clear", "1.2.0"}, updater.Order{Kind: updater.OrderClear, Number: "1.2.0"}, "cleared: 1.2.0 may be tried again at the next check\n"},
		{[]string{"quarantine", "clear", "--all"}, updater.Order{Kind: updater.OrderClear}, "cleared: all of them may be tried again at the next check\n"},
	} {
		d.orders = nil
		code, out, errs := cli(t, config, tc.args...)
		if code != control.OK || out != tc.text || errs != "" {
			t.Errorf("%v: %d %q %q", tc.args, code, out, errs)
		}
		if len(d.orders) != 1 || d.orders[0] != tc.want {
			t.Errorf("%v: %+v", tc.args, d.orders)
		}
	}
	before := time.Now()
	if code, _, errs := cli(t, config, "pause", "--for", "90m"); code != control.OK {
		t.Fatal(errs)
	}
	if until := d.orders[len(d.orders)-1].Until; until.Sub(before) < 90*time.Minute-time.Second || until.Sub(before) > 91*time.Minute {
		t.Errorf("until %s", until)
	}
}

func TestRefusalIsExit(t *testing.T) {
	d := &desk{}
	config, _ := launch(t, d)
	for _, tc := range []struct {
		args []string
		err  error
		code control.Code
	}{
		{[]string{"rollback"}, fmt.Errorf("%w: publish one that works", updater.ErrNoPrevious), control.NoWayBack},
		{[]string{"rollback", "--follow"}, updater.ErrNoPrevious, control.NoWayBack},
		{[]string{"resume"}, fmt.Errorf("%w: not paused", updater.ErrNothing), control.NothingToDo},
		{[]string{"update"}, &control.Error{Code: control.NotPrepared, Text: "no space"}, control.NotPrepared},
	} {
		d.refuse = tc.err
		code, out, errs := cli(t, config, tc.args...)
		if code != tc.code || out != "" || !strings.Contains(errs, tc.err.Error()) {
			t.Errorf("%v: %d %q %q", tc.args, code, out, errs)
		}
	}
}

func TestUpdateFollow(t *testing.T) {
	d := &desk{}
	config, s := launch(t, d)
	failure := endedAs("1.1.0", updater.RolledBack, journal.Bad, journal.Probation)
	failure.Text = "rolled-back in 3s, 1.0.0 serves"
	d.acted = func() {
		for _, ev := range append(forward("1.1.0"), failure) {
			s.Publish(ev)
		}
	}
	d.history = []control.Record{{N: 3, Entry: updater.Entry{To: "1.1.0", Ended: time.Now().Add(time.Hour), Outcome: updater.RolledBack, Verdict: journal.Bad, Reason: "1.1.0 in probation: exit code 2", Evidence: &updater.Evidence{Exit: "exit code 2", Output: "panic: nil map\n"}}}}
	code, out, errs := cli(t, config, "update", "--follow")
	want := `14:02:10  order       1.1.0 update
14:02:10  choose      1.1.0 is let through by every gate
14:02:10  download    1.1.0 216 KB in 80ms
14:02:10  verify      1.1.0 digest and signature match
14:02:10  start       1.1.0 beside 1.0.0
14:02:10  probe       1.1.0 is ready and healthy
14:02:10  switch      1.1.0 takes the traffic, 1.0.0 is parked, after 3ms
14:02:10  end         1.1.0 rolled-back in 3s, 1.0.0 serves
  because     1.1.0 in probation: exit code 2
  exit        exit code 2
  last output of 1.1.0:
    panic: nil map
  next        1.1.0 is not tried again here; when the cause is gone: acme quarantine clear 1.1.0
  exit 20: rolled back. Details: acme history show 3
`
	if code != control.RolledBack || out != want || errs != "" {
		t.Errorf("%d %q\ngot:\n%s\nwant:\n%s", code, errs, out, want)
	}

	code, out, _ = cli(t, config, "update", "--follow", "--json")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 9 {
		t.Fatalf("%d lines: %s", len(lines), out)
	}
	if r := object(t, code, lines[8])["result"].(map[string]any)["entry"].(map[string]any); r["n"] != 3.0 {
		t.Errorf("%v", r)
	}
}

// What the history holds of earlier updates is not told as the outcome of this one.
func TestUpdateFollowWithoutAnEntry(t *testing.T) {
	d := &desk{}
	config, s := launch(t, d)
	d.history = []control.Record{{N: 1, Entry: updater.Entry{To: "1.1.0", Ended: time.Now().Add(-time.Minute), Outcome: updater.Committed}}}
	for _, last := range []updater.Event{failedCheck(journal.World), endedAs("1.1.0", updater.Discarded, journal.World, journal.Fetching)} {
		d.acted = func() {
			s.Publish(event("order", journal.Idle, "", "update"))
			s.Publish(last)
		}
		code, out, errs := cli(t, config, "update", "--follow")
		if code != control.NotDownloaded || strings.Contains(out, "history show") || errs != "" {
			t.Errorf("%d %q %q", code, out, errs)
		}
	}
}

func TestUpdateFollowHeldBack(t *testing.T) {
	d := &desk{}
	config, s := launch(t, d)
	d.acted = func() {
		s.Publish(event("order", journal.Idle, "", "update"))
		s.Publish(event("check", journal.Idle, "", "held back by policy: 1.1.0: pinned"))
	}
	d.status.Why = whyOf(blockedBy("pin", "pinned to 1.0.0", time.Time{})...)
	code, out, errs := cli(t, config, "update", "--follow")
	if code != control.HeldBack || errs != "" || !strings.HasSuffix(out, "1.1.0 is not installed here\n  pass  newer  newer than 1.0.0\n  WAIT  pin    pinned to 1.0.0\n") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	d.status.Why = whyOf()
	if code, out, errs := cli(t, config, "update", "9.9.9", "--follow"); code != control.HeldBack || errs != "" {
		t.Errorf("%d %q %q", code, out, errs)
	}
	if code, out, _ := cli(t, config, "update", "--follow"); code != control.NothingToDo || !strings.HasSuffix(out, "the channel offers nothing newer\n") {
		t.Errorf("%d %q", code, out)
	}
}

func TestUsage(t *testing.T) {
	_, config := install(t)
	for _, args := range [][]string{
		{"explode"}, {"config", "explode"}, {"history", "explode"}, {"status", "now"}, {"status", "--loud"}, {"update", "1", "2"}, {"history", "show", "1", "2"}, {"history", "--limit", "0"},
		{"history", "show", "x"}, {"quarantine", "clear"}, {"quarantine", "clear", "1.0.0", "--all"}, {"pause", "--until", "tomorrow"},
		{"pause", "--until", "2020-01-01"}, {"pause", "--for", "-1h"}, {"pause", "--for", "1h", "--until", "2099-01-01"}, {"stats"},
	} {
		if code, out, errs := cli(t, config, args...); code != control.Usage || out != "" || errs == "" {
			t.Errorf("%v: %d %q %q", args, code, out, errs)
		}
		code, out, _ := cli(t, config, append(args, "--json")...)
		if all := object(t, code, out); all["error"] == "" {
			t.Errorf("%v: no error in %s", args, out)
		}
	}
	for want, args := range map[string][]string{
		"write 90m or 48h": {"pause", "--for", "2d"},
		"is a folder":      {"bundle", "import", t.TempDir()},
	} {
		if code, out, errs := cli(t, config, args...); code != control.Usage || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%v: %d %q %q", args, code, out, errs)
		}
	}
	if code, out, errs := cli(t, config, "--help"); code != control.OK || !strings.Contains(out, "Exit codes:") || errs != "" {
		t.Errorf("%d %q %q", code, out, errs)
	}
	if code, _, errs := cli(t, "/nowhere/launcher.toml", "status"); code == control.OK || !strings.Contains(errs, "--config FILE") {
		t.Errorf("%d %q", code, errs)
	}
}

func TestExecChildTakesEveryArgument(t *testing.T) {
	code, _, errs := cli(t, "/nowhere", "exec-child", "/bin/true", "--help", "--json")
	if code != control.Internal || !strings.Contains(errs, "acme exec-child: become the payload") {
		t.Errorf("%d %q", code, errs)
	}
}

func TestConfigCommands(t *testing.T) {
	dir, config := install(t)
	if code, out, errs := cli(t, config, "config", "check"); code != control.OK || out != config+" is right\n" || errs != "" {
		t.Errorf("%d %q %q", code, out, errs)
	}
	code, out, _ := cli(t, config, "config", "show")
	if code != control.OK || !strings.Contains(out, "user = \"same\"\n") || !strings.Contains(out, "# default") {
		t.Errorf("%d %s", code, out)
	}
	code, out, _ = cli(t, config, "config", "show", "--json")
	if r := object(t, code, out)["result"].(map[string]any)["drain"].(map[string]any); r["deadline"] != "30s" {
		t.Errorf("%v", r)
	}
	write(t, config, smallest+"[payload]\nuser = \"same\"\nusr = 1\n")
	code, _, errs := cli(t, config, "config", "check")
	if code != control.Usage || !strings.Contains(errs, "did you mean user?") {
		t.Errorf("%d %q", code, errs)
	}
	if code, _, errs := cli(t, config, "run"); code != control.Usage || !strings.Contains(errs, "did you mean user?") {
		t.Errorf("run: %d %q", code, errs)
	}
	if err := os.Remove(filepath.Join(dir, "root.json")); err != nil {
		t.Fatal(err)
	}
	write(t, config, smallest+"[payload]\nuser = \"same\"\n")
	if code, _, errs := cli(t, config, "config", "check"); code != control.Usage || !strings.Contains(errs, "cannot read") {
		t.Errorf("%d %q", code, errs)
	}
}

// TestBrokenConfigStillFindsTheLauncher: a mistake made while the launcher runs must not lock the operator out.
func TestBrokenConfigStillFindsTheLauncher(t *testing.T) {
	d := &desk{status: control.Status{Product: "acme", Running: true, Health: control.Healthy}}
	config, _ := launch(t, d)
	write(t, config, smallest+"[drain]\nidle = 7\n")
	if code, out, errs := cli(t, config, "status"); code != control.OK || !strings.Contains(out, "healthy") {
		t.Errorf("%d %q %q", code, out, errs)
	}
}
