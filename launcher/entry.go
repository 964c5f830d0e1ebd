package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// entryRow is one update in a list.
func entryRow(e control.Record, now time.Time) []string {
	return []string{strconv.Itoa(e.N), day(e.Started, now), told(e.Outcome), cmp.Or(e.From, "-"), e.To,
		short(e.Ended.Sub(e.Started)), firstLine(e.Reason)}
}

// told is an outcome as people say it.
func told(o updater.Outcome) string { return strings.ReplaceAll(string(o), "-", " ") }

// entryAnswer is everything about one update.
type entryAnswer struct {
	control.Record
}

func (e entryAnswer) text(w io.Writer, now time.Time) {
	what := e.To
	if e.From != "" {
		what = e.From + " to " + e.To
	}
	fmt.Fprintf(w, "update %d  %s  %s\n", e.N, what, told(e.Outcome))
	row(w, "when", dots(day(e.Started, now), "took "+short(e.Ended.Sub(e.Started))))
	row(w, "digest", e.Digest)
	row(w, "because", e.Reason)
	if e.Failed != "" {
		row(w, "fault", dots(faults[e.Verdict], "in "+string(e.Failed)))
	}
	row(w, "phases", e.phases())
	row(w, "switch", milliseconds(e.SwitchMS))
	row(w, "rollback", milliseconds(e.RollbackMS))
	evidence(w, e.To, e.Evidence)
}

// faults is each verdict as people say it.
var faults = map[journal.Verdict]string{
	journal.Bad: "the version's own", journal.World: "the machine's or the network's", journal.Refused: "the source's: what it sent is not the vendor's", journal.Superseded: "a newer release came",
	journal.Yanked: "the vendor took it back", journal.Operator: "an operator turned it away",
}

// phases is where the time went, in the order of an update.
func (e entryAnswer) phases() string {
	order := []journal.Phase{journal.Fetching, journal.Staging, journal.Warming, journal.Switching, journal.Probation,
		journal.Retiring, journal.Reverting, journal.Discarding}
	names := slices.SortedFunc(maps.Keys(e.Millis), func(a, b journal.Phase) int {
		return slices.Index(order, a) - slices.Index(order, b)
	})
	var parts []string
	for _, p := range names {
		parts = append(parts, string(p)+" "+short(time.Duration(e.Millis[p])*time.Millisecond))
	}
	return dots(parts...)
}

func milliseconds(ms float64) string {
	if ms == 0 {
		return ""
	}
	return strconv.FormatFloat(ms, 'f', 1, 64) + " ms until the traffic had moved"
}

// maxLines is how much of a dead version's output is shown: its last words.
const maxLines = 20

// evidence prints what a version left behind.
func evidence(w io.Writer, number string, ev *updater.Evidence) {
	if ev == nil {
		return
	}
	row(w, "exit", ev.Exit)
	block(w, "last probes of "+number, ev.Probes)
	if out := strings.TrimRight(ev.Output, "\n"); out != "" {
		block(w, "last output of "+number, strings.Split(out, "\n"))
	}
}

func block(w io.Writer, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(w, "  %s:\n", title)
	for _, l := range lines[max(0, len(lines)-maxLines):] {
		fmt.Fprintf(w, "    %s\n", printable(l))
	}
}

// printable keeps a payload's output from moving the operator's cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r >= ' ' && r != 0x7f && (r < 0x80 || r > 0x9f) {
			return r
		}
		return '·'
	}, s)
}

// failure is the last word on an update that was followed and did not stay.
func (e endAnswer) failure(w io.Writer) {
	row(w, "because", e.Entry.Reason)
	evidence(w, e.Entry.To, e.Entry.Evidence)
	row(w, "next", e.next())
	fmt.Fprintf(w, "  exit %d: %s. Details: %s history show %d\n", e.code, told(e.Entry.Outcome), e.program, e.Entry.N)
}

// next is what becomes of a version that did not stay, and what an operator can do about it.
func (e endAnswer) next() string {
	switch e.Entry.Verdict {
	case journal.Bad:
		return fmt.Sprintf("%s is not tried again here; when the cause is gone: %s quarantine clear %s", e.Entry.To, e.program, e.Entry.To)
	case journal.Refused:
		return fmt.Sprintf("look at repository.url and what lies between; it is tried again by itself; at once: %s update --now", e.program)
	case journal.World:
		return fmt.Sprintf("it is tried again by itself; at once: %s update --now", e.program)
	case journal.Yanked:
		return "wait for the vendor's next release"
	case journal.Operator:
		return fmt.Sprintf("to let it come back: %s quarantine clear %s", e.program, e.Entry.To)
	}
	return ""
}
