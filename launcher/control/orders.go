package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/turnstone-go/turnstone/updater"
)

// Request is the body of an order; a verb uses the fields that mean something to it.
type Request struct {
	Version string    `json:"version,omitempty"` // "" is what is offered, the previous, or the active one
	All     bool      `json:"all,omitempty"`     // quarantine/clear: in place of a version
	Now     bool      `json:"now,omitempty"`     // update: skip the gates that only wait
	Reason  string    `json:"reason,omitempty"`
	Until   time.Time `json:"until,omitzero"` // pin and pause: end by themselves
}

// verbs are the paths that carry an order to the engine.
var verbs = map[string]updater.OrderKind{
	"update": updater.OrderUpdate, "rollback": updater.OrderRollback, "pin": updater.OrderPin, "unpin": updater.OrderUnpin,
	"pause": updater.OrderPause, "resume": updater.OrderResume, "quarantine/clear": updater.OrderClear,
}

func (s *Server) order(verb string, w http.ResponseWriter, r *http.Request) (any, error) {
	var q Request
	if err := decode(r.Body, &q); err != nil {
		return nil, err
	}
	o := updater.Order{Kind: verbs[verb], Number: q.Version, Reason: q.Reason, Until: q.Until, Now: q.Now}
	if o.Kind == updater.OrderClear && (q.Version == "") != q.All {
		return nil, &Error{Usage, "name the version to clear, or ask for all of them"}
	}
	// The answer that an order was taken back must still get out when its time is over.
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2 * slow)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), slow)
	defer cancel()
	return struct{}{}, refusal(s.backend.Order(ctx, o))
}

// refusal gives the engine's reasons their codes.
func refusal(err error) error {
	for _, known := range []struct {
		is   error
		code Code
	}{
		{updater.ErrNothing, NothingToDo},
		{updater.ErrCurrent, NothingToDo},
		{updater.ErrNoPrevious, NoWayBack},
		{updater.ErrHeld, HeldBack},
		{updater.ErrOrder, Usage},
		{updater.ErrStalled, NotPrepared},
	} {
		if errors.Is(err, known.is) {
			return &Error{known.code, err.Error()}
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &Error{Internal, "the launcher is in a step that may not be interrupted; the order was taken back: try again"}
	}
	return err
}

// check orders a look at the channel and waits until it has been taken.
func (s *Server) check(w http.ResponseWriter, r *http.Request) (any, error) {
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(checkLimit + slow)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), checkLimit)
	defer cancel()
	begun := time.Now()
	if err := s.backend.Order(ctx, updater.Order{Kind: updater.OrderCheck}); err != nil {
		return nil, refusal(err)
	}
	st, err := s.looked(ctx, begun)
	if err != nil {
		return nil, err
	}
	if st.CheckError != "" {
		return nil, &Error{st.CheckCode, "the channel cannot be used now; serving goes on: " + st.CheckError}
	}
	return s.why(), nil
}

// looked waits for a check that ended after begun. The clock of Windows stands still for up to 16 ms, so a check that
// ends in the moment in which it was asked for counts.
func (s *Server) looked(ctx context.Context, begun time.Time) (Status, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if st := s.backend.Status(); !st.LastCheck.Before(begun) {
			return st, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return Status{}, &Error{Internal, fmt.Sprintf("no check ended within %s: the repository is slow, or the launcher is busy with an update; see status", checkLimit)}
		}
	}
}
