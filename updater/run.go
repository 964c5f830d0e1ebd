package updater

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/store"
)

// Parts is what an Updater is put together from. Journal, Store, Feed and Site must be set.
type Parts struct {
	Journal *journal.Journal
	Store   *store.Store
	Feed    Feed
	Site    Site

	Config        string        // hash of the configuration: a failure counts under the same one only
	HostID        string        // places this host in a rollout
	Poll          time.Duration // between two looks at the channel, an hour if 0
	ProbationTime time.Duration // ten minutes if 0
	MinRequests   uint64        // that a candidate must have answered before it is committed

	// BeforeSwitch is called when to is healthy and from still serves, may take long, and may be called again for the
	// same versions. Its error keeps to from serving and says nothing against it. It may be nil.
	BeforeSwitch func(ctx context.Context, from, to Version) error

	Busy    func() (reason string, until time.Time) // the active version asks not to be switched; may be nil
	Notify  func(Event)                             // called for every event, must not block; may be nil
	History func(Entry)                             // called for every finished update; may be nil
	Log     *slog.Logger                            // may be nil
}

// Updater drives one service through its updates. Its methods may be called from any goroutine; Run from
// one at a time. A Run that panicked may be begun again.
type Updater struct {
	Parts

	mu      sync.Mutex // guards what follows
	status  Status
	glance  *glance // at the channel, nil before the first; never changed, only replaced
	orders  []*request
	stalled error                   // why no Run can begin, nil while one may
	tuning  *Tuning                 // that Run has not taken over yet
	yield   context.CancelCauseFunc // ends the step or the wait under way, nil while that may not be

	// What Run remembers between two steps, and may forget.
	saved     State         // as the journal has it, as far as we know
	doubt     bool          // the last write of the journal may have been done or not
	told      time.Duration // Remaining as last saved
	synced    time.Duration // the last write of the journal took
	up        bool          // some version serves
	rest      time.Duration // before the step, since it failed
	nextCheck time.Time     // the next look at the channel
	nextJudge time.Time     // when the offers of the last look are judged again before it, zero if they are not
	misses    int           // checks that failed in a row
	losses    int           // candidates in a row that the world turned away
	story     *story
}

// New returns an Updater that does nothing until Run.
func New(p Parts) *Updater {
	if p.Poll <= 0 {
		p.Poll = time.Hour
	}
	if p.ProbationTime <= 0 {
		p.ProbationTime = 10 * time.Minute
	}
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	return &Updater{Parts: p}
}

// Run makes the right version serve, resumes the update where the journal says it is, and drives it and
// those after it until ctx ends; it then saves that the stop was in order and returns the cause. Any other
// error means that the journal cannot be used now: the service was made to serve as well as it can be, and
// the caller begins again after a while.
func (u *Updater) Run(ctx context.Context) error {
	st, err := u.boot(ctx)
	u.stall(err)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		st = u.obey(ctx, st)
		if !u.ensureSaved(ctx, st) {
			continue // an order came, or the end
		}
		u.close(st)
		next, err := u.step(ctx, st)
		err = u.measured(st, err)
		st.Remaining = next.Remaining // what was counted is counted, however the step ended
		if err != nil && (ctx.Err() != nil || errors.Is(err, errOrder)) {
			continue // stopped, not failed: the phase is kept
		}
		after := follow(st, next, err, u.outlook())
		u.report(st, after, err)
		st = after
	}
	return u.stop(ctx, st)
}

// step rests if the last one failed, and does the work of st's phase on a copy.
func (u *Updater) step(ctx context.Context, st State) (State, error) {
	next := clone(st)
	if err := u.sleep(ctx, u.rest); err != nil {
		return next, err
	}
	row, known := table[st.Phase]
	if !known { // the journal refuses such a record
		panic("updater: internal error: no row for phase " + string(st.Phase))
	}
	u.rest = 0
	if !row.yields {
		err := row.do(u, ctx, &next)
		return next, err
	}
	ctx, done := u.yielding(ctx)
	defer done()
	err := row.do(u, ctx, &next)
	if err != nil && context.Cause(ctx) == errOrder {
		err = errOrder
	}
	return next, err
}

// measured adds to the error of a full disk how much room is needed.
func (u *Updater) measured(st State, err error) error {
	var told *durable.Shortage
	if !durable.Full(err) || errors.As(err, &told) {
		return err
	}
	more := u.Store.Reserve()
	if st.Candidate != nil {
		more = u.Store.Room(*st.Candidate)
	}
	if more != nil { // else somebody has made room since
		err = fmt.Errorf("%w: %w", more, err)
	}
	return err
}

// ensureSaved returns true when the journal holds st, or when st may go on without: in probation and
// reverting the route is not delayed for a disk. Else it tries again until it can, or an order came, or
// ctx ended, and then returns false.
func (u *Updater) ensureSaved(ctx context.Context, st State) bool {
	for n := 0; ; n++ {
		err := u.save(st)
		if err == nil || unsavable(st.Phase) {
			return true
		}
		if u.sleep(ctx, backoff(n, time.Second, 30*time.Second)) != nil {
			return false
		}
	}
}

// unsavable phases go on while the journal cannot be written.
func unsavable(p Phase) bool { return p == journal.Probation || p == journal.Reverting }

// save writes st unless the journal holds it already. The error has been told when it returns.
func (u *Updater) save(st State) error {
	u.show(st)
	if reflect.DeepEqual(st, u.saved) {
		return nil
	}
	u.saved, u.doubt = State{}, true // a write that fails, or never comes back, may still have been done
	begun := time.Now()
	err := u.Journal.Save(st)
	u.synced = time.Since(begun)
	if errors.Is(err, journal.ErrDamaged) { // known since load, which has told it
		err = u.Journal.Rebuild(st)
	}
	if err != nil {
		u.emit(Event{Kind: "alarm", Phase: st.Phase, Text: "the journal cannot be written; free space or repair the disk", Err: err.Error()})
		return err
	}
	u.saved, u.told, u.doubt = clone(st), st.Remaining, false
	u.show(st)
	return nil
}

// stop marks an orderly end, so that the next boot does not count it against anyone.
func (u *Updater) stop(ctx context.Context, st State) error {
	if st.Phase != journal.Idle {
		st.Clean = true
	}
	if err := u.save(st); err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	return context.Cause(ctx)
}

// yielding returns a context that an order ends, and whether one waits already.
func (u *Updater) yielding(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.orders) > 0 || u.tuning != nil && u.status.State.Phase == journal.Idle { // came since Run last looked
		cancel(errOrder)
	}
	u.yield = cancel
	return ctx, func() {
		u.mu.Lock()
		u.yield = nil
		u.mu.Unlock()
		cancel(nil)
	}
}

// sleep waits for d, an order, or the end of ctx; nil is the first.
func (u *Updater) sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	ctx, done := u.yielding(ctx)
	defer done()
	return wait(ctx, d)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// backoff doubles from first to most, the n-th time (from 0), and adds up to a quarter so that a fleet that
// fails together does not come back together.
func backoff(n int, first, most time.Duration) time.Duration {
	return jitter(min(first<<min(n, 20), most))
}

func jitter(d time.Duration) time.Duration { return d + spread(d/4+1) }

var spread = rand.N[time.Duration] // replaced where a test wants the same course again

func (u *Updater) outlook() outlook {
	return outlook{probation: u.ProbationTime, config: u.Config, now: time.Now()}
}
