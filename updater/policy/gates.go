package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/turnstone-go/turnstone/updater/journal"
)

// gate is one reason not to install a release now. One that only waits is skipped when an operator orders
// the update now; the others guard against harm and are never skipped.
type gate struct {
	name  string
	waits bool
	ask   func(Facts, Offer, *Release) Verdict
}

// offerGates need the channel alone.
var offerGates = []gate{
	{"trust", false, fresh},
	{"newer", false, newer},
	{"order", false, ordered},
	{"yanked", false, yanked},
	{"epoch", false, epoch},
	{"pin", false, pinned},
	{"pause", true, paused},
	{"share", true, share},
	{"busy", true, busy},
}

// releaseGates need the release document.
var releaseGates = []gate{
	{"quarantine", false, quarantined},
	{"hold", false, held},
	{"protocol", false, protocol},
}

func pass(format string, args ...any) Verdict {
	return Verdict{Pass: true, Text: fmt.Sprintf(format, args...)}
}

func refuse(format string, args ...any) Verdict {
	return Verdict{Text: fmt.Sprintf(format, args...)}
}

// fresh holds the expiry against the later of the clock and the newest signed time, so that turning the clock
// back brings nothing back to life.
func fresh(f Facts, _ Offer, _ *Release) Verdict {
	now := f.Now
	if f.Offers.SignedAt.After(now) {
		now = f.Offers.SignedAt
	}
	if f.Offers.Expired || !f.Offers.Expires.IsZero() && now.After(f.Offers.Expires) {
		return refuse("the signed metadata expired at %s; serving goes on, updates wait until the vendor signs it again", stamp(f.Offers.Expires))
	}
	return pass("signed %s, valid until %s", stamp(f.Offers.SignedAt), stamp(f.Offers.Expires))
}

// newer compares epochs: they are signed and grow with every release, and a number may be lower in a
// release that takes another back.
func newer(f Facts, o Offer, _ *Release) Verdict {
	if len(f.State.Good) == 0 {
		return pass("nothing is installed yet")
	}
	if f.restores(o) {
		return pass("%s is active, but neither runs nor is whole on disk: it is fetched again", o.Number)
	}
	if active := f.State.Good[0]; o.Epoch <= active.Epoch {
		if o.Number == active.Number {
			return refuse("%s is active", active.Number)
		}
		return refuse("%s is active and newer", active.Number)
	}
	return pass("newer than %s", f.State.Good[0].Number)
}

func ordered(f Facts, o Offer, _ *Release) Verdict {
	w := f.State.Want
	if w == nil || w.Number == "" || w.Newest || w.Number == o.Number {
		return pass("no other version is ordered")
	}
	return refuse("%s was ordered", w.Number)
}

func yanked(_ Facts, o Offer, _ *Release) Verdict {
	if o.Yanked != "" {
		return refuse("taken back by the vendor: %s", o.Yanked)
	}
	return pass("offered")
}

// epoch refuses what lies behind. The high-water mark itself passes: it names one release, the newest that
// was ever committed here, and once its hold is cleared it may come back.
func epoch(f Facts, o Offer, _ *Release) Verdict {
	switch {
	case o.Epoch < f.Offers.MinEpoch:
		return refuse("epoch %d is below %d, the least that the vendor still allows", o.Epoch, f.Offers.MinEpoch)
	case o.Epoch < f.HighWater:
		return refuse("epoch %d is below %d, which ran here before; use rollback to go back", o.Epoch, f.HighWater)
	}
	return pass("epoch %d, not below %d", o.Epoch, max(f.Offers.MinEpoch, f.HighWater))
}

func pinned(f Facts, o Offer, _ *Release) Verdict {
	p := f.State.Pin
	switch {
	case p == nil || over(p.Until, f.Now):
		return pass("not pinned")
	case p.Number == o.Number:
		return pass("pinned to this version")
	}
	v := refuse("pinned to %s%s%s; unpin to go on", p.Number, because(p.Reason), until(p.Until))
	v.Until = p.Until
	return v
}

func paused(f Facts, _ Offer, _ *Release) Verdict {
	p := f.State.Pause
	if p == nil || over(p.Until, f.Now) {
		return pass("not paused")
	}
	v := refuse("updates are paused%s%s; resume to go on", because(p.Reason), until(p.Until))
	v.Until = p.Until
	return v
}

func share(f Facts, o Offer, _ *Release) Verdict {
	mine := bucket(f.Offers.Name, o.Number, f.Host.ID)
	if mine >= uint64(max(o.Share, 0)) {
		return refuse("offered to %s of hosts; this host joins above %s", percent(o.Share), percent(int(mine)))
	}
	return pass("offered to %s of hosts, this one among them", percent(o.Share))
}

func busy(f Facts, _ Offer, _ *Release) Verdict {
	if f.Host.Busy == "" || over(f.Host.BusyUntil, f.Now) {
		return pass("the service does not ask to wait")
	}
	v := refuse("the service asks to wait: %s%s", f.Host.Busy, until(f.Host.BusyUntil))
	v.Until = f.Host.BusyUntil
	return v
}

// quarantined lets the same bytes pass as a newer release: whoever signs them once more knows why.
func quarantined(f Facts, _ Offer, r *Release) Verdict {
	for _, m := range f.State.Quarantine {
		signedAnew := m.Epoch != 0 && r.Version.Epoch > m.Epoch
		if m.Digest == r.Version.Digest && m.Config == f.Host.Config && !signedAnew {
			return refuse("failed here at %s%s; it is not tried again until the quarantine is cleared, the configuration changes, or the vendor releases it anew", stamp(m.At), because(m.Reason))
		}
	}
	return pass("has not failed here under this configuration")
}

func held(f Facts, _ Offer, r *Release) Verdict {
	i := slices.IndexFunc(f.State.Held, func(m journal.Mark) bool { return m.Digest == r.Version.Digest })
	if i >= 0 {
		m := f.State.Held[i]
		return refuse("turned away at %s%s; clear the hold to let it come back", stamp(m.At), because(m.Reason))
	}
	return pass("not held")
}

func protocol(f Facts, _ Offer, r *Release) Verdict {
	p, speaks := r.Protocol, f.Host.Protocol
	fits := p.Min <= speaks && speaks <= p.Max
	switch {
	case p == (Range{}):
		return pass("needs no certain launcher")
	case f.Host.Launchers && speaks == 0:
		return pass("no payload here speaks with the launcher")
	case f.Host.Launchers && !fits:
		return refuse("speaks launcher protocol %d to %d, the payload that runs speaks %d; update the payload first", p.Min, p.Max, speaks)
	case f.Host.Launchers:
		return pass("speaks launcher protocol %d to %d, the payload that runs speaks %d", p.Min, p.Max, speaks)
	case !fits:
		return refuse("needs launcher protocol %d to %d, this launcher speaks %d; update the launcher first", p.Min, p.Max, speaks)
	}
	return pass("needs launcher protocol %d to %d, this one speaks %d", p.Min, p.Max, speaks)
}

// bucket places a host in 0..9999 for one release, evenly and for ever: the first 8 bytes of
// SHA-256(salt 0 number 0 host) as a fraction of 2^64, in basis points. The salt and the number are in
// it so that the same hosts are not always the first; the zero bytes keep the three apart.
func bucket(salt, number, host string) uint64 {
	sum := sha256.Sum256([]byte(salt + "\x00" + number + "\x00" + host))
	return uint64(float64(binary.BigEndian.Uint64(sum[:8])>>11) / (1 << 53) * 10000)
}

// over says whether a time limit has passed; a zero limit never does.
func over(limit, now time.Time) bool { return !limit.IsZero() && !now.Before(limit) }

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + reason + ")"
}

func until(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " until " + stamp(t)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return t.UTC().Format(time.RFC3339)
}

func percent(points int) string { return fmt.Sprintf("%g %%", float64(points)/100) }
