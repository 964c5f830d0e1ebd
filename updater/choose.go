package updater

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/policy"
)

// Waits around the channel.
const (
	askLimit  = 30 * time.Second // for one look at the channel in the middle of an update
	firstMiss = 30 * time.Second // after a look that failed, or a candidate that the world turned away; doubling up to Poll
	soonest   = time.Second      // between two looks
)

// choose waits until the channel offers a release that every gate lets through, and makes it the candidate.
// It returns without one only if an operator ordered an update, so that the order gets its answer.
func (u *Updater) choose(ctx context.Context, st *State) error {
	for {
		if changed, err := u.raise(ctx, st); changed || err != nil {
			return err
		}
		if err := wait(ctx, max(time.Until(u.nextCheck), 0)); err != nil {
			return err
		}
		pick, _, err := u.ask(ctx, *st)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if pick != nil {
			u.take(st, pick.Version)
			return nil
		}
		if err == nil {
			err = u.unwanted(st.Want)
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
		st.Want = &journal.Want{Number: v.Number, Now: st.Want.Now}
	}
	u.emit(Event{Kind: "choose", Number: v.Number, Text: "is let through by every gate"})
}

// raise keeps trying to make the active version serve when boot could not, up to the next look at the
// channel, which may bring one that can. It says whether another version serves now, which is to be saved.
func (u *Updater) raise(ctx context.Context, st *State) (changed bool, err error) {
	for n := 0; !u.up && len(st.Good) > 0; n++ {
		active := st.Good[0]
		if u.serveGood(ctx, st) == nil {
			return !is(active)(st.Good[0]), nil
		}
		pause := backoff(n, time.Second, firstMiss)
		if time.Until(u.nextCheck) < pause {
			break
		}
		if err := wait(ctx, pause); err != nil {
			return false, err
		}
	}
	return false, nil
}

// ask reads the channel, judges what it offers, and sets the time of the next look.
func (u *Updater) ask(ctx context.Context, st State) (*policy.Release, policy.Offers, error) {
	pick, findings := (*policy.Release)(nil), []policy.Finding(nil)
	offers, err := u.Feed.Check(ctx)
	if err == nil {
		resolve := func(number string) (policy.Release, error) { return u.Feed.Resolve(ctx, number) }
		pick, findings, err = policy.Choose(u.facts(st, offers), resolve)
	}
	now := time.Now()
	if err != nil {
		u.misses++
		u.nextCheck = now.Add(backoff(u.misses-1, min(firstMiss, u.Poll), u.Poll))
	} else {
		u.misses = 0
		u.nextCheck = now.Add(jitter(u.Poll))
	}
	for _, f := range findings {
		if t := f.Until(); !t.IsZero() && t.Before(u.nextCheck) {
			u.nextCheck = later(t, now.Add(soonest))
		}
	}
	u.showCheck(now, findings, err)
	return pick, offers, err
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (u *Updater) facts(st State, offers policy.Offers) policy.Facts {
	f := policy.Facts{State: st, HighWater: st.HighWater, Now: time.Now(), Offers: offers,
		Host: policy.Host{ID: u.HostID, Config: u.Config, Protocol: wire.Protocol}}
	for _, v := range u.proven() { // a journal that was rebuilt may know less
		f.HighWater = max(f.HighWater, v.Epoch)
	}
	if u.Busy != nil {
		f.Host.Busy, f.Host.BusyUntil = u.Busy()
	}
	return f
}

// reconsider asks the channel once more before the candidate gets further: the vendor may have taken it back
// or offer a newer one. Without an answer what was verified still holds. Going back asks nobody.
func (u *Updater) reconsider(ctx context.Context, st State) error {
	if goingBack(st) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	pick, offers, err := u.ask(ctx, st)
	if err != nil && pick == nil && len(offers.List) == 0 {
		u.tellCheck(err)
		return nil
	}
	c := *st.Candidate
	o, offered := offers.Find(c.Number)
	switch {
	case !offered:
		return &turned{journal.Superseded, fmt.Errorf("%s is no longer offered", c.Number)}
	case o.Yanked != "":
		return &turned{journal.Yanked, fmt.Errorf("the vendor took %s back: %s", c.Number, o.Yanked)}
	case pick != nil && pick.Version.Epoch > c.Epoch:
		return &turned{journal.Superseded, fmt.Errorf("%s is offered and newer than %s", pick.Version.Number, c.Number)}
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
	if err != nil && blame(err) == journal.Yanked {
		return err
	}
	return nil
}

// unwanted says why a look at the channel brought nothing.
func (u *Updater) unwanted(w *journal.Want) error {
	findings := u.Status().Findings
	if w != nil && w.Number != "" {
		findings = slices.DeleteFunc(findings, func(f policy.Finding) bool { return f.Number != w.Number })
		if len(findings) == 0 {
			return fmt.Errorf("%w: %s is not among what the channel offers beyond the active version; use rollback to go back", ErrHeld, w.Number)
		}
	}
	if len(findings) == 0 {
		return fmt.Errorf("%w: the channel is empty", ErrCurrent)
	}
	for _, v := range findings[0].Verdicts {
		switch {
		case v.Pass:
		case v.Gate == "newer":
			return fmt.Errorf("%w: %s", ErrCurrent, v.Text)
		default:
			return fmt.Errorf("%w: %s: %s", ErrHeld, findings[0].Number, v.Text)
		}
	}
	panic("updater: internal error: a release passed every gate and was not taken")
}

// tellCheck tells that a look at the channel brought nothing, or no answer.
func (u *Updater) tellCheck(err error) {
	if errors.Is(err, ErrHeld) || errors.Is(err, ErrCurrent) {
		u.emit(Event{Kind: "check", Text: err.Error()})
		return
	}
	u.emit(Event{Kind: "check", Text: "the channel cannot be used now; serving goes on", Err: err.Error(), Verdict: blame(err)})
}
