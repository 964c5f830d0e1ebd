package updater

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/store"
)

var (
	errCrashLoop = errors.New("the machine or the launcher went down with it too often in probation")
	errTooOften  = errors.New("begun too often without coming to an end")
)

// boot makes the right version serve and returns the state to resume from. The boot is counted in the
// journal before the version is started, since the start may be what brings the machine down; but a
// journal that cannot be written keeps nothing from serving.
func (u *Updater) boot(ctx context.Context) (State, error) {
	st, err := u.load(ctx)
	if err != nil {
		return State{}, err
	}
	alive := st.Candidate != nil && u.running(*st.Candidate)
	st = reboot(legal(st), alive, u.outlook())
	u.up, u.rest = false, 0
	u.lookAt(time.Time{})
	if st.Phase != journal.Idle {
		u.lookAt(time.Now().Add(min(u.Poll, time.Minute))) // before that, what was under way
		u.emit(Event{Kind: "boot", Phase: st.Phase, Number: number(st.Candidate), Text: "resumes in " + string(st.Phase)})
	}
	_ = u.save(st) // told, and tried again before the first step that needs it
	if err := u.serve(ctx, &st); err != nil {
		u.emit(Event{Kind: "alarm", Phase: st.Phase, Text: "no version could be made to serve; it is tried again", Err: err.Error()})
		u.showTrouble(err.Error())
		if len(st.Good) > 0 && u.lost(ctx, st.Good[0]) {
			u.showTrouble(lostText(st.Good[0]))
		}
	}
	u.story = nil
	switch {
	case st.Phase != journal.Idle:
		u.begin(st)
	case u.up: // what a phase that was given up has left behind
		u.retireOthers(st.Good[0])
	}
	return st, nil
}

// load returns the journal's state. Without a journal the proven versions are what is known to have served
// here, and a merely sealed one is never started.
func (u *Updater) load(ctx context.Context) (State, error) {
	st, err := u.Journal.Load()
	switch {
	case err == nil:
		if u.told = st.Remaining; !u.doubt {
			u.saved = clone(st)
		}
		return st, nil
	case errors.Is(err, journal.ErrEmpty):
		return u.rebuilt(), nil
	case errors.Is(err, journal.ErrDamaged) && !unreadable(err):
		u.emit(Event{Kind: "alarm", Text: "the journal is damaged and is made anew from the proven versions in the store; check what is active, and the disk", Err: err.Error()})
		return u.rebuilt(), nil // save does the rest
	}
	return State{}, u.without(ctx, err)
}

// unreadable says that the disk refused to answer, as opposed to answering nonsense. What cannot be read now
// may be whole, and is not written over.
func unreadable(err error) bool {
	var p *fs.PathError
	return errors.As(err, &p) && !errors.Is(err, fs.ErrNotExist)
}

// rebuilt is the state that the proven records amount to.
func (u *Updater) rebuilt() State {
	proven := u.proven()
	st := State{Phase: journal.Idle, Good: proven[:min(len(proven), maxGood)]}
	if len(st.Good) > 0 {
		st.HighWater = st.Good[0].Epoch // the newest by epoch comes first
	}
	return st
}

// without serves what it can while the journal is not ours to write: it is from a newer launcher, or cannot
// be read at the moment. Updates have to wait; orders are refused by the caller, since Run has ended.
func (u *Updater) without(ctx context.Context, err error) error {
	text := "the journal cannot be read; the newest proven version serves and updates wait"
	if errors.Is(err, journal.ErrNewer) {
		text = "the journal is from a newer launcher; the newest proven version serves and updates wait until that launcher is back"
	}
	u.emit(Event{Kind: "alarm", Text: text, Err: err.Error()})
	st := u.rebuilt()
	if served := u.serve(ctx, &st); served != nil {
		err = errors.Join(err, served)
	}
	return err
}

// legal repairs a state that no Run of this launcher has written: a phase that needs a candidate and has
// none, or a candidate that is active already.
func legal(st State) State {
	switch {
	case st.Phase == journal.Idle, st.Phase == journal.Retiring && len(st.Good) > 0:
	case st.Candidate == nil, len(st.Good) > 0 && st.Candidate.Digest == st.Good[0].Digest:
		return enter(st, journal.Idle, 0)
	}
	return st
}

// serve makes serving(st) serve. A candidate in probation that cannot even be started reverts.
func (u *Updater) serve(ctx context.Context, st *State) error {
	if v := serving(*st); v != nil && v == st.Candidate {
		err := u.serveOne(ctx, *v)
		if err == nil {
			return nil
		}
		*st = giveUp(*st, blame(err), err, u.outlook())
	}
	return u.serveGood(ctx, st)
}

// serveGood makes Good[0] serve. If that cannot be, the next good version does, then the newest proven one,
// and st says so afterwards.
func (u *Updater) serveGood(ctx context.Context, st *State) error {
	if len(st.Good) == 0 {
		return nil // a new install
	}
	active := st.Good[0]
	err := u.serveOne(ctx, active)
	if err == nil {
		return nil
	}
	errs := []error{err}
	for _, v := range u.fallbacks(*st) {
		if ctx.Err() != nil {
			break
		}
		err := u.serveOne(ctx, v)
		if err == nil {
			u.emit(Event{Kind: "alarm", Phase: st.Phase, Number: v.Number, Text: fmt.Sprintf("%s serves in place of %s, which could not be started", v.Number, active.Number), Err: errs[0].Error()})
			*st = fallBack(*st, v)
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("%w: %w", ErrNoActive, errors.Join(errs...))
}

// serveOne makes v serve, and looks at its bytes first if it has to be started. What may be a passing
// weakness of a machine that has just booted is tried three times.
func (u *Updater) serveOne(ctx context.Context, v Version) (err error) {
	for n := range 3 {
		if n > 0 && wait(ctx, backoff(n, 100*time.Millisecond, time.Second)) != nil {
			break
		}
		if err = u.intact(ctx, v); err == nil {
			err = u.Site.Serve(ctx, v)
		}
		if err == nil {
			u.nowUp()
			return nil
		}
		if blame(err) == journal.Bad || ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("serve %s: %w", v.Number, err)
}

// intact checks the bytes of a version that is about to be started again. One that runs has been checked.
// Evidence against what is on disk is evidence against nothing else: the same version may be fetched anew.
func (u *Updater) intact(ctx context.Context, v Version) error {
	if u.running(v) {
		return nil
	}
	err := u.Store.Verify(ctx, v)
	if errors.Is(err, store.ErrDamaged) || errors.Is(err, store.ErrNotSealed) {
		return Bad(err)
	}
	return err
}

// lost says whether v neither runs nor is whole on disk.
func (u *Updater) lost(ctx context.Context, v Version) bool {
	return blame(u.intact(ctx, v)) == journal.Bad
}

func lostText(v Version) string {
	return v.Number + " is missing or damaged on disk and no good version serves: it is fetched again as soon as the channel can be read and offers it; to look now: check"
}

// nowUp notes that some version serves.
func (u *Updater) nowUp() {
	u.up = true
	u.showTrouble("")
}

// fallbacks returns what to try after the active version: the rest of the good ones, then the proven ones.
func (u *Updater) fallbacks(st State) []Version {
	list := slices.Clone(st.Good[1:])
	for _, v := range u.proven() {
		if !slices.ContainsFunc(st.Good, is(v)) && len(list) < 2*maxGood {
			list = append(list, v)
		}
	}
	return list
}

// fallBack returns st with v, which serves, as the active version. What was in front of it is dropped and
// not turned away, so that it may be fetched anew.
func fallBack(st State, v Version) State {
	if i := slices.IndexFunc(st.Good, is(v)); i >= 0 {
		st.Good = slices.Clone(st.Good[i:])
	} else {
		st.Good = []Version{v}
	}
	return legal(st)
}

func number(v *Version) string {
	if v == nil {
		return ""
	}
	return v.Number
}
