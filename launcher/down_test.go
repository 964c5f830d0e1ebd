package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// down is an installation whose launcher is not running but has left a journal and a history.
func down(t *testing.T) string {
	t.Helper()
	dir, config := install(t)
	j, err := journal.Open(durable.OS(), filepath.Join(dir, "state", "journal"))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	err = j.Rebuild(journal.State{
		Phase: journal.Probation, Remaining: 90 * time.Second,
		Good:       []journal.Version{{Number: "1.0.0", Digest: strings.Repeat("a", 64), Epoch: 1, File: "acme"}},
		Candidate:  &journal.Version{Number: "1.1.0", Digest: strings.Repeat("b", 64), Epoch: 2, File: "acme"},
		Quarantine: []journal.Mark{{Number: "1.2.0", Digest: strings.Repeat("c", 64), Reason: "exit code 2", At: at}},
		Pause:      &journal.Pause{Reason: "quarter close"},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := updater.Entry{Started: at, Ended: at.Add(3 * time.Second), Outcome: updater.RolledBack, From: "1.0.0", To: "1.2.0", Digest: "cc",
		Verdict: journal.Bad, Failed: journal.Probation, Reason: "exit code 2", Millis: map[updater.Phase]int64{journal.Probation: 2000, journal.Warming: 1000},
		RollbackMS: 3.25, Evidence: &updater.Evidence{Exit: "exit code 2", Output: "panic: nil map\n"}}
	if err := control.AppendHistory(durable.OS(), filepath.Join(dir, "state", historyFile), e); err != nil {
		t.Fatal(err)
	}
	return config
}

func TestDownReadsAnswer(t *testing.T) {
	config := down(t)
	for _, tc := range []struct {
		args []string
		says []string
		json []string // keys of the result
	}{
		{[]string{"status"}, []string{"○ acme  not running  1.0.0\n", "  update      1.1.0 is in probation · 1m30s left\n",
			"  paused      no updates are started · quarter close · no end set · acme resume\n", "  quarantine  1.2.0 · exit code 2\n"}, []string{"phase", "active"}},
		{[]string{"why"}, []string{"nothing will be installed here\n", "WAIT  launcher  not running", "WAIT  pause     updates are paused · quarter close\n"}, []string{"findings"}},
		{[]string{"history"}, []string{"rolled back", "1.0.0", "1.2.0", "3s", "exit code 2", "More about one: acme history show N"}, []string{"entries"}},
		{[]string{"history", "list"}, []string{"rolled back"}, []string{"entries"}},
		{[]string{"history", "show"}, []string{"update 1  1.0.0 to 1.2.0  rolled back\n"}, []string{"n", "outcome"}},
		{[]string{"history", "show", "1"}, []string{"update 1  1.0.0 to 1.2.0  rolled back\n", "  fault       the version's own · in probation\n",
			"  phases      warming 1s · probation 2s\n", "  rollback    3.2 ms until the traffic had moved\n", "    panic: nil map\n"}, []string{"n", "evidence"}},
		{[]string{"quarantine"}, []string{"1.2.0    cccccccc", "failed", "exit code 2", "To try one again: acme quarantine clear VERSION"}, []string{"quarantine"}},
		{[]string{"quarantine", "list"}, []string{"1.2.0"}, []string{"quarantine"}},
	} {
		code, out, _ := cli(t, config, tc.args...)
		if code != control.NotRunning {
			t.Errorf("%v: exit %d", tc.args, code)
		}
		for _, s := range tc.says {
			if !strings.Contains(out, s) {
				t.Errorf("%v: no %q in:\n%s", tc.args, s, out)
			}
		}
		code, out, _ = cli(t, config, append(tc.args, "--json")...)
		result, _ := object(t, code, out)["result"].(map[string]any)
		for _, k := range tc.json {
			if result[k] == nil {
				t.Errorf("%v --json: no %s in %s", tc.args, k, out)
			}
		}
	}
}

func TestDownChangesAreRefused(t *testing.T) {
	config := down(t)
	for _, args := range [][]string{{"update"}, {"update", "--follow"}, {"check"}, {"watch"}, {"rollback"}, {"pin"}, {"unpin"}, {"pause"}, {"resume"}, {"quarantine", "clear", "1.2.0"}} {
		code, out, errs := cli(t, config, args...)
		if code != control.NotRunning || out != "" || !strings.Contains(errs, "only a running one can do this") || !strings.Contains(errs, "acme run") {
			t.Errorf("%v: %d %q %q", args, code, out, errs)
		}
	}
}

func TestDownWithoutJournal(t *testing.T) {
	dir, config := install(t)
	code, _, errs := cli(t, config, "status")
	if code != control.NotRunning || !strings.Contains(errs, "nothing was ever installed") {
		t.Errorf("%d %q", code, errs)
	}
	for _, slot := range []string{"slot0", "slot1"} {
		if err := os.MkdirAll(filepath.Join(dir, "state", "journal"), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "state", "journal", slot), strings.Repeat("garbage", 10000))
	}
	code, out, errs := cli(t, config, "status")
	if code != control.NotRunning || out != "" || !strings.Contains(errs, "cannot be read") {
		t.Errorf("%d %q %q", code, out, errs)
	}
}
