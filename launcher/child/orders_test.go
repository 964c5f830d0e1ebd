package child

import (
	"context"
	"testing"
)

// An answer that is there counts, however late this launcher looks and whatever else has happened by then: the program
// that gave it may have ended, the caller have gone, and the time be over.
func TestAnswerThatIsThereCounts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	closed := make(chan struct{})
	close(closed)
	p := &Process{done: closed, host: &Host{ctx: ctx}}
	for range 100 {
		if err := p.wait(ctx, closed, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.wait(ctx, make(chan struct{}), 0); err == nil {
		t.Error("no answer is none")
	}
}
