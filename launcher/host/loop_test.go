package host

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// desk remembers what a manager heard and asks for things.
type desk struct {
	requests chan request
	mu       sync.Mutex
	heard    []state
}

func (d *desk) manager() manager {
	return manager{
		requests: d.requests, report: d.hear,
		within: map[request]time.Duration{askStop: 30 * time.Second, askShutdown: 3 * time.Second},
	}
}

func (d *desk) hear(s state) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.heard = append(d.heard, s)
}

func (d *desk) phases() []phase {
	var all []phase
	for _, s := range d.heard {
		all = append(all, s.phase)
	}
	return slices.Compact(all)
}

func (d *desk) last() state {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.heard[len(d.heard)-1]
}

// body is a service that drains for a while.
func body(drain time.Duration, c Controls) Service {
	return Service{Name: "test", Run: func(ctx context.Context, ready func(Controls)) error {
		ready(c)
		<-ctx.Done()
		time.Sleep(drain)
		return nil
	}}
}

// hosted runs a service in a bubble with a manager and lets play act as the manager.
func hosted(t *testing.T, s Service, play func(d *desk)) (d *desk, err error) {
	synctest.Test(t, func(t *testing.T) {
		d = &desk{requests: make(chan request)} // a channel from outside the bubble would let no time pass
		done := make(chan error, 1)
		go func() { done <- talk(t.Context(), d.manager(), s) }()
		synctest.Wait()
		play(d)
		err = <-done
	})
	return d, err
}

func TestStopDrainsWithCheckpoints(t *testing.T) {
	var within time.Duration
	s := Service{Run: func(ctx context.Context, ready func(Controls)) error {
		ready(Controls{})
		<-ctx.Done()
		within = Within(ctx, time.Hour)
		time.Sleep(20 * time.Second)
		return nil
	}}
	d, err := hosted(t, s, func(d *desk) { d.requests <- askStop })
	if err != nil || within != 30*time.Second {
		t.Errorf("ended with %v, had %s to stop", err, within)
	}
	if want := []phase{starting, running, stopping}; !slices.Equal(d.phases(), want) {
		t.Errorf("the manager heard %v, want %v", d.phases(), want)
	}
	if c := d.last(); c.check < 19 || c.hint < 2*beat {
		t.Errorf("a drain of 20 s ended at checkpoint %d with a hint of %s", c.check, c.hint)
	}
}

func TestWatchdogEndsAStopThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		hang := make(chan struct{})
		d := &desk{requests: make(chan request)}
		s := Service{Run: func(ctx context.Context, ready func(Controls)) error {
			ready(Controls{Log: slog.New(slog.DiscardHandler)})
			<-hang
			return nil
		}}
		done := make(chan error, 1)
		go func() { done <- talk(t.Context(), d.manager(), s) }()
		d.requests <- askShutdown
		if err := <-done; !errors.Is(err, ErrHung) || s.ExitCode(err) != CodeHung {
			t.Errorf("ended with %v, code %d", err, s.ExitCode(err))
		}
		if took := time.Since(begun); took != 3*time.Second+grace {
			t.Errorf("gave up after %s", took)
		}
		close(hang)
	})
}

// A pause that takes long keeps neither the checkpoints nor a question waiting, and a stop overtakes it.
func TestOrdersDoNotBlockTheLoop(t *testing.T) {
	slow := func() error { time.Sleep(10 * time.Second); return nil }
	d, err := hosted(t, body(0, Controls{Pause: slow, Resume: func() error { time.Sleep(time.Second); return nil }, Log: slog.New(slog.DiscardHandler)}), func(d *desk) {
		d.requests <- askPause
		d.requests <- askState
		synctest.Wait()
		if got := d.last(); got.phase != pausing || got.check == 0 {
			t.Errorf("while pausing the manager heard %+v", got)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if d.last().phase != paused {
			t.Errorf("after the pause the manager heard %+v", d.last())
		}
		d.requests <- askResume
		d.requests <- askStop
	})
	if err != nil {
		t.Error(err)
	}
	want := []phase{starting, running, pausing, paused, resuming, stopping}
	if !slices.Equal(d.phases(), want) {
		t.Errorf("the manager heard %v, want %v", d.phases(), want)
	}
}

// What a manager asks for is done in order, one at a time; what fails changes nothing, nor does a panic.
func TestFailedOrdersLeaveTheServiceAsItWas(t *testing.T) {
	var log []string
	c := Controls{
		Pause:  func() error { log = append(log, "pause"); return errors.New("not now") },
		Resume: func() error { log = append(log, "resume"); panic("oops") },
		Reload: func() error { log = append(log, "reload"); return nil },
		Log:    slog.New(slog.DiscardHandler),
	}
	d, err := hosted(t, body(0, c), func(d *desk) {
		for _, q := range []request{askPause, askReload, askResume} {
			d.requests <- q
		}
		synctest.Wait()
		d.requests <- askStop
	})
	if err != nil || !slices.Equal(log, []string{"pause", "reload", "resume"}) {
		t.Errorf("%v; done in order %v", err, log)
	}
	if want := []phase{starting, running, pausing, running, resuming, paused, stopping}; !slices.Equal(d.phases(), want) {
		t.Errorf("the manager heard %v, want %v", d.phases(), want)
	}
	if !slices.ContainsFunc(d.heard, func(s state) bool { return s.reloading }) {
		t.Error("the manager was not told of the reload")
	}
}

// A service that cannot become ready must not keep the machine's start waiting.
func TestSlowStartIsReportedAsRunning(t *testing.T) {
	s := Service{Run: func(ctx context.Context, ready func(Controls)) error { <-ctx.Done(); return nil }}
	d, _ := hosted(t, s, func(d *desk) {
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := d.last(); got.phase != starting || got.check < 9 {
			t.Errorf("after 10 s the manager heard %+v", got)
		}
		time.Sleep(firstWord)
		synctest.Wait()
		if d.last().phase != running {
			t.Errorf("after %s the manager heard %+v", firstWord, d.last())
		}
		d.requests <- askStop
	})
	_ = d
}

func TestEndOfTheServiceIsItsError(t *testing.T) {
	boom := errors.New("boom")
	s := Service{Run: func(context.Context, func(Controls)) error { return boom }, Code: func(error) int { return 13 }}
	_, err := hosted(t, s, func(*desk) {})
	if !errors.Is(err, boom) || s.ExitCode(err) != 13 || s.ExitCode(nil) != 0 {
		t.Errorf("%v is exit code %d", err, s.ExitCode(err))
	}
}

func TestEveryExitCodeHasASentence(t *testing.T) {
	for _, code := range []int{0, 1, 2, 11, 13, 30, CodeHung, CodeUnsafe} {
		if sentences[code] == "" {
			t.Errorf("exit code %d is not explained", code)
		}
	}
}
