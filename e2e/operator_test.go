package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater/policy"
)

// refused returns the gates that hold a version back, by name.
func refused(w control.Why, number string) map[string]policy.Verdict {
	gates := make(map[string]policy.Verdict)
	for _, f := range w.Findings {
		for _, v := range f.Verdicts {
			if f.Number == number && !v.Pass {
				gates[v.Gate] = v
			}
		}
	}
	return gates
}

// checked is what `check` says of the channel.
func checked(t *testing.T, s *stage.Stage, code int) control.Why {
	t.Helper()
	return into[control.Why](t, asked(t, s, code, "check"))
}

// heldBack demands that exactly that gate holds a version back, to `check`, to `why`, and to an update.
func heldBack(t *testing.T, s *stage.Stage, number, gate string, update ...string) policy.Verdict {
	t.Helper()
	for _, w := range []control.Why{checked(t, s, 10), into[control.Why](t, asked(t, s, 0, "why", number))} {
		if g := refused(w, number); w.Outcome != control.Blocked || len(g) != 1 || g[gate].Text == "" {
			t.Errorf("%s is held back by %v, want the gate %s", number, g, gate)
		}
	}
	operator(t, s, 10, append([]string{"update", "--follow"}, update...)...)
	return refused(into[control.Why](t, asked(t, s, 0, "why", number)), number)[gate]
}

// A pause and a pin hold releases back until they end or are ended, and say so to whoever asks; what was
// held back then comes by itself.
func TestPauseAndPin(t *testing.T) {
	s := launched(t, quick(nil))
	if w := checked(t, s, 3); w.Outcome != control.UpToDate || w.Active != "1.0.0" {
		t.Errorf("check says %s on %s", w.Outcome, w.Active)
	}
	asked(t, s, 3, "resume")
	asked(t, s, 3, "unpin")

	asked(t, s, 0, "pause", "--reason", "quarter close", "--for", "1h")
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	if v := heldBack(t, s, "1.1.0", "pause"); v.Until.IsZero() || !strings.Contains(v.Text, "quarter close") {
		t.Errorf("the pause is told as %+v", v)
	}
	if p := status(t, s).Pause; p == nil || p.Reason != "quarter close" || p.Until.IsZero() {
		t.Errorf("pause in the status: %+v", p)
	}
	serving(t, s, "1.0.0")
	asked(t, s, 0, "resume")
	serving(t, s, "1.1.0")

	asked(t, s, 0, "pin", "--reason", "audit")
	publish(t, s, "1.2.0", example(t, "1.2.0", ""))
	if v := heldBack(t, s, "1.2.0", "pin", "--now"); !strings.Contains(v.Text, "audit") || !strings.Contains(v.Text, "unpin") {
		t.Errorf("the pin is told as %+v", v)
	}
	if p := status(t, s).Pin; p == nil || p.Number != "1.1.0" {
		t.Errorf("pin in the status: %+v, want to 1.1.0", p)
	}
	asked(t, s, 0, "unpin")
	serving(t, s, "1.2.0")

	asked(t, s, 0, "pause")
	publish(t, s, "1.3.0", example(t, "1.3.0", ""))
	operator(t, s, 0, "update", "--now", "--follow") // a pause only waits, and an operator need not
	serving(t, s, "1.3.0")
}

// A version that an operator left is held, with the reason, until it is cleared; the history tells it all.
func TestRollbackHoldsAndHistoryTells(t *testing.T) {
	s := updated(t)
	operator(t, s, 0, "rollback", "--reason", "wrong totals", "--follow")
	serving(t, s, "1.0.0")
	q := into[control.Quarantine](t, asked(t, s, 0, "quarantine"))
	if len(q.Held) != 1 || q.Held[0].Number != "1.1.0" || q.Held[0].Reason != "wrong totals" {
		t.Errorf("held: %+v, want 1.1.0 for wrong totals", q.Held)
	}
	if v := heldBack(t, s, "1.1.0", "hold", "--now"); !strings.Contains(v.Text, "wrong totals") {
		t.Errorf("the hold is told as %+v", v)
	}
	operator(t, s, 10, "update", "9.9.9", "--follow")
	asked(t, s, 2, "quarantine", "clear")
	asked(t, s, 3, "quarantine", "clear", "9.9.9")
	asked(t, s, 21, "rollback", "9.9.9")

	h := into[control.History](t, asked(t, s, 0, "history"))
	if len(h.Entries) != 3 || h.Entries[0].To != "1.0.0" || h.Entries[1].To != "1.1.0" || h.Entries[2].N != 1 {
		t.Errorf("history: %+v", h.Entries)
	}
	newest := into[control.Record](t, asked(t, s, 0, "history", "show"))
	if newest.N != 3 || newest.From != "1.1.0" || newest.Reason != "wrong totals" || newest.SwitchMS <= 0 {
		t.Errorf("the last entry: %+v", newest)
	}
	if r := into[control.Record](t, asked(t, s, 0, "history", "show", "1")); r.To != "1.0.0" || r.Outcome != "committed" {
		t.Errorf("the first entry: %+v", r)
	}
	says(t, asked(t, s, 2, "history", "show", "99").Error, "99", "history")

	asked(t, s, 0, "quarantine", "clear", "1.1.0")
	serving(t, s, "1.1.0") // it comes back by itself
}

// --follow --json is one event a line, and last the answer that every command ends with.
func TestFollowInJSON(t *testing.T) {
	s := launched(t, quick(nil))
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	lines := strings.Split(strings.TrimSpace(operator(t, s, 0, "update", "--now", "--follow", "--json")), "\n")
	kinds := make(map[string]bool)
	for _, line := range lines {
		var v struct {
			Kind    string
			Command string
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		kinds[v.Kind+v.Command] = true
	}
	for _, want := range []string{"order", "choose", "download", "verify", "start", "probe", "switch", "commit", "end", "update"} {
		if !kinds[want] {
			t.Errorf("no line is about %s:\n%s", want, strings.Join(lines, "\n"))
		}
	}
}
