package control

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/policy"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// TestShapes pins the JSON that programs read. A change here is a new schema, unless it only adds.
func TestShapes(t *testing.T) {
	st := Status{Product: "acme", Channel: "stable", Repository: "https://r", Running: true, Health: Healthy, Since: noon,
		Processes: []Process{{Number: "1.0.0", Role: "active", State: "accepting", PID: 7, Since: noon, Open: 2, Requests: 9}},
		Trust:     &Trust{RootVersion: 1, Expires: noon}}
	st.Engine(updater.Status{Seq: 4, LastCheck: noon, NextCheck: noon, LastErr: "no route", State: journal.State{
		Phase: journal.Probation, Remaining: 90 * time.Second,
		Good:       []journal.Version{{Number: "1.0.0", Digest: "aa", Epoch: 1, Minisig: "long"}, {Number: "0.9.0", Digest: "99"}},
		Candidate:  &journal.Version{Number: "1.1.0", Digest: "bb", Epoch: 2},
		Quarantine: []journal.Mark{{Number: "1.2.0", Digest: "cc", Config: "c", Reason: "exit 2", At: noon}},
		Pin:        &journal.Pin{Number: "1.0.0", Reason: "close", Until: noon},
	}, Findings: []policy.Finding{{Number: "1.2.0", Epoch: 3, Verdicts: []policy.Verdict{{Gate: "pin", Text: "pinned", Until: noon}}}}})
	for _, tc := range []struct {
		name string
		v    any
		want string
	}{
		{"status", st, `{"product":"acme","channel":"stable","repository":"https://r","running":true,"health":"healthy",` +
			`"phase":"probation","seq":4,"active":{"number":"1.0.0","digest":"aa","epoch":1},"previous":{"number":"0.9.0","digest":"99","epoch":0},` +
			`"candidate":{"number":"1.1.0","digest":"bb","epoch":2},"probation_left_ms":90000,` +
			`"pin":{"number":"1.0.0","reason":"close","until":"2026-11-22T12:00:00Z"},` +
			`"quarantine":[{"number":"1.2.0","digest":"cc","config":"c","reason":"exit 2","at":"2026-11-22T12:00:00Z"}],` +
			`"since":"2026-11-22T12:00:00Z","processes":[{"number":"1.0.0","role":"active","state":"accepting","pid":7,"since":"2026-11-22T12:00:00Z","open":2,"requests":9,"restarts":0}],` +
			`"last_check":"2026-11-22T12:00:00Z","next_check":"2026-11-22T12:00:00Z","last_error":"no route",` +
			`"trust":{"root_version":1,"expires":"2026-11-22T12:00:00Z","expired":false},` +
			`"why":{"outcome":"blocked","active":"1.0.0","at":"2026-11-22T12:00:00Z","findings":[{"number":"1.2.0","epoch":3,"verdicts":[{"gate":"pin","pass":false,"text":"pinned","until":"2026-11-22T12:00:00Z"}]}]}}`},
		{"empty status", Status{}, `{"product":"","channel":"","repository":"","running":false,"health":"","phase":"","seq":0}`},
		{"history", History{Entries: []Record{{N: 3, Entry: updater.Entry{Started: noon, Ended: noon, Outcome: updater.RolledBack, From: "1.0.0", To: "1.1.0", Digest: "bb",
			Verdict: journal.Bad, Failed: journal.Probation, Reason: "exit 2", Millis: map[updater.Phase]int64{journal.Warming: 12}, SwitchMS: 3.5,
			Evidence: &updater.Evidence{Exit: "exit code 2", Output: "boo", Probes: []string{"ok"}}}}}},
			`{"entries":[{"n":3,"started":"2026-11-22T12:00:00Z","ended":"2026-11-22T12:00:00Z","outcome":"rolled-back","from":"1.0.0","to":"1.1.0","digest":"bb",` +
				`"verdict":"bad","failed":"probation","reason":"exit 2","millis":{"warming":12},"switch_ms":3.5,"evidence":{"exit":"exit code 2","output":"boo","probes":["ok"]}}]}`},
		{"failure", failure{problem{HeldBack, HeldBack.String(), "pinned"}}, `{"error":{"code":10,"reason":"held_back","text":"pinned"}}`},
	} {
		b, err := json.Marshal(tc.v)
		if err != nil {
			t.Fatal(err)
		}
		if string(b) != tc.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tc.name, b, tc.want)
		}
	}
}

func TestCodesHaveWords(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range []Code{OK, Internal, Usage, NothingToDo, NotHealthy, NotRunning, HeldBack, NotVerified, NotDownloaded, NotPrepared, NeverHealthy, RolledBack, NoWayBack, NoPrivilege} {
		if _, ok := reasons[c]; !ok || seen[c.String()] {
			t.Errorf("%d: %q", int(c), c)
		}
		seen[c.String()] = true
	}
	if len(seen) != len(reasons) || Code(99).String() != "code_99" {
		t.Error("a code is missing here")
	}
}

func TestOutcome(t *testing.T) {
	pass, old, pin := policy.Verdict{Gate: "newer", Pass: true}, policy.Verdict{Gate: "newer"}, policy.Verdict{Gate: "pin"}
	for _, tc := range []struct {
		at       time.Time
		findings []policy.Finding
		want     Outcome
	}{
		{time.Time{}, nil, NotChecked},
		{noon, nil, UpToDate},
		{noon, []policy.Finding{{Verdicts: []policy.Verdict{old}}}, UpToDate},
		{noon, []policy.Finding{{Verdicts: []policy.Verdict{pass, pin}}}, Blocked},
		{noon, []policy.Finding{{Verdicts: []policy.Verdict{pass, pin}}, {Verdicts: []policy.Verdict{pass}}}, Available},
		{noon, []policy.Finding{{Verdicts: []policy.Verdict{pass, pin}}, {Verdicts: []policy.Verdict{old}}}, Blocked},
	} {
		if got := NewWhy("1.0.0", tc.at, tc.findings).Outcome; got != tc.want {
			t.Errorf("%+v: %s, want %s", tc.findings, got, tc.want)
		}
	}
}

// What is being installed is not announced as what will be, and the engine's word on why nothing serves counts.
func TestEngineUnderWay(t *testing.T) {
	findings := []policy.Finding{{Number: "1.1.0", Verdicts: []policy.Verdict{{Gate: "newer", Pass: true}}}}
	candidate := &journal.Version{Number: "1.1.0"}
	for want, state := range map[Outcome]journal.State{
		Underway:  {Phase: journal.Probation, Candidate: candidate},
		Available: {Phase: journal.Discarding, Candidate: candidate, Verdict: journal.World},
	} {
		var st Status
		st.Engine(updater.Status{LastCheck: noon, Findings: findings, State: state})
		if st.Why.Outcome != want {
			t.Errorf("%s: %s, want %s", state.Phase, st.Why.Outcome, want)
		}
	}
	var st Status
	st.Engine(updater.Status{LastCheck: noon, Findings: findings, State: journal.State{Phase: journal.Fetching, Candidate: &journal.Version{Number: "1.0.9"}}})
	if st.Why.Outcome != Available {
		t.Errorf("another one is under way: %s", st.Why.Outcome)
	}
	st = Status{Health: Unhealthy, Trouble: "1.0.0 does not run"}
	if st.Engine(updater.Status{Trouble: "lost"}); st.Trouble != "lost" {
		t.Errorf("%q", st.Trouble)
	}
	st = Status{Health: Healthy}
	if st.Engine(updater.Status{Trouble: "lost"}); st.Trouble != "" {
		t.Errorf("%q", st.Trouble)
	}
}

func TestEngineNeverChecked(t *testing.T) {
	var st Status
	st.Engine(updater.Status{LastCheck: noon, CheckErr: "no route"})
	if st.Why.Outcome != NotChecked || st.CheckError != "no route" {
		t.Errorf("%+v", st)
	}
	st.Engine(updater.Status{})
	if st.Why.Outcome != NotChecked {
		t.Errorf("%+v", st.Why)
	}
}
