// Package policy decides which release a host may begin to install now: every gate gives its verdict, its
// reason in words for a person, and the time at which it can change.
//
// Only a release that every gate lets through is chosen, and of several the one with the highest epoch.
// The gates look at nothing but the Facts handed to them, so the same facts always give the same verdicts.
//
// Gates hold back what is newly chosen and nothing else. Serving what is active and going back to what
// served before ask no gate. The package reads no clock, network, or file, and keeps nothing.
package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/turnstone-go/turnstone/updater/journal"
)

// maxOffers bounds how many offers of one channel are judged. The signed document is bounded too; this is
// the bound on work.
const maxOffers = 64

// Offer is one release that the channel names.
type Offer struct {
	Number string
	Epoch  uint64
	Share  int    // of the hosts, in basis points: 10000 is all
	Yanked string // why the vendor took it back, "" if it is offered
}

// Offers is a verified channel, reduced to what the gates ask.
type Offers struct {
	Name     string    // product and channel: it salts the share, so that each rollout begins with other hosts
	MinEpoch uint64    // nothing below may be newly chosen
	SignedAt time.Time // of the channel document
	Expires  time.Time // of the first metadata file
	Expired  bool
	List     []Offer
}

// Find returns the offer of that number.
func (o Offers) Find(number string) (Offer, bool) {
	i := slices.IndexFunc(o.List, func(x Offer) bool { return x.Number == number })
	if i < 0 {
		return Offer{}, false
	}
	return o.List[i], true
}

// Range is the launcher protocols that a release can speak, with payloads if it is a launcher. The zero Range fits every launcher.
type Range struct{ Min, Max int }

// Release is an offer resolved: the version for this platform, from a verified release document.
type Release struct {
	Version  journal.Version
	Protocol Range
}

// Host is what the gates ask of this machine.
type Host struct {
	ID        string // stable and not secret
	Config    string // hash of the configuration: quarantine counts under the same one only
	Protocol  int    // that a release must speak: the launcher's; of launchers, that of the payload that runs
	Launchers bool   // the releases are launchers; Protocol is then 0 where no payload speaks with one
	Busy      string // why the active version asks not to be switched now, "" if it does not
	BusyUntil time.Time
}

// Facts is everything that the gates may look at.
type Facts struct {
	State     journal.State
	HighWater uint64 // largest epoch ever committed here, as far as any record says
	Now       time.Time
	Offers    Offers
	Host      Host
	Lost      string // digest of the active version if it neither runs nor is whole on disk, else ""
}

// restores says whether an offer is the very version that is active and was lost: having it again is no choice.
func (f Facts) restores(o Offer) bool {
	if f.Lost == "" || len(f.State.Good) == 0 {
		return false
	}
	active := f.State.Good[0]
	return active.Digest == f.Lost && o.Number == active.Number && o.Epoch == active.Epoch
}

// runs says whether a release is the active version's bytes under another number. A release that changes the program
// of one platform alone brings them to all others.
func (f Facts) runs(r Release) bool {
	return len(f.State.Good) > 0 && f.State.Good[0].Digest == r.Version.Digest
}

// Verdict is what one gate says of one release.
type Verdict struct {
	Gate  string    `json:"gate"`
	Pass  bool      `json:"pass"`
	Text  string    `json:"text"`
	Until time.Time `json:"until,omitzero"` // when a refusal can change by itself, zero if it does not
}

// Moot says that a refusal keeps nothing from this host: the release is not newer, or has nothing for its platform.
func (v Verdict) Moot() bool { return !v.Pass && (v.Gate == "newer" || v.Gate == "platform") }

// Finding is one offer with the verdict of every gate that was asked, in the order they stand.
type Finding struct {
	Number   string    `json:"number"`
	Epoch    uint64    `json:"epoch"`
	Verdicts []Verdict `json:"verdicts"`
}

// Passed says whether every gate let the release through.
func (f Finding) Passed() bool {
	return !slices.ContainsFunc(f.Verdicts, func(v Verdict) bool { return !v.Pass })
}

// Refusal is the first verdict that holds the release back, nil if it passed.
func (f Finding) Refusal() *Verdict {
	i := slices.IndexFunc(f.Verdicts, func(v Verdict) bool { return !v.Pass })
	if i < 0 {
		return nil
	}
	return &f.Verdicts[i]
}

// Until returns the first time at which a refusal in f can change by itself, zero if there is none.
func (f Finding) Until() (first time.Time) {
	for _, v := range f.Verdicts {
		if !v.Pass && !v.Until.IsZero() && (first.IsZero() || v.Until.Before(first)) {
			first = v.Until
		}
	}
	return first
}

// ErrPlatform is a release without an artifact for this platform: a vendor may mend the program of one alone.
var ErrPlatform = errors.New("has nothing for this platform")

// Resolve turns the number of an offer into its release for this platform, or returns ErrPlatform.
type Resolve func(number string) (Release, error)

// Choose returns the release to install, nil if there is none, and the findings on every offer newer than
// the active version, newest first; if there is no newer one, the finding on the newest. The error says
// which offers could not be resolved; it is nil when one was chosen.
func Choose(f Facts, resolve Resolve) (*Release, []Finding, error) {
	offers := slices.Clone(f.Offers.List)
	slices.SortStableFunc(offers, func(a, b Offer) int { return cmp.Compare(b.Epoch, a.Epoch) })
	var findings []Finding
	var errs []error
	for i, o := range offers[:min(len(offers), maxOffers)] {
		if i > 0 && !newer(f, o, nil).Pass {
			break // the rest is older still
		}
		found, r, err := judge(f, o, resolve)
		findings = append(findings, found)
		if err != nil {
			errs = append(errs, err)
		}
		if r != nil && found.Passed() {
			return r, findings, nil
		}
	}
	return nil, findings, errors.Join(errs...)
}

// judge asks the gates that need the offer alone, and then, with its release document, the others. An
// offer that is held back already is not resolved, so that no document is fetched in vain.
func judge(f Facts, o Offer, resolve Resolve) (Finding, *Release, error) {
	found := Finding{Number: o.Number, Epoch: o.Epoch, Verdicts: ask(offerGates, f, o, nil)}
	if !found.Passed() {
		return found, nil, nil
	}
	r, err := resolve(o.Number)
	if errors.Is(err, ErrPlatform) {
		found.Verdicts = append(found.Verdicts, Verdict{Gate: "platform", Text: err.Error()})
		return found, nil, nil
	}
	if err == nil && (r.Version.Number != o.Number || r.Version.Epoch != o.Epoch) {
		err = fmt.Errorf("the release document is for %s with epoch %d, the channel offers epoch %d",
			r.Version.Number, r.Version.Epoch, o.Epoch)
	}
	if err == nil && f.restores(o) && r.Version.Digest != f.Lost {
		err = errors.New("the release document names other bytes than those that were active here")
	}
	if err != nil {
		err = fmt.Errorf("resolve %s: %w", o.Number, err)
		found.Verdicts = append(found.Verdicts, Verdict{Gate: "release", Text: err.Error()})
		return found, nil, err
	}
	if f.runs(r) && !f.restores(o) {
		i := slices.IndexFunc(found.Verdicts, func(v Verdict) bool { return v.Gate == "newer" })
		found.Verdicts[i] = Verdict{Gate: "newer", Text: fmt.Sprintf("its bytes are those of %s, which is active", f.State.Good[0].Number)}
		return found, nil, nil
	}
	found.Verdicts = append(found.Verdicts, ask(releaseGates, f, o, &r)...)
	return found, &r, nil
}

func ask(gates []gate, f Facts, o Offer, r *Release) []Verdict {
	now := f.State.Want != nil && f.State.Want.Now
	list := make([]Verdict, 0, len(gates)+len(releaseGates))
	for _, g := range gates {
		v := g.ask(f, o, r)
		v.Gate = g.name
		switch {
		case v.Pass:
		case g.waits && now:
			v = Verdict{Gate: g.name, Pass: true, Text: "skipped, ordered now; else: " + v.Text}
		case g.name != "trust" && r == nil && f.restores(o):
			v = Verdict{Gate: g.name, Pass: true, Text: "skipped, it is active and was lost; else: " + v.Text}
		}
		list = append(list, v)
	}
	return list
}
