package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/policy"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) // a Sunday

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 900 * time.Nanosecond: "1µs", 38 * time.Millisecond: "38ms", 940 * time.Millisecond: "940ms", 2340 * time.Millisecond: "2.3s",
		90 * time.Second: "1m30s", 2 * time.Minute: "2m", 3*time.Hour + 20*time.Minute: "3h20m", 50 * time.Hour: "2d2h", 48 * time.Hour: "2d", -time.Second: "-1s",
	} {
		if got := short(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}

func TestExactReadsBack(t *testing.T) {
	for _, d := range []time.Duration{0, 1, 1500 * time.Millisecond, time.Minute, 90 * time.Second, 10 * time.Minute, time.Hour, 100 * time.Minute, 20*time.Hour + 10*time.Second, 24 * time.Hour} {
		if got, err := time.ParseDuration(exact(d)); err != nil || got != d {
			t.Errorf("%s: %s, %v", d, exact(d), err)
		}
	}
	if exact(10*time.Minute) != "10m" || exact(20*time.Hour) != "20h" || exact(10*time.Second) != "10s" {
		t.Error(exact(10*time.Minute), exact(20*time.Hour), exact(10*time.Second))
	}
}

func TestDay(t *testing.T) {
	for at, want := range map[time.Time]string{
		noon.Add(time.Hour): "13:00", noon.Add(-24 * time.Hour): "Sat 12:00", noon.Add(-20 * 24 * time.Hour): "2 Nov 12:00", noon.Add(-400 * 24 * time.Hour): "2025-10-18",
	} {
		if got := day(at, noon); got != want {
			t.Errorf("%s: %s, want %s", at, got, want)
		}
	}
}

// TestStatusText shows every line that status can print, together as they never are.
func TestStatusText(t *testing.T) {
	st := control.Status{Product: "acme-agent", Channel: "stable", Repository: "https://updates.acme.example", Running: true, Health: control.Healthy,
		Since: noon.Add(-74 * time.Hour),
		Processes: []control.Process{
			{Number: "1.4.2", Role: "active", State: "parked", PID: 4188, Since: noon.Add(-74 * time.Hour), Open: 1, Requests: 90210},
			{Number: "1.5.0", Role: "candidate", State: "accepting", PID: 4200, Since: noon.Add(-time.Minute), Open: 14, Requests: 812, Restarts: 1, Busy: "backup"},
		},
		Trust: &control.Trust{RootVersion: 3, Expires: noon.Add(6 * 24 * time.Hour)},
	}
	st.Engine(updater.Status{LastCheck: noon.Add(-4 * time.Minute), NextCheck: noon.Add(time.Minute), CheckErr: "no route to host", Alarm: "the journal cannot be written",
		Findings: []policy.Finding{{Number: "1.6.0", Verdicts: []policy.Verdict{{Gate: "newer", Pass: true}, {Gate: "share"}, {Gate: "busy"}}}},
		State: journal.State{Phase: journal.Probation, Remaining: 9 * time.Minute, Good: []journal.Version{{Number: "1.4.2"}, {Number: "1.4.1"}},
			Candidate: &journal.Version{Number: "1.5.0"}, Pin: &journal.Pin{Number: "1.4.2", Reason: "quarter close", Until: noon.Add(48 * time.Hour)},
			Pause: &journal.Pause{}, Quarantine: []journal.Mark{{Number: "1.3.9", Reason: "exit code 2\nmore"}}, Held: []journal.Mark{{Number: "1.3.8", Reason: "slow"}}}})
	var out bytes.Buffer
	statusAnswer{st, "acme"}.text(&out, noon)
	want := `● acme-agent  healthy  1.4.2 · since Thu 10:00
  active      1.4.2 · parked · pid 4188 · 1 connection · 90210 answered · up 3d2h
  candidate   1.5.0 · accepting · pid 4200 · 14 connections · 812 answered · up 1m · 1 restart · asks to wait: backup
  update      1.5.0 is in probation · 9m left
  next        1.6.0 is held back by share and busy: acme why
  check       last 4m ago · next in 1m · no route to host
  alarm       the journal cannot be written
  pinned      to 1.4.2 · quarter close · until Tue 12:00 · acme unpin
  paused      no updates are started · no end set · acme resume
  quarantine  1.3.9 · exit code 2
  held        1.3.8 · slow
              to try again: acme quarantine clear VERSION
  trust       root v3 · fresh until 28 Nov 12:00 · channel stable · https://updates.acme.example
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", &out, want)
	}
}

func TestStatusTextQuiet(t *testing.T) {
	st := control.Status{Product: "acme-agent", Channel: "stable", Repository: "/srv", Running: true, Health: control.Healthy, Since: noon,
		Trust: &control.Trust{RootVersion: 3, Expires: noon.Add(-time.Hour), Expired: true}}
	st.Engine(updater.Status{State: journal.State{Phase: journal.Idle, Reason: "held back by policy: 1.9.9 is not among what the channel offers",
		Good: []journal.Version{{Number: "1.4.2"}, {Number: "1.4.1"}}, Held: []journal.Mark{{Number: "1.4.3", Reason: "slow"}}}})
	var out bytes.Buffer
	statusAnswer{st, "acme"}.text(&out, noon)
	want := `● acme-agent  healthy  1.4.2 · since 12:00
  last update held back by policy: 1.9.9 is not among what the channel offers
  previous    1.4.1 on disk, to go back: acme rollback
  held        1.4.3 · slow
              to try again: acme quarantine clear 1.4.3
  trust       root v3 · EXPIRED 1h ago: serving goes on, updates wait for the vendor's signature · channel stable · /srv
`
	if out.String() != want {
		t.Errorf("got:\n%q\nwant:\n%q", out.String(), want)
	}
}

// What is about to expire is told before, and what a line above says already is not said again.
func TestStatusTextWarns(t *testing.T) {
	st := control.Status{Product: "acme-agent", Channel: "stable", Repository: "/srv", Running: true, Health: control.Unhealthy, Trouble: "1.4.2 does not run", Since: noon,
		Trust: &control.Trust{RootVersion: 3, Expires: noon.Add(3 * time.Hour), Ending: []control.Ending{{Role: "timestamp", Expires: noon.Add(3 * time.Hour)}}}}
	st.Engine(updater.Status{LastCheck: noon, Trouble: "1.4.2 is missing on disk", Findings: []policy.Finding{{Number: "1.5.0", Verdicts: []policy.Verdict{{Gate: "newer", Pass: true}}}},
		State: journal.State{Phase: journal.Fetching, Good: []journal.Version{{Number: "1.4.2"}}, Candidate: &journal.Version{Number: "1.5.0"}}})
	var out bytes.Buffer
	statusAnswer{st, "acme"}.text(&out, noon)
	want := `✗ acme-agent  unhealthy  1.4.2 · since 12:00
  trouble     1.4.2 is missing on disk
  update      1.5.0 is downloaded
  check       last 0s ago
  trust       root v3 · EXPIRES in 3h (timestamp): then updates wait; the vendor must publish, or the repository cannot be reached · channel stable · /srv
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", &out, want)
	}
	out.Reset()
	whyAnswer{*st.Why, "acme"}.text(&out, noon)
	if want := "1.5.0 is being installed: acme status\n  pass  newer\n"; out.String() != want {
		t.Errorf("got %q", out.String())
	}
	st = control.Status{Product: "acme-agent", Previous: &control.Version{Number: "1.4.1"}, Phase: journal.Idle}
	out.Reset()
	statusAnswer{st, "acme"}.text(&out, noon)
	if strings.Contains(out.String(), "on disk") {
		t.Errorf("a launcher that is down knows nothing of the disk:\n%s", &out)
	}
}

func TestWhyText(t *testing.T) {
	y := control.NewWhy("1.4.2", noon.Add(-time.Minute), []policy.Finding{
		{Number: "1.6.0", Verdicts: []policy.Verdict{{Gate: "newer", Pass: true, Text: "newer than 1.4.2"}, {Gate: "pause", Text: "updates are paused", Until: noon.Add(38 * time.Hour)}}},
		{Number: "1.5.0", Verdicts: []policy.Verdict{{Gate: "newer", Pass: true, Text: "newer than 1.4.2"}, {Gate: "yanked", Text: "taken back"}}},
	})
	var out bytes.Buffer
	whyAnswer{y, "acme"}.text(&out, noon)
	want := `1.6.0 waits; next change Tue 02:00 (in 1d14h) (read 1m ago)
  pass  newer  newer than 1.4.2
  WAIT  pause  updates are paused
  For this host only: acme update 1.6.0 --now
1.5.0 is not installed here (read 1m ago)
  pass  newer   newer than 1.4.2
  WAIT  yanked  taken back
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", &out, want)
	}
}
