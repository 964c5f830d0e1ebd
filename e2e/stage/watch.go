package stage

import (
	"context"
	"fmt"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/launcher/control"
)

// Follower reads the launcher's events in the background.
type Follower struct {
	events *control.Events
	ended  chan struct{}
}

// Watch follows the launcher and tells the load when a version that had connections died, so that what the
// crash cut is counted as that.
func (s *Stage) Watch(ctx context.Context, l *load.Load) (*Follower, error) {
	events, err := s.Client().Events(ctx)
	if err != nil {
		return nil, err
	}
	f := &Follower{events: events, ended: make(chan struct{})}
	go func() {
		defer close(f.ended)
		for {
			ev, err := events.Next()
			if err != nil {
				return // the launcher stopped, or Close
			}
			if ev.Kind == "exit" {
				l.Crashed(ev.At)
			}
		}
	}()
	return f, nil
}

// Close ends the following.
func (f *Follower) Close() {
	_ = f.events.Close() // the stream has no other end
	<-f.ended
}

// Serving waits until a version is active and no update is under way.
func (s *Stage) Serving(ctx context.Context, version string) error {
	err := s.until(ctx, func() (bool, error) {
		st, err := s.Client().Status(ctx)
		return err == nil && st.Active != nil && st.Active.Number == version && st.Phase == "idle", nil
	})
	if err != nil {
		return fmt.Errorf("%s is not active: %w\n%s", version, err, s.Log())
	}
	return nil
}

// Phase waits until the engine is in a phase, at most as long as every wait here.
func (s *Stage) Phase(ctx context.Context, phase string) error {
	err := s.until(ctx, func() (bool, error) {
		st, err := s.Client().Status(ctx)
		return err == nil && string(st.Phase) == phase, nil
	})
	if err != nil {
		return fmt.Errorf("never in phase %s: %w\n%s", phase, err, s.Log())
	}
	return nil
}

// Wait is a pause of a scenario, not a way to wait for something.
func Wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
