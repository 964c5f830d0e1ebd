package updater

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/store"
)

// saveEvery is how much probation may be lost to a crash.
const saveEvery = 10 * time.Second

// fetch makes the candidate's bytes lie in staging, unless the store has them sealed already.
func (u *Updater) fetch(ctx context.Context, st *State) error {
	u.collect(*st) // what the last update left behind makes room for this one
	if err := u.obtain(ctx, *st.Candidate); err != nil {
		return err
	}
	return u.reconsider(ctx, *st)
}

func (u *Updater) obtain(ctx context.Context, v Version) error {
	err := u.Store.Verify(ctx, v)
	if err == nil {
		u.emit(Event{Kind: "download", Number: v.Number, Text: "is in the store already", Done: v.SizeBytes, Total: v.SizeBytes})
		return nil
	}
	if errors.Is(err, store.ErrName) {
		return Bad(err)
	}
	if err := u.Store.Room(v); err != nil {
		return unready(err)
	}
	begun, total := time.Now(), v.SizeBytes
	tell := u.progress(v)
	err = u.Feed.Fetch(ctx, v, u.Store.Staged(v), func(done, of int64) {
		total = of
		tell(done, of)
	})
	if err != nil {
		return fmt.Errorf("fetch %s: %w", v.Number, err)
	}
	u.emit(Event{Kind: "download", Number: v.Number, Text: fmt.Sprintf("%d bytes in %s", total, short(time.Since(begun))), Done: total, Total: total})
	return nil
}

// stage seals the bytes in the store, checks the second signature over what was sealed, and only then runs
// them for the first time.
func (u *Updater) stage(ctx context.Context, st *State) error {
	v := *st.Candidate
	if err := u.seal(ctx, v); err != nil {
		return err
	}
	if err := u.Site.SelfCheck(ctx, v); err != nil {
		if blame(err) == journal.Bad {
			u.emit(Event{Kind: "self-check", Number: v.Number, Text: "finds itself unfit for this machine", Err: err.Error()})
		}
		return fmt.Errorf("self-check of %s: %w", v.Number, err)
	}
	return u.reconsider(ctx, *st)
}

func (u *Updater) seal(ctx context.Context, v Version) error {
	begun := time.Now()
	err := u.Store.Seal(ctx, v)
	if errors.Is(err, store.ErrNotStaged) { // the part went missing: not this version's fault
		if err = u.obtain(ctx, v); err == nil {
			err = u.Store.Seal(ctx, v)
		}
	}
	switch {
	case errors.Is(err, store.ErrDigest):
		err = Refused(err)
	case errors.Is(err, store.ErrContent):
		err = Bad(err)
	}
	if err != nil {
		return err
	}
	if err := u.Feed.Verify(ctx, v, u.Store.Artifact(v)); err != nil {
		return fmt.Errorf("verify the signature of %s: %w", v.Number, err)
	}
	u.emit(Event{Kind: "verify", Number: v.Number, Text: fmt.Sprintf("digest and signature match, sealed in %s", short(time.Since(begun)))})
	return nil
}

// warm runs the candidate beside the active version and waits until it is healthy.
func (u *Updater) warm(ctx context.Context, st *State) error {
	v := *st.Candidate
	if err := u.start(ctx, *st); err != nil {
		return err
	}
	if len(st.Good) > 0 && u.up { // else one that is turned away may be all that clients have
		u.retireOthers(v, st.Good[0])
	}
	if err := u.reconsider(ctx, *st); err != nil {
		return err
	}
	return u.beforeSwitch(ctx, *st)
}

// beforeSwitch lets an operator's program have its turn. What it says is about the machine, never about the candidate.
func (u *Updater) beforeSwitch(ctx context.Context, st State) error {
	if u.BeforeSwitch == nil || len(st.Good) == 0 {
		return nil
	}
	if err := u.BeforeSwitch(ctx, st.Good[0], *st.Candidate); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		u.emit(Event{Kind: "hook", Number: st.Candidate.Number, Text: "before_switch failed, so there is no switch", Err: err.Error()})
		return fmt.Errorf("before the switch to %s: %v", st.Candidate.Number, err) // %v: no evidence, whatever it wraps
	}
	return nil
}

// start verifies the candidate again and makes it run. A version that once served and is damaged now is no
// way back; a new one that was damaged after it was sealed may be fetched anew.
func (u *Updater) start(ctx context.Context, st State) error {
	v := *st.Candidate
	err := u.intact(ctx, v)
	if err != nil && !goingBack(st) {
		return fmt.Errorf("before its start: %v", err) // %v: no evidence against the release
	}
	if err == nil {
		err = u.Site.Warm(ctx, v)
	}
	return err
}

// cutover gives the candidate the traffic. After a reboot it is Switch that starts it.
func (u *Updater) cutover(ctx context.Context, st *State) error {
	v := *st.Candidate
	begun := time.Now()
	if err := u.Site.Switch(ctx, v); err != nil {
		return fmt.Errorf("switch to %s: %w", v.Number, err)
	}
	u.nowUp()
	u.story.switched = time.Since(begun)
	return nil
}

// observe watches the candidate until its probation is over, asking the channel now and then whether the
// vendor took it back, and commits it.
func (u *Updater) observe(ctx context.Context, st *State) error {
	base := u.baseline(ctx, *st)
	for {
		err := u.watch(ctx, st, base)
		if err == nil {
			break
		}
		if !errors.Is(err, errPoll) {
			return err
		}
		if err := u.takenBack(ctx, *st); err != nil {
			return err
		}
	}
	was := *st.Candidate
	*st = commit(*st)
	u.emit(Event{Kind: "commit", Number: was.Number, Text: "passed its probation and is active"})
	return nil
}

// watch is one stretch of probation, up to the next look at the channel.
func (u *Updater) watch(ctx context.Context, st *State, base Version) error {
	ctx, cancel := context.WithDeadlineCause(ctx, u.nextCheck, errPoll)
	defer cancel()
	if !u.nextCheck.After(time.Now()) {
		return errPoll
	}
	err := u.Site.Watch(ctx, Watch{
		Candidate: *st.Candidate, Baseline: base, Remaining: st.Remaining, MinRequests: u.MinRequests,
		Tick: func(left time.Duration) { u.tick(st, left) },
	})
	if err != nil && context.Cause(ctx) == errPoll && blame(err) != journal.Bad {
		return errPoll
	}
	return err
}

// tick counts probation. A write that fails has been told, and the next tick tries again.
func (u *Updater) tick(st *State, left time.Duration) {
	st.Remaining = left
	u.show(*st)
	u.emit(Event{Kind: "watch", Number: st.Candidate.Number, Text: fmt.Sprintf("probation, %s left", left.Round(time.Second)),
		Done: (u.ProbationTime - left).Milliseconds(), Total: u.ProbationTime.Milliseconds()})
	if u.saved.Phase != st.Phase || u.told-left >= saveEvery {
		_ = u.save(*st)
	}
}

// baseline returns the version that waits parked, started again if it has to be; without one the
// candidate is judged by itself.
func (u *Updater) baseline(ctx context.Context, st State) Version {
	if len(st.Good) == 0 {
		return Version{}
	}
	v := st.Good[0]
	if u.running(v) {
		return v
	}
	err := u.intact(ctx, v)
	if err == nil {
		err = u.Site.Warm(ctx, v)
	}
	if err != nil {
		u.emit(Event{Kind: "alarm", Number: v.Number, Text: "cannot wait beside the candidate; going back would have to start it", Err: err.Error()})
		return Version{}
	}
	return v
}

// retire sends away every version but the active one, keeps the proof that this one passed, and collects.
func (u *Updater) retire(ctx context.Context, st *State) error {
	active := st.Good[0]
	u.retireOthers(active)
	if err := u.Store.Prove(active); err != nil {
		return err
	}
	u.collect(*st)
	return nil
}

// revert gives the traffic back to the active version or, when that one is broken, to the next good one. A
// passing weakness of the machine is tried again first. With none left, what runs keeps running.
func (u *Updater) revert(ctx context.Context, st *State) error {
	if len(st.Good) == 0 { // a first install
		u.emit(Event{Kind: "alarm", Number: st.Candidate.Number, Text: "failed and there is no version to go back to; publish one that works", Err: st.Reason})
		return nil
	}
	var broken []error
	for i, v := range st.Good {
		err := u.giveBack(ctx, v)
		if err == nil {
			st.Good = st.Good[i:]
			u.cameBack(*st, v, broken)
			return nil
		}
		err = fmt.Errorf("go back to %s: %w", v.Number, err)
		if ctx.Err() != nil || blame(err) == journal.World && st.Starts < maxStarts {
			return err
		}
		broken = append(broken, err)
	}
	err := fmt.Errorf("%w: %w", errStranded, errors.Join(broken...))
	u.strand(*st, err)
	return Bad(err)
}

// strand tells that every way back is broken, and leaves it to idle to find another: the same versions again,
// fetched anew if they are damaged, or a newer release.
func (u *Updater) strand(st State, err error) {
	v := *st.Candidate
	u.up = false
	u.showTrouble(fmt.Sprintf("%s failed and goes on serving as well as it can, since no version before it can be started; they are tried and fetched again, and a newer release is taken: %s", v.Number, err))
	u.emit(Event{Kind: "alarm", Number: v.Number, Text: "cannot go back, and keeps running; publish a release that works, or repair the store", Err: err.Error()})
	e := u.Site.Evidence(v).bounded()
	u.story.evidence = &e
}

func (u *Updater) giveBack(ctx context.Context, v Version) error {
	if err := u.intact(ctx, v); err != nil {
		return err
	}
	return u.Site.Switch(ctx, v)
}

// discard sends the candidate away and keeps what can be learnt from it.
func (u *Updater) discard(ctx context.Context, st *State) error {
	v := *st.Candidate
	e := u.Site.Evidence(v).bounded()
	u.story.evidence = &e
	if len(st.Good) > 0 {
		u.retireOthers(st.Good[0])
	} else {
		u.Site.Retire(v)
	}
	if st.Verdict == journal.Bad {
		u.emit(Event{Kind: "quarantine", Number: v.Number, Text: "is not tried again: " + st.Reason})
	}
	u.collect(*st)
	return nil
}

// retireOthers sends away every running version but those kept. What drains already is only asked again.
func (u *Updater) retireOthers(keep ...Version) {
	for _, v := range u.Site.Running() {
		if !slices.ContainsFunc(keep, is(v)) {
			u.emit(Event{Kind: "drain", Number: v.Number, Text: "finishes what it has and stops"})
			u.Site.Retire(v)
		}
	}
}

func (u *Updater) running(v Version) bool { return slices.ContainsFunc(u.Site.Running(), is(v)) }
