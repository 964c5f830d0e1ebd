package updater

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/updater/journal"
)

// OrderKind says what an Order is for and which of its fields count.
type OrderKind string

const (
	OrderCheck    OrderKind = "check"    // read the channel now
	OrderUpdate   OrderKind = "update"   // Number or "" for what is offered; Now skips the gates that only wait
	OrderRollback OrderKind = "rollback" // to Number or "" for the previous version; Reason
	OrderPin      OrderKind = "pin"      // Number or "" for the active version; Reason, Until
	OrderUnpin    OrderKind = "unpin"
	OrderPause    OrderKind = "pause" // Reason, Until
	OrderResume   OrderKind = "resume"
	OrderClear    OrderKind = "clear" // quarantine and holds: Number (or digest), "" for all
)

// Order is what an operator wants, or the launcher when a committed version does not stay up.
type Order struct {
	Kind   OrderKind `json:"kind"`
	Number string    `json:"number,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Until  time.Time `json:"until,omitzero"`
	Now    bool      `json:"now,omitempty"`
	// Leaves is the digest of the version that a rollback is to leave. If another serves when the order's
	// turn comes, it is refused with ErrNothing. Empty is the version that serves when Order is called.
	Leaves string `json:"leaves,omitempty"`
}

const (
	maxOrders = 32  // that wait for one step to end
	maxNumber = 128 // bytes, also of a digest
)

// orders is what each kind does to a State.
var orders = map[OrderKind]func(State, Order, outlook) (State, error){
	OrderCheck:    func(st State, _ Order, _ outlook) (State, error) { return st, nil },
	OrderUpdate:   update,
	OrderRollback: rollback,
	OrderPin:      pin,
	OrderUnpin:    unpin,
	OrderPause:    pause,
	OrderResume:   resume,
	OrderClear:    clearMarks,
}

// apply carries out an order. It is pure, and an order that is refused changes nothing.
func apply(st State, o Order, at outlook) (State, error) {
	do, known := orders[o.Kind]
	switch {
	case !known:
		return st, fmt.Errorf("%w: %.40q", ErrOrder, o.Kind)
	case len(o.Number) > maxNumber:
		return st, fmt.Errorf("%w: %.40q is not the number of a version", ErrOrder, o.Number)
	}
	next, err := do(clone(st), o, at)
	if err != nil {
		return st, err
	}
	return next, nil
}

func update(st State, o Order, at outlook) (State, error) {
	st.Want = &journal.Want{Number: o.Number, Now: o.Now}
	if st.Phase == journal.Idle {
		st.Reason = "" // of the update before it; this one ends with its own
	}
	switch {
	case !inFlight(st) || goingBack(st): // its turn comes in idle
	case o.Number == "" || o.Number == st.Candidate.Number:
		st.Want.Number, st.Want.Newest = st.Candidate.Number, o.Number == ""
	default:
		st = abandon(st, fmt.Sprintf("%s was ordered", o.Number), at)
	}
	return st, nil
}

// rollback leaves the candidate that has the traffic, or else is an update to a version on disk: it enters
// at warming, which verifies the bytes again, and the version it leaves is held in the same write, so that
// idle does not install it again. Ordered once more while that is under way it changes nothing, unless a
// version is named: an operator who is not sure that he was heard must not end where he began.
func rollback(st State, o Order, at outlook) (State, error) {
	leaves := left(st)
	switch {
	case leaves == nil:
		return st, fmt.Errorf("%w: no version is installed yet", ErrNoPrevious)
	case o.Leaves != "" && o.Leaves != leaves.Digest, st.Phase == journal.Reverting:
		return st, fmt.Errorf("%w: the version to leave is being left or has been", ErrNothing)
	}
	moved := st.Phase == journal.Switching || st.Phase == journal.Probation
	switch {
	case o.Number == leaves.Number:
		return st, fmt.Errorf("%w: %s is the version that serves", ErrNothing, o.Number)
	case goingBack(st) && o.Number == "" && moved: // ordered twice, it would undo itself
		return st, fmt.Errorf("%w: %s is back already, in its probation; to leave it, name the version to go to", ErrNothing, leaves.Number)
	case goingBack(st) && o.Number == "" && st.Phase == journal.Warming:
		return st, fmt.Errorf("%w: %s is on its way back already", ErrNothing, st.Candidate.Number)
	case moved && o.Number != "" && len(st.Good) > 0 && o.Number != st.Good[0].Number:
		return st, fmt.Errorf("%w: from %s, in its probation, the way back is to %s; go to %s from there", ErrNoPrevious, leaves.Number, st.Good[0].Number, o.Number)
	}
	mark := journal.Mark{Number: leaves.Number, Digest: leaves.Digest, Reason: reason(o, "rolled back by order"), At: at.now}
	if moved {
		return giveUp(st, journal.Operator, errors.New(mark.Reason), at), nil
	}
	back := previous(st, o.Number, at.config)
	if back == nil {
		return st, fmt.Errorf("%w: %s", ErrNoPrevious, noWay(st, o.Number, at.config))
	}
	st.Held = add(st.Held, mark)
	st.Candidate, st.Verdict, st.Want = back, journal.None, nil
	st = enter(st, journal.Warming, at.probation)
	st.Reason = mark.Reason
	return st, nil
}

// noWay says why there is no way back to a version, and which ones there are.
func noWay(st State, number, config string) string {
	var numbers []string
	for rest := st; len(rest.Good) > 1; {
		v := previous(rest, "", config)
		if v == nil {
			break
		}
		numbers = append(numbers, v.Number)
		i := slices.IndexFunc(rest.Good, is(*v))
		rest.Good = rest.Good[i:]
	}
	switch {
	case len(numbers) == 0 && number == "":
		return "no other good version is on disk; publish one that works"
	case len(numbers) == 0:
		return fmt.Sprintf("%s is not a good version on disk, and no other one is; publish one that works", number)
	}
	return fmt.Sprintf("%s is not among the good versions on disk; to go back to: %s", number, strings.Join(numbers, ", "))
}

func pin(st State, o Order, at outlook) (State, error) {
	if o.Number == "" {
		if len(st.Good) == 0 {
			return st, fmt.Errorf("%w: no version is active yet; name the one to pin", ErrNothing)
		}
		o.Number = st.Good[0].Number
	}
	st.Pin = &journal.Pin{Number: o.Number, Reason: plain(o.Reason), Until: o.Until}
	if inFlight(st) && !goingBack(st) && st.Candidate.Number != o.Number {
		st = abandon(st, "pinned to "+o.Number, at)
	}
	return st, nil
}

func unpin(st State, _ Order, _ outlook) (State, error) {
	if st.Pin == nil {
		return st, fmt.Errorf("%w: not pinned", ErrNothing)
	}
	st.Pin = nil
	return st, nil
}

// pause keeps updates from starting, so a candidate that has no traffic yet is let go. One that has goes on:
// to stop in the middle would be the worst of three places.
func pause(st State, o Order, at outlook) (State, error) {
	st.Pause = &journal.Pause{Reason: plain(o.Reason), Until: o.Until}
	if inFlight(st) && !goingBack(st) {
		st = abandon(st, reason(o, "updates were paused"), at)
		if st.Want != nil {
			st.Want.Now = false // whoever ordered it is answered, and the pause holds
		}
	}
	return st, nil
}

func resume(st State, _ Order, _ outlook) (State, error) {
	if st.Pause == nil {
		return st, fmt.Errorf("%w: not paused", ErrNothing)
	}
	st.Pause = nil
	return st, nil
}

func clearMarks(st State, o Order, _ outlook) (State, error) {
	before := len(st.Quarantine) + len(st.Held)
	meant := func(m journal.Mark) bool { return o.Number == "" || o.Number == m.Number || o.Number == m.Digest }
	st.Quarantine = slices.DeleteFunc(st.Quarantine, meant)
	st.Held = slices.DeleteFunc(st.Held, meant)
	if len(st.Quarantine)+len(st.Held) == before {
		return st, fmt.Errorf("%w: no such version is in quarantine or held", ErrNothing)
	}
	return st, nil
}

// abandon lets a candidate go that has had no traffic, without a mark against it.
func abandon(st State, why string, at outlook) State {
	return giveUp(st, journal.Superseded, errors.New(why), at)
}

func reason(o Order, otherwise string) string {
	if o.Reason == "" {
		return otherwise
	}
	return plain(o.Reason)
}

// request is an Order on its way to Run.
type request struct {
	order Order
	done  chan error // takes one answer
}

// Order hands o to Run and returns once it is applied and saved, or refused. It does not wait for what the
// order sets in motion; events tell that. An order waits for a step that must not be interrupted, and for a
// Run to begin. If ctx ends first the order is taken back, unless it was just being applied.
func (u *Updater) Order(ctx context.Context, o Order) error {
	r := &request{order: o, done: make(chan error, 1)}
	if err := u.enqueue(r); err != nil {
		return err
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		u.mu.Lock()
		defer u.mu.Unlock()
		u.orders = slices.DeleteFunc(u.orders, func(x *request) bool { return x == r })
		return context.Cause(ctx)
	}
}

func (u *Updater) enqueue(r *request) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stalled != nil {
		return u.stalled
	}
	if len(u.orders) >= maxOrders {
		return ErrTooMany
	}
	if v := left(u.status.State); r.order.Leaves == "" && v != nil {
		r.order.Leaves = v.Digest
	}
	u.orders = append(u.orders, r)
	if u.yield != nil {
		u.yield(errOrder)
	}
	return nil
}

// stall refuses the orders that wait, and those to come, while a Run cannot begin; nil ends that. What can serve does so
// either way.
func (u *Updater) stall(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stalled, u.status.Begun = nil, true
	if err == nil {
		return
	}
	u.stalled = fmt.Errorf("%w: %w", ErrStalled, err)
	for _, r := range u.orders {
		r.done <- u.stalled
	}
	u.orders = nil
}

// obey applies every order that waits, one by one, each saved before it is answered.
func (u *Updater) obey(ctx context.Context, st State) State {
	u.tune()
	for ctx.Err() == nil {
		r := u.nextOrder()
		if r == nil {
			break
		}
		st = u.heed(st, r)
	}
	return st
}

// heed carries out one order and answers it, also if that brings the engine down.
func (u *Updater) heed(st State, r *request) State {
	err := errHalfWay
	defer func() { r.done <- err }()
	next, refused := apply(st, r.order, u.outlook())
	if refused == nil {
		refused = u.carryOut(st, next, r.order)
	}
	if err = refused; err != nil {
		return st
	}
	return next
}

func (u *Updater) nextOrder() *request {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.orders) == 0 {
		return nil
	}
	r := u.orders[0]
	u.orders = u.orders[1:]
	return r
}

// carryOut saves what an order changed and tells it. A way back is taken even if it cannot be saved now.
func (u *Updater) carryOut(st, next State, o Order) error {
	back := o.Kind == OrderRollback && next.Phase == journal.Reverting
	if err := u.save(next); err != nil && !back {
		u.show(st)
		return fmt.Errorf("save the order: %w", err)
	}
	u.emit(Event{Kind: "order", Phase: next.Phase, Number: o.Number, Text: string(o.Kind) + because(o.Reason)})
	switch o.Kind {
	case OrderCheck, OrderUpdate, OrderPin, OrderUnpin, OrderResume, OrderClear:
		u.lookAt(time.Time{})
	}
	u.rest = 0
	u.turn(st, next)
	return nil
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return " (" + plain(reason) + ")"
}
