package updater

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/wire"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/policy"
)

// Waits around the channel.
const (
	askLimit  = 30 * time.Second // for one look at the channel in the middle of an update
	firstMiss = 30 * time.Second // after a look that failed, or a candidate that the world turned away; doubling up to Poll
	soonest   = time.Second      // between two judgements of what is offered
)

// choose waits until the channel offers a release that every gate lets through, and makes it the candidate.
// It returns without one only if an operator ordered an update, so that the order gets its answer.
func (u *Updater) choose(ctx context.Context, st *State) error {
	for {
		if changed, err := u.raise(ctx, st); changed || err != nil {
			return err
		}
		if err := wait(ctx, max(time.Until(u.due()), 0)); err != nil {
			return err
		}
		if time.Now().Before(u.nextCheck) && !u.opens(*st) {
			continue
		}
		seen, err := u.ask(ctx, *st)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case seen.pick != nil && !isActive(*st, seen.pick.Version):
			u.take(st, seen.pick.Version)
			return nil
		case seen.pick != nil:
			if err = u.restore(ctx, seen.pick.Version); err == nil {
				u.lookAt(time.Time{}) // for what else is offered
				continue
			}
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		case err == nil:
			err = unwanted(seen.findings, st.Want)
		}
		u.tellCheck(err)
		if st.Want != nil {
			return err
		}
	}
}

// take makes v the candidate. An order to update is bound to it, so that it ends with it.
func (u *Updater) take(st *State, v Version) {
	st.Candidate = &v
	if st.Want != nil {
		st.Want = &journal.Want{Number: v.Number, Newest: st.Want.Number == "", Now: st.Want.Now}
	}
	u.emit(Event{Kind: "choose", Number: v.Number, Text: "is let through by every gate"})
}

func isActive(st State, v Version) bool { return len(st.Good) > 0 && is(v)(st.Good[0]) }

// restore brings back the active version, whose bytes are gone while nothing serves: the same digest, by the
// same signatures as the first time. No State changes, since none of it is wrong.
func (u *Updater) restore(ctx context.Context, v Version) error {
	u.emit(Event{Kind: "choose", Number: v.Number, Text: "is active and not whole on disk; it is fetched again"})
	err := u.obtain(ctx, v)
	if err == nil {
		err = u.seal(ctx, v)
	}
	if err == nil {
		err = u.serveOne(ctx, v)
	}
	if err != nil {
		u.losses++
		u.lookAt(time.Now().Add(backoff(u.losses-1, min(firstMiss, u.Poll), u.Poll)))
		return fmt.Errorf("bring the active version back: %w", err)
	}
	u.losses = 0
	u.retireOthers(v)
	return nil
}

// raise keeps trying to make the active version serve when boot could not, up to the next look at the
// channel, which may bring one that can. It says whether another version serves now, which is to be saved.
func (u *Updater) raise(ctx context.Context, st *State) (changed bool, err error) {
	for n := 0; !u.up && len(st.Good) > 0; n++ {
		active := st.Good[0]
		if u.serveGood(ctx, st) == nil {
			u.retireOthers(st.Good[0])
			return !is(active)(st.Good[0]), nil
		}
		pause := backoff(n, time.Second, firstMiss)
		if time.Until(u.due()) < pause {
			break
		}
		if err := wait(ctx, pause); err != nil {
			return false, err
		}
	}
	return false, nil
}

// seen is what a look at the channel brought.
type seen struct {
	pick     *policy.Release // nil if no release passed every gate
	offers   policy.Offers
	findings []policy.Finding
}

// glance is a look at the channel kept in mind, so that the same offers can be judged again, in another state
// and at another time, without asking anybody.
type glance struct {
	facts policy.Facts
	found map[string]resolved // by number
}

type resolved struct {
	release policy.Release
	err     error
}

var errUnread = errors.New("its document was not read at the last check; check again")

// judge returns what the gates say now of what was seen then, and whether a look at the channel may bring a release.
func (g *glance) judge(st State, now time.Time) (findings []policy.Finding, opens bool) {
	if g == nil {
		return nil, false
	}
	f := g.facts
	f.State, f.Now, f.HighWater = st, now, max(f.HighWater, st.HighWater)
	pick, findings, err := policy.Choose(f, func(number string) (policy.Release, error) {
		if r, known := g.found[number]; known {
			return r.release, r.err
		}
		return heldBack(f, number)
	})
	return findings, pick != nil || errors.Is(err, errUnread) // an offer without a document says so itself
}

// heldBack is the release of that number as far as it is known without its document: when an operator went back from
// it, its mark has its digest. While it was active nobody had to read about it.
func heldBack(f policy.Facts, number string) (policy.Release, error) {
	i := slices.IndexFunc(f.State.Held, func(m journal.Mark) bool { return m.Number == number })
	o, offered := f.Offers.Find(number)
	if i < 0 || !offered {
		return policy.Release{}, errUnread
	}
	return policy.Release{Version: Version{Number: number, Epoch: o.Epoch, Digest: f.State.Held[i].Digest}}, nil
}

// due is when what is offered is to be judged next: by a look at the channel, or before it, when a gate of this host
// may open.
func (u *Updater) due() time.Time {
	if !u.nextJudge.IsZero() && u.nextJudge.Before(u.nextCheck) {
		return u.nextJudge
	}
	return u.nextCheck
}

// lookAt sets the time of the next look at the channel, and that nothing is judged before.
func (u *Updater) lookAt(t time.Time) { u.nextCheck, u.nextJudge = t, time.Time{} }

// judgeAgain sets when a refusal in findings can change by itself.
func (u *Updater) judgeAgain(findings []policy.Finding, now time.Time) {
	u.nextJudge = time.Time{}
	for _, f := range findings {
		if t := f.Until(); !t.IsZero() && (u.nextJudge.IsZero() || t.Before(u.nextJudge)) {
			u.nextJudge = t
		}
	}
	if !u.nextJudge.IsZero() {
		u.nextJudge = later(u.nextJudge, now.Add(soonest))
	}
}

// opens judges the offers of the last look once more and says whether the channel is to be asked before its time. That
// a service is busy again and again is nothing to ask the vendor about.
func (u *Updater) opens(st State) bool {
	g, now := *u.glance, time.Now()
	u.askBusy(&g.facts.Host)
	u.mu.Lock()
	u.glance = &g
	u.mu.Unlock()
	findings, opens := g.judge(st, now)
	u.judgeAgain(findings, now)
	return opens
}

func (u *Updater) askBusy(h *policy.Host) {
	if u.Busy != nil {
		h.Busy, h.BusyUntil = u.Busy()
	}
}

// ask reads the channel, judges what it offers, and sets the time of the next look.
func (u *Updater) ask(ctx context.Context, st State) (seen, error) {
	offers, err := u.Feed.Check(ctx)
	s, g := seen{offers: offers}, (*glance)(nil)
	if err == nil {
		g = &glance{u.facts(ctx, st, offers), map[string]resolved{}}
		s.pick, s.findings, err = policy.Choose(g.facts, func(number string) (policy.Release, error) {
			r, err := u.Feed.Resolve(ctx, number)
			g.found[number] = resolved{r, err}
			return r, err
		})
	}
	err = u.measured(st, err)
	if errors.Is(ctx.Err(), context.Canceled) { // an order or the end came in between: it says nothing of the channel
		return s, err
	}
	now := time.Now()
	if err != nil {
		u.misses++
		u.lookAt(now.Add(backoff(u.misses-1, min(firstMiss, u.Poll), u.Poll)))
	} else {
		u.misses = 0
		u.lookAt(now.Add(jitter(u.Poll)))
	}
	if ctx.Err() != nil {
		g = nil // what it lacks was not looked for to the end
	}
	if g != nil {
		u.judgeAgain(s.findings, now)
	}
	u.showCheck(now, g, err)
	return s, err
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (u *Updater) facts(ctx context.Context, st State, offers policy.Offers) policy.Facts {
	f := policy.Facts{State: st, HighWater: st.HighWater, Now: time.Now(), Offers: offers,
		Host: policy.Host{ID: u.HostID, Config: u.Config, Protocol: wire.Protocol}}
	for _, v := range u.proven() { // a journal that was rebuilt may know less
		f.HighWater = max(f.HighWater, v.Epoch)
	}
	if st.Phase == journal.Idle && len(st.Good) > 0 && u.lost(ctx, st.Good[0]) {
		f.Lost = st.Good[0].Digest
		u.showTrouble(lostText(st.Good[0]))
	}
	u.askBusy(&f.Host)
	return f
}

// reconsider asks the channel once more before the candidate gets further: the vendor may have taken it back
// or offer a newer one. Without an answer what was verified still holds. Going back asks nobody.
func (u *Updater) reconsider(ctx context.Context, st State) error {
	if goingBack(st) {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	seen, err := u.ask(bounded, st)
	if ctx.Err() != nil {
		return context.Cause(ctx) // an order may mean another thing in the next phase
	}
	if err != nil && seen.pick == nil && len(seen.offers.List) == 0 {
		u.tellCheck(err)
		return nil
	}
	c := *st.Candidate
	o, offered := seen.offers.Find(c.Number)
	switch {
	case !offered:
		return &turned{journal.Superseded, fmt.Errorf("%s is no longer offered", c.Number)}
	case o.Yanked != "":
		return &turned{journal.Yanked, fmt.Errorf("the vendor took %s back: %s", c.Number, o.Yanked)}
	case seen.pick != nil && seen.pick.Version.Epoch > c.Epoch:
		return &turned{journal.Superseded, fmt.Errorf("%s is offered and newer than %s", seen.pick.Version.Number, c.Number)}
	}
	return nil
}

// takenBack is reconsider for a candidate that serves: only the vendor's own word moves the traffic.
func (u *Updater) takenBack(ctx context.Context, st State) error {
	if goingBack(st) {
		u.nextCheck = time.Now().Add(u.Poll)
		return nil
	}
	err := u.reconsider(ctx, st)
	if ctx.Err() != nil || err != nil && blame(err) == journal.Yanked {
		return err
	}
	return nil
}

// unwanted says why a look at the channel brought nothing.
func unwanted(findings []policy.Finding, w *journal.Want) error {
	if w != nil && w.Number != "" {
		findings = slices.DeleteFunc(findings, func(f policy.Finding) bool { return f.Number != w.Number })
		if len(findings) == 0 {
			return fmt.Errorf("%w: %s is not among what the channel offers beyond the active version; use rollback to go back", ErrHeld, w.Number)
		}
	}
	if len(findings) == 0 {
		return fmt.Errorf("%w: the channel is empty", ErrCurrent)
	}
	for _, f := range findings {
		if v := f.Refusal(); !v.Moot() {
			return fmt.Errorf("%w: %s: %s", ErrHeld, f.Number, v.Text)
		}
	}
	return fmt.Errorf("%w: %s", ErrCurrent, findings[0].Refusal().Text)
}

// tellCheck tells that a look at the channel brought nothing, or no answer.
func (u *Updater) tellCheck(err error) {
	if errors.Is(err, ErrHeld) || errors.Is(err, ErrCurrent) {
		u.emit(Event{Kind: "check", Text: err.Error()})
		return
	}
	text := "the channel cannot be used now; serving goes on"
	if !u.up {
		text = "the channel cannot be used now, and no good version serves"
	}
	u.emit(Event{Kind: "check", Text: text, Err: err.Error(), Verdict: blame(err), Full: durable.Full(err)})
}
