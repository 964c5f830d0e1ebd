package policy

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/updater/journal"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func version(n uint64) journal.Version {
	return journal.Version{Number: fmt.Sprintf("1.%d.0", n), Digest: strings.Repeat(fmt.Sprint(n), 64)[:64], Epoch: n}
}

func release(number string) (Release, error) {
	var n uint64
	_, err := fmt.Sscanf(number, "1.%d.0", &n)
	return Release{Version: version(n), Protocol: Range{1, 1}}, err
}

// facts is a host on 1.1.0 that is offered 1.2.0, with nothing in the way.
func facts() Facts {
	return Facts{
		State:     journal.State{Phase: journal.Idle, Good: []journal.Version{version(1)}, HighWater: 1},
		HighWater: 1,
		Now:       now,
		Offers: Offers{Name: "acme/stable", MinEpoch: 1, SignedAt: now.Add(-time.Hour), Expires: now.Add(time.Hour),
			List: []Offer{{"1.1.0", 1, 10000, ""}, {"1.2.0", 2, 10000, ""}}},
		Host: Host{ID: "host-1", Config: "cafe", Protocol: 1},
	}
}

func TestGates(t *testing.T) {
	soon := now.Add(time.Minute)
	mark := journal.Mark{Number: "1.2.0", Digest: version(2).Digest, Config: "cafe", Reason: "exit code 2", At: now}
	with := func(change func(*Facts)) Facts { f := facts(); change(&f); return f }
	for _, tc := range []struct {
		name  string
		facts Facts
		gate  string // that refuses, "" if 1.2.0 is let through
		until time.Time
		says  string
	}{
		{name: "nothing in the way", facts: facts()},
		{name: "new install", facts: with(func(f *Facts) { f.State.Good, f.HighWater = nil, 0 })},
		{"expired", with(func(f *Facts) { f.Offers.Expired = true }), "trust", time.Time{}, "expired at 2026-03-01T13:00:00Z"},
		{"is active", with(func(f *Facts) { f.State.Good[0] = version(2) }), "newer", time.Time{}, "1.2.0 is active"},
		{"active is newer", with(func(f *Facts) { f.State.Good[0] = version(3) }), "newer", time.Time{}, "1.3.0 is active and newer"},
		{"another is ordered", with(func(f *Facts) { f.State.Want = &journal.Want{Number: "1.9.0"} }), "order", time.Time{}, "1.9.0 was ordered"},
		{name: "this one is ordered", facts: with(func(f *Facts) { f.State.Want = &journal.Want{Number: "1.2.0"} })},
		{"yanked", with(func(f *Facts) { f.Offers.List[1].Yanked = "loses data" }), "yanked", time.Time{}, "loses data"},
		{"below min_epoch", with(func(f *Facts) { f.Offers.MinEpoch = 3 }), "epoch", time.Time{}, "below 3"},
		{"below the high water", with(func(f *Facts) { f.HighWater = 3 }), "epoch", time.Time{}, "use rollback"},
		{name: "the high water itself", facts: with(func(f *Facts) { f.HighWater = 2 })},
		{"pinned", with(func(f *Facts) { f.State.Pin = &journal.Pin{Number: "1.1.0", Reason: "freeze", Until: soon} }), "pin", soon, "(freeze) until"},
		{name: "pinned to it", facts: with(func(f *Facts) { f.State.Pin = &journal.Pin{Number: "1.2.0"} })},
		{name: "pin is over", facts: with(func(f *Facts) { f.State.Pin = &journal.Pin{Number: "1.1.0", Until: now} })},
		{"paused", with(func(f *Facts) { f.State.Pause = &journal.Pause{Until: soon} }), "pause", soon, "paused until"},
		{"paused without end", with(func(f *Facts) { f.State.Pause = &journal.Pause{} }), "pause", time.Time{}, "resume"},
		{name: "pause is over", facts: with(func(f *Facts) { f.State.Pause = &journal.Pause{Until: now} })},
		{"not its turn", with(func(f *Facts) { f.Offers.List[1].Share = 0 }), "share", time.Time{}, "0 % of hosts"},
		{"negative share", with(func(f *Facts) { f.Offers.List[1].Share = -1 }), "share", time.Time{}, ""},
		{"busy", with(func(f *Facts) { f.Host.Busy, f.Host.BusyUntil = "month end", soon }), "busy", soon, "month end"},
		{name: "no longer busy", facts: with(func(f *Facts) { f.Host.Busy, f.Host.BusyUntil = "month end", now })},
		{"quarantined", with(func(f *Facts) { f.State.Quarantine = []journal.Mark{mark} }), "quarantine", time.Time{}, "exit code 2"},
		{name: "failed under another configuration", facts: with(func(f *Facts) { m := mark; m.Config = "beef"; f.State.Quarantine = []journal.Mark{m} })},
		{"the epoch that failed", with(func(f *Facts) { m := mark; m.Epoch = 2; f.State.Quarantine = []journal.Mark{m} }), "quarantine", time.Time{}, "exit code 2"},
		{name: "failed in an earlier release", facts: with(func(f *Facts) { m := mark; m.Epoch = 1; f.State.Quarantine = []journal.Mark{m} })},
		{"the bytes are active", with(func(f *Facts) { f.State.Good[0].Digest = version(2).Digest }), "newer", time.Time{}, "those of 1.1.0"},
		{name: "another digest failed", facts: with(func(f *Facts) { m := mark; m.Digest = "00"; f.State.Quarantine = []journal.Mark{m} })},
		{"held", with(func(f *Facts) { m := mark; m.Config = ""; f.State.Held = []journal.Mark{m} }), "hold", time.Time{}, "clear the hold"},
		{"launcher too old", with(func(f *Facts) { f.Host.Protocol = 0 }), "protocol", time.Time{}, "update the launcher first"},
		{"launcher too new", with(func(f *Facts) { f.Host.Protocol = 2 }), "protocol", time.Time{}, "speaks 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pick, findings, err := Choose(tc.facts, release)
			if err != nil {
				t.Fatal(err)
			}
			first := findings[0]
			if first.Number != "1.2.0" || (pick != nil) != (tc.gate == "") || first.Passed() != (tc.gate == "") {
				t.Fatalf("pick %v, findings %+v", pick, findings)
			}
			if pick != nil && pick.Version != version(2) {
				t.Errorf("picked %+v", pick)
			}
			if !first.Until().Equal(tc.until) {
				t.Errorf("can change at %v, want %v", first.Until(), tc.until)
			}
			for _, v := range first.Verdicts {
				if v.Text == "" || v.Gate == "" {
					t.Errorf("a verdict without words: %+v", v)
				}
				if v.Pass == (v.Gate == tc.gate) || v.Gate == tc.gate && !strings.Contains(v.Text, tc.says) {
					t.Errorf("%+v; want %s to refuse, saying %q", v, tc.gate, tc.says)
				}
			}
		})
	}
}

// A launcher that speaks 1 and 2 runs a payload that speaks 1. The next launcher takes that payload over, so what it
// must speak is 1, whatever else the one before it speaks.
func TestNextLauncherSpeaksWithThePayload(t *testing.T) {
	for _, tc := range []struct {
		payload int // 0: none speaks with the launcher
		next    Range
		pass    bool
		says    string
	}{
		{1, Range{2, 2}, false, "the payload that runs speaks 1; update the payload first"},
		{1, Range{1, 2}, true, "the payload that runs speaks 1"},
		{2, Range{1, 1}, false, "speaks 2"},
		{0, Range{2, 2}, true, "no payload"},
	} {
		f := facts()
		f.Host.Protocol, f.Host.Launchers = tc.payload, true
		if v := protocol(f, Offer{}, &Release{Protocol: tc.next}); v.Pass != tc.pass || !strings.Contains(v.Text, tc.says) {
			t.Errorf("payload %d, next launcher %d to %d: %+v", tc.payload, tc.next.Min, tc.next.Max, v)
		}
	}
}

// An order to update now skips what only waits, and nothing that guards.
func TestNow(t *testing.T) {
	waits := func(f *Facts) {
		f.State.Pause = &journal.Pause{Reason: "holiday"}
		f.Offers.List[1].Share = 0
		f.Host.Busy = "month end"
		f.State.Want = &journal.Want{Now: true}
	}
	f := facts()
	waits(&f)
	if pick, findings, _ := Choose(f, release); pick == nil {
		t.Errorf("waiting gates were not skipped: %+v", findings)
	}
	for name, guard := range map[string]func(*Facts){
		"trust":      func(f *Facts) { f.Offers.Expired = true },
		"yanked":     func(f *Facts) { f.Offers.List[1].Yanked = "x" },
		"epoch":      func(f *Facts) { f.HighWater = 9 },
		"pin":        func(f *Facts) { f.State.Pin = &journal.Pin{Number: "1.1.0"} },
		"quarantine": func(f *Facts) { f.State.Quarantine = []journal.Mark{{Digest: version(2).Digest, Config: "cafe"}} },
		"hold":       func(f *Facts) { f.State.Held = []journal.Mark{{Digest: version(2).Digest}} },
		"protocol":   func(f *Facts) { f.Host.Protocol = 7 },
	} {
		f := facts()
		waits(&f)
		guard(&f)
		if pick, _, _ := Choose(f, release); pick != nil {
			t.Errorf("an order to update now went past the %s gate", name)
		}
	}
}

// Of several offers the newest that passes is taken, and the rest is told.
// A release without a program for this platform is passed over: nothing failed, an older one that fits is taken, and if
// there is none, there is nothing that this host could have.
func TestChooseWithoutThisPlatform(t *testing.T) {
	f := facts()
	fits := map[string]bool{"1.1.0": true}
	resolve := func(number string) (Release, error) {
		if !fits[number] {
			return Release{}, fmt.Errorf("%s %w (plan9/mips)", number, ErrPlatform)
		}
		return release(number)
	}
	pick, findings, err := Choose(f, resolve)
	if v := findings[0].Refusal(); pick != nil || err != nil || v == nil || v.Gate != "platform" || !v.Moot() || !strings.Contains(v.Text, "plan9/mips") {
		t.Errorf("%v, %+v, %v", pick, findings, err)
	}
	f.Offers.List = append(f.Offers.List, Offer{Number: "1.3.0", Epoch: 3, Share: 10000})
	fits["1.2.0"] = true
	if pick, _, err = Choose(f, resolve); err != nil || pick == nil || pick.Version != version(2) {
		t.Errorf("%v, %v", pick, err)
	}
}

func TestChooseFallsBackToAnOlderOffer(t *testing.T) {
	f := facts()
	f.Offers.List = append(f.Offers.List, Offer{"1.4.0", 4, 0, ""}, Offer{"1.3.0", 3, 10000, "bad"})
	pick, findings, err := Choose(f, release)
	if err != nil || pick == nil || pick.Version.Number != "1.2.0" {
		t.Fatalf("pick %v, %v", pick, err)
	}
	var order []string
	for _, f := range findings {
		order = append(order, f.Number)
	}
	if !slices.Equal(order, []string{"1.4.0", "1.3.0", "1.2.0"}) {
		t.Errorf("findings on %v", order)
	}
}

// A release document that cannot be had holds back that release alone.
func TestChooseWithoutADocument(t *testing.T) {
	gone := errors.New("gone")
	f := facts()
	f.Offers.List = append(f.Offers.List, Offer{"1.3.0", 3, 10000, ""})
	broken := func(number string) (Release, error) {
		if number == "1.3.0" {
			return Release{}, gone
		}
		return release(number)
	}
	pick, findings, err := Choose(f, broken)
	if err != nil || pick == nil || pick.Version.Number != "1.2.0" || findings[0].Passed() {
		t.Errorf("pick %v, %v, %+v", pick, err, findings)
	}
	f.Offers.List = f.Offers.List[2:]
	if pick, _, err := Choose(f, broken); pick != nil || !errors.Is(err, gone) {
		t.Errorf("pick %v, %v", pick, err)
	}
	other := func(string) (Release, error) { return release("1.2.0") }
	if pick, _, err := Choose(f, other); pick != nil || err == nil {
		t.Errorf("the document of another release was taken: %v", pick)
	}
}

func TestChooseIsBounded(t *testing.T) {
	f := facts()
	f.Offers.List = nil
	if pick, findings, err := Choose(f, release); pick != nil || len(findings) != 0 || err != nil {
		t.Errorf("an empty channel: %v %v %v", pick, findings, err)
	}
	for i := range uint64(1000) {
		f.Offers.List = append(f.Offers.List, Offer{fmt.Sprintf("1.%d.0", i+2), i + 2, 0, ""})
	}
	if _, findings, _ := Choose(f, release); len(findings) != maxOffers {
		t.Errorf("%d findings", len(findings))
	}
}

// Hosts fall into the buckets evenly, a host stays in its bucket, and a wider share takes in all of a
// narrower one. Another version or channel begins with other hosts.
func TestShare(t *testing.T) {
	const hosts = 20000
	in := func(number string, host, points int) bool {
		return bucket("acme/stable", number, fmt.Sprintf("host-%d", host)) < uint64(points)
	}
	for _, points := range []int{0, 1, 100, 2500, 5000, 9999, 10000} {
		n := 0
		for h := range hosts {
			if in("1.2.0", h, points) {
				n++
				if !in("1.2.0", h, min(points+1, 10000)) {
					t.Fatalf("host %d left when the share grew", h)
				}
			}
		}
		p := float64(points) / 10000
		// five standard deviations: the hash is fixed, so this passes for ever or never
		if want, slack := p*hosts, 5*math.Sqrt(hosts*p*(1-p)); math.Abs(float64(n)-want) > slack {
			t.Errorf("%d points: %d of %d hosts, want %.0f ± %.0f", points, n, hosts, want, slack)
		}
	}
	var filled [100]int
	both := 0
	for h := range hosts {
		b := bucket("acme/stable", "1.2.0", fmt.Sprintf("host-%d", h))
		if b >= 10000 {
			t.Fatalf("bucket %d", b)
		}
		filled[b/100]++
		if in("1.2.0", h, 1000) && in("1.3.0", h, 1000) {
			both++
		}
	}
	for i, n := range filled {
		if n < 130 || n > 280 { // 200 expected, five deviations are 70
			t.Errorf("percent %d holds %d of %d hosts", i, n, hosts)
		}
	}
	if both < 120 || both > 280 { // a tenth of a tenth
		t.Errorf("%d hosts are among the first tenth twice", both)
	}
	if bucket("a", "bc", "d") == bucket("ab", "c", "d") && bucket("a", "b", "cd") == bucket("a", "bc", "d") {
		t.Error("the three parts are not kept apart")
	}
}
