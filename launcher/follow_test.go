package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// script is a stream of events written down beforehand.
type script []updater.Event

func (s *script) Next() (updater.Event, error) {
	if len(*s) == 0 {
		return updater.Event{}, io.EOF
	}
	ev := (*s)[0]
	*s = (*s)[1:]
	return ev, nil
}

// event is one at a fixed time.
func event(kind string, phase updater.Phase, number, text string) updater.Event {
	return updater.Event{At: time.Date(2026, 11, 22, 14, 2, 10, 0, time.Local), Kind: kind, Phase: phase, Number: number, Text: text}
}

func endedAs(number string, o updater.Outcome, v journal.Verdict, failed updater.Phase) updater.Event {
	ev := event("end", journal.Idle, number, string(o))
	ev.Outcome, ev.Verdict, ev.Failed = o, v, failed
	return ev
}

func failedCheck(v journal.Verdict) updater.Event {
	ev := event("check", journal.Idle, "", "the channel cannot be used now")
	ev.Err, ev.Verdict = "no route", v
	return ev
}

// forward is an update up to the switch.
func forward(number string) script {
	return script{
		event("order", journal.Idle, number, "update"),
		event("choose", journal.Idle, number, "is let through by every gate"),
		event("download", journal.Fetching, number, "216 KB in 80ms"),
		event("verify", journal.Staging, number, "digest and signature match"),
		event("start", journal.Warming, number, "beside 1.0.0"),
		event("probe", journal.Warming, number, "is ready and healthy"),
		event("switch", journal.Switching, number, "takes the traffic, 1.0.0 is parked, after 3ms"),
	}
}

// noSpace is for want of it on the disk.
const noSpace = true

func turnedFor(full bool) updater.Event {
	return updater.Event{Kind: "turn", Number: "1.1.0", Err: "x", Verdict: journal.World, Full: full}
}

func TestFollowOutcomes(t *testing.T) {
	order := event("order", journal.Idle, "", "update")
	probation, nothing := event("order", journal.Probation, "", "update"), event("check", journal.Idle, "", "nothing newer is offered")
	stale := []updater.Event{event("check", journal.Idle, "", "nothing newer"), endedAs("0.9.0", updater.RolledBack, journal.Bad, journal.Probation)}
	for _, tc := range []struct {
		name    string
		judge   judge
		events  script
		verdict verdict
		code    control.Code
	}{
		{"committed", judge{order: "update"}, append(forward("1.1.0"), endedAs("1.1.0", updater.Committed, "", "")), ended, control.OK},
		{"another was in probation", judge{order: "update"}, append(script{
			event("order", journal.Probation, "", "update"), endedAs("1.0.0", updater.Committed, "", ""),
		}, append(forward("1.1.0")[1:], endedAs("1.1.0", updater.RolledBack, journal.Bad, journal.Probation))...), ended, control.RolledBack},
		{"what came before the order", judge{order: "update"}, append(append(script(stale), forward("1.1.0")...), endedAs("1.1.0", updater.Committed, "", "")), ended, control.OK},
		{"nothing begun", judge{order: "update"}, script{order, event("check", journal.Idle, "", "nothing newer is offered")}, unmoved, 0},
		{"channel unreachable", judge{order: "update"}, script{order, failedCheck(journal.World)}, ended, control.NotDownloaded},
		{"channel forged", judge{order: "update"}, script{order, failedCheck(journal.Bad)}, ended, control.NotVerified},
		{"download cut", judge{order: "update"}, script{order, endedAs("1.1.0", updater.Discarded, journal.World, journal.Fetching)}, ended, control.NotDownloaded},
		{"wrong bytes", judge{order: "update"}, script{order, endedAs("1.1.0", updater.Discarded, journal.Bad, journal.Fetching)}, ended, control.NotVerified},
		{"wrong bytes from a mirror", judge{order: "update"}, script{order, endedAs("1.1.0", updater.Discarded, journal.Refused, journal.Fetching)}, ended, control.NotVerified},
		{"metadata of somebody else", judge{order: "update"}, script{order, failedCheck(journal.Refused)}, ended, control.NotVerified},
		{"wrong signature", judge{order: "update"}, script{order, endedAs("1.1.0", updater.Discarded, journal.Bad, journal.Staging)}, ended, control.NotVerified},
		{"no space", judge{order: "update"}, script{order, endedAs("1.1.0", updater.Discarded, journal.World, journal.Staging)}, ended, control.NotPrepared},
		{"no space for the download", judge{order: "update"}, script{order, turnedFor(noSpace), endedAs("1.1.0", updater.Discarded, journal.World, journal.Fetching)}, ended, control.NotPrepared},
		{"no space for its start", judge{order: "update"}, script{order, turnedFor(noSpace), endedAs("1.1.0", updater.Discarded, journal.World, journal.Warming)}, ended, control.NotPrepared},
		{"turned away for another reason", judge{order: "update"}, script{order, turnedFor(!noSpace), endedAs("1.1.0", updater.Discarded, journal.World, journal.Fetching)}, ended, control.NotDownloaded},
		{"no space for the metadata", judge{order: "update"}, script{order, {Kind: "check", Err: "x", Verdict: journal.World, Full: noSpace}}, ended, control.NotPrepared},
		{"no snapshot", judge{order: "update"}, script{order, {Kind: "hook", Number: "1.1.0", Err: "exit code 7"}, endedAs("1.1.0", updater.Discarded, journal.World, journal.Warming)}, ended, control.NotPrepared},
		{"finds itself unfit", judge{order: "update"}, script{order, {Kind: "self-check", Number: "1.1.0", Err: "exit code 3"}, endedAs("1.1.0", updater.Discarded, journal.Bad, journal.Staging)}, ended, control.NeverHealthy},
		{"a snapshot at the second try", judge{order: "update"}, script{order, {Kind: "hook", Number: "1.1.0", Err: "exit code 7"}, event("hook", journal.Warming, "1.1.0", "ended well"), endedAs("1.1.0", updater.Discarded, journal.World, journal.Warming)}, ended, control.NeverHealthy},
		{"never healthy", judge{order: "update"}, script{order, endedAs("1.1.0", updater.Discarded, journal.Bad, journal.Warming)}, ended, control.NeverHealthy},
		{"port taken", judge{order: "update"}, script{order, endedAs("1.1.0", updater.Discarded, journal.World, journal.Warming)}, ended, control.NeverHealthy},
		{"yanked on the way", judge{order: "update"}, script{order, endedAs("1.1.0", updater.Discarded, journal.Yanked, journal.Staging)}, ended, control.HeldBack},
		{"superseded, then committed", judge{order: "update"}, append(script{order, endedAs("1.1.0", updater.Discarded, journal.Superseded, journal.Staging)}, append(forward("1.2.0"), endedAs("1.2.0", updater.Committed, "", ""))...), ended, control.OK},
		{"paused meanwhile", judge{order: "update"}, script{order, endedAs("1.1.0", updater.Discarded, journal.Superseded, journal.Staging), event("check", journal.Idle, "", "held back")}, unmoved, 0},
		{"the ordered one was let go by a pause", judge{order: "update", asked: "1.1.0"}, script{order, endedAs("1.1.0", updater.Discarded, journal.Superseded, journal.Staging)}, ended, control.HeldBack},
		{"another made way", judge{order: "update", asked: "1.1.0"}, append(script{order, endedAs("1.2.0", updater.Discarded, journal.Bad, journal.Warming)}, append(forward("1.1.0"), endedAs("1.1.0", updater.Committed, "", ""))...), ended, control.OK},
		{"another was in probation", judge{order: "update", asked: "1.2.0"}, append(script{event("order", journal.Probation, "1.2.0", "update"), endedAs("1.1.0", updater.Committed, "", "")}, append(forward("1.2.0"), endedAs("1.2.0", updater.Discarded, journal.Bad, journal.Warming))...), ended, control.NeverHealthy},
		{"joined, committed", judge{order: "update"}, script{probation, endedAs("1.1.0", updater.Committed, "", ""), nothing}, ended, control.OK},
		{"joined, rolled back", judge{order: "update"}, script{probation, endedAs("1.1.0", updater.RolledBack, journal.Bad, journal.Probation), nothing}, ended, control.RolledBack},
		{"joined by its number", judge{order: "update", asked: "1.1.0"}, script{probation, endedAs("1.1.0", updater.Committed, "", "")}, ended, control.OK},
		{"joined by its number on the way back", judge{order: "update", asked: "1.1.0"}, script{event("order", journal.Reverting, "", "update"), endedAs("1.1.0", updater.RolledBack, journal.World, journal.Probation), endedAs("1.1.0", updater.Committed, "", "")}, ended, control.OK},
		{"another was in probation, and the ordered one is not offered", judge{order: "update", asked: "1.2.0"}, script{probation, endedAs("1.1.0", updater.Committed, "", ""), nothing}, unmoved, 0},
		{"joined, and the next one was let go", judge{order: "update"}, script{probation, endedAs("1.1.0", updater.Committed, "", ""), endedAs("1.2.0", updater.Discarded, journal.Superseded, journal.Staging), nothing}, unmoved, 0},
		{"rollback to one from probation", judge{order: "rollback", asked: "1.0.0"}, script{event("order", journal.Probation, "1.0.0", "rollback"), endedAs("1.1.0", updater.RolledBack, journal.Operator, journal.Probation)}, ended, control.OK},
		{"crash in probation", judge{order: "update"}, append(forward("1.2.0"), event("rollback", journal.Reverting, "1.1.0", "has the traffic again"), endedAs("1.2.0", updater.RolledBack, journal.Bad, journal.Probation)), ended, control.RolledBack},
		{"went back at the third try", judge{order: "update"}, append(forward("1.2.0"), event("alarm", journal.Reverting, "1.1.0", "cannot go back"), event("rollback", journal.Reverting, "1.1.0", "has the traffic again"), endedAs("1.2.0", updater.RolledBack, journal.Bad, journal.Probation)), ended, control.RolledBack},
		{"cannot go back", judge{order: "update"}, append(forward("1.2.0"), event("alarm", journal.Reverting, "1.2.0", "cannot go back"), endedAs("1.2.0", updater.Stranded, journal.Bad, journal.Probation)), ended, control.NoWayBack},
		{"nothing to go back to", judge{order: "update"}, append(forward("1.0.0"), endedAs("1.0.0", updater.Stranded, journal.Bad, journal.Probation)), ended, control.NoWayBack},
		{"operator elsewhere rolls back", judge{order: "update"}, append(forward("1.2.0"), endedAs("1.2.0", updater.RolledBack, journal.Operator, journal.Probation)), ended, control.RolledBack},
		{"rollback from probation", judge{order: "rollback"}, script{event("order", journal.Probation, "", "rollback"), event("rollback", journal.Reverting, "1.0.0", "has the traffic again"), endedAs("1.1.0", updater.RolledBack, journal.Operator, journal.Probation)}, ended, control.OK},
		{"rollback of the active version", judge{order: "rollback"}, script{event("order", journal.Idle, "", "rollback"), event("switch", journal.Switching, "1.0.0", ""), endedAs("1.0.0", updater.Committed, "", "")}, ended, control.OK},
		{"rollback that makes a candidate give way", judge{order: "rollback"}, script{event("order", journal.Fetching, "", "rollback"), endedAs("1.2.0", updater.Discarded, "", ""), endedAs("1.0.0", updater.Committed, "", "")}, ended, control.OK},
		{"rollback to one that does not start", judge{order: "rollback"}, script{event("order", journal.Idle, "", "rollback"), endedAs("1.0.0", updater.Discarded, journal.Bad, journal.Warming)}, ended, control.NeverHealthy},
		{"a check during a rollback", judge{order: "rollback"}, script{event("order", journal.Idle, "", "rollback"), event("check", journal.Idle, "", "x"), endedAs("1.0.0", updater.Committed, "", "")}, ended, control.OK},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := &app{stdout: io.Discard}
			v, code, err := a.follow(t.Context(), &tc.events, tc.judge)
			if err != nil {
				t.Fatal(err)
			}
			if v != tc.verdict || code != tc.code {
				t.Errorf("verdict %d code %d, want %d %d", v, code, tc.verdict, tc.code)
			}
			if len(tc.events) > 0 {
				t.Errorf("decided %d events early", len(tc.events))
			}
		})
	}
}

// The end of an update that was joined is what the history is asked for, and an outcome without one asks for nothing.
func TestFollowTellsWhichUpdateEnded(t *testing.T) {
	joined := endedAs("1.1.0", updater.RolledBack, journal.Bad, journal.Probation)
	nothing := event("check", journal.Idle, "", "nothing newer is offered")
	for want, s := range map[string]script{
		"1.1.0": {event("order", journal.Probation, "", "update"), joined, nothing},
		"1.2.0": {event("order", journal.Probation, "", "update"), joined, endedAs("1.2.0", updater.Committed, "", "")},
		"":      {event("order", journal.Idle, "", "update"), nothing},
	} {
		var over updater.Event
		if _, _, err := (&app{stdout: io.Discard}).follow(t.Context(), &s, judge{order: "update", over: &over}); err != nil || over.Number != want {
			t.Errorf("the update to %q ended, want %q: %v", over.Number, want, err)
		}
	}
}

func TestFollowLostLauncher(t *testing.T) {
	a := &app{stdout: io.Discard, program: "launcher"}
	s := forward("1.1.0")
	_, _, err := a.follow(t.Context(), &s, judge{order: "update"})
	if codeOf(err) != control.NotRunning || !strings.Contains(err.Error(), "launcher status") {
		t.Errorf("err = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = a.follow(ctx, &script{}, judge{order: "update"})
	if err == nil || !strings.Contains(err.Error(), "the update goes on") {
		t.Errorf("err = %v", err)
	}
	if err := a.watch(ctx, &script{}); err != nil {
		t.Errorf("an interrupted watch: %v", err)
	}
	if err := a.watch(t.Context(), &script{}); codeOf(err) != control.NotRunning {
		t.Errorf("a watch whose launcher stopped: %v", err)
	}
}

func TestScreenText(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&app{stdout: &out})
	for done := int64(0); done <= 5<<20; done += 5 << 14 {
		ev := event("download", journal.Fetching, "1.1.0", "")
		ev.Done, ev.Total = done, 5<<20
		if done == 5<<20 {
			ev.Text = "5242880 bytes in 1.2s"
		}
		s.show(ev)
	}
	for left := 9; left >= 0; left-- {
		ev := event("watch", journal.Probation, "1.1.0", "probation, "+short(time.Duration(left)*time.Second)+" left")
		ev.Done, ev.Total = int64(10-left), 100
		s.show(ev)
	}
	bad := event("alarm", journal.Probation, "1.1.0", "does not answer")
	bad.Err = "exit code 2\nand more"
	s.show(bad)
	want := `14:02:10  download    1.1.0 0 % · 0 bytes of 5.0 MiB
14:02:10  download    1.1.0 10 % · 560 KiB of 5.0 MiB
14:02:10  download    1.1.0 20 % · 1.0 MiB of 5.0 MiB
14:02:10  download    1.1.0 31 % · 1.6 MiB of 5.0 MiB
14:02:10  download    1.1.0 40 % · 2.0 MiB of 5.0 MiB
14:02:10  download    1.1.0 50 % · 2.5 MiB of 5.0 MiB
14:02:10  download    1.1.0 60 % · 3.0 MiB of 5.0 MiB
14:02:10  download    1.1.0 70 % · 3.5 MiB of 5.0 MiB
14:02:10  download    1.1.0 81 % · 4.1 MiB of 5.0 MiB
14:02:10  download    1.1.0 90 % · 4.5 MiB of 5.0 MiB
14:02:10  download    1.1.0 5242880 bytes in 1.2s
14:02:10  watch       1.1.0 probation, 9s left · 1 %
14:02:10  watch       1.1.0 probation, 0s left · 10 %
14:02:10  alarm       1.1.0 does not answer: exit code 2
`
	if out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", &out, want)
	}
}

func TestScreenJSON(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&app{stdout: &out, json: true})
	ev := event("end", journal.Idle, "1.1.0", "committed in 3s")
	ev.At, ev.Outcome = ev.At.UTC(), updater.Committed
	ev.At = time.Date(2026, 11, 22, 14, 2, 10, 0, time.UTC)
	s.show(ev)
	want := `{"at":"2026-11-22T14:02:10Z","kind":"end","phase":"idle","number":"1.1.0","text":"committed in 3s","outcome":"committed"}` + "\n"
	if out.String() != want {
		t.Errorf("got %s", &out)
	}
}

func TestEvidenceIsPrintable(t *testing.T) {
	var out bytes.Buffer
	evidence(&out, "1.2.0", &updater.Evidence{Exit: "exit code 2", Output: "panic: \x1b[2Jboo\n\tmain.go:3\n"})
	want := "  exit        exit code 2\n  last output of 1.2.0:\n    panic: ·[2Jboo\n    \tmain.go:3\n"
	if out.String() != want {
		t.Errorf("got %q", out.String())
	}
}

func TestCodeOf(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want control.Code
	}{
		{nil, control.OK},
		{errors.New("x"), control.Internal},
		{exit(control.HeldBack, "x"), control.HeldBack},
		{exit(control.HeldBack, "%w", control.ErrNotRunning), control.HeldBack},
		{control.ErrNotRunning, control.NotRunning},
		{&control.Error{Code: control.NoPrivilege}, control.NoPrivilege},
		{outcome(control.RolledBack), control.RolledBack},
		{outcome(control.OK), control.OK},
		{errNoConfig, control.Usage},
	} {
		if got := codeOf(tc.err); got != tc.want {
			t.Errorf("%v: %d, want %d", tc.err, got, tc.want)
		}
	}
}
