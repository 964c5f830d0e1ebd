package control

import (
	"context"
	"net/http"
	"time"

	"github.com/turnstone-go/turnstone/updater/policy"
)

// Renewer is a Backend that can replace the launcher that runs by a newer one.
type Renewer interface {
	// Renew returns when the order is taken, or refused with the reason. With check it only says what is offered.
	Renew(ctx context.Context, check bool) (Renewal, error)
}

// Renewal is which launcher runs, and which one is offered to take its place.
type Renewal struct {
	Running  string           `json:"running"`
	Offered  string           `json:"offered,omitempty"`
	Digest   string           `json:"digest,omitempty"` // of the offered one
	Findings []policy.Finding `json:"findings,omitempty"`
}

// renewRequest is the body of the order.
type renewRequest struct {
	Check bool `json:"check,omitempty"`
}

func (s *Server) renew(w http.ResponseWriter, r *http.Request) (any, error) {
	b, can := s.backend.(Renewer)
	if !can {
		return nil, &Error{Usage, "this launcher does not update itself"}
	}
	var q renewRequest
	if err := decode(r.Body, &q); err != nil {
		return nil, err
	}
	if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(checkLimit + slow)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), checkLimit)
	defer cancel()
	return b.Renew(ctx, q.Check)
}

// Renew orders the launcher to replace itself, or asks by what it would.
func (c *Client) Renew(ctx context.Context, check bool) (r Renewal, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkLimit+2*slow)
	defer cancel()
	return r, c.do(ctx, http.MethodPost, "self-update", marshal(renewRequest{check}), &r)
}
