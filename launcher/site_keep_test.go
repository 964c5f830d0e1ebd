package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestFallsBackOff(t *testing.T) {
	now := time.Now()
	var f falls
	for i, want := range []time.Duration{0, 5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 5 * time.Minute, 5 * time.Minute} {
		f.add("a", time.Second, firstPause, now)
		if got := f.due.Sub(now); got != want {
			t.Errorf("end %d: started again after %s, want %s", i+1, got, want)
		}
	}
	for range 1000 { // does not overflow
		f.add("a", 0, firstPause, now)
	}
	if got := f.due.Sub(now); got != lastPause {
		t.Errorf("after many ends %s, want %s", got, lastPause)
	}
	f.add("a", steadyLife, firstPause, now)
	if f.row != 1 || f.due != now {
		t.Errorf("a minute of life does not begin anew: %+v", f)
	}
	f.add("a", 0, firstPause, now)
	f.add("b", 0, firstPause, now)
	if f.row != 1 || f.due != now {
		t.Errorf("another version inherits the count: %+v", f)
	}
}

func TestFallsLoop(t *testing.T) {
	var f falls
	var at []int
	for i := 1; i <= 12; i++ {
		f.add("a", time.Second, firstPause, time.Now())
		if f.looping() {
			at = append(at, i)
		}
		if f.looping() {
			t.Errorf("end %d counts twice", i)
		}
	}
	if len(at) != 2 || at[0] != crashLoop || at[1] != 2*crashLoop {
		t.Errorf("a loop is seen at the ends %v", at)
	}
}

// The keeper sleeps until the next start is due, and wakes for what happens before.
func TestKeeperWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &site{ended: make(chan struct{}, 1), members: map[string]*member{}}
		s.life, s.end = context.WithCancel(t.Context())
		s.upkeep, s.rest = context.WithCancel(s.life)
		s.deciding = true // so that nothing is started when it is due
		s.serving.Digest = "a"
		s.falls.add("a", 0, firstPause, time.Now())
		s.falls.add("a", 0, firstPause, time.Now())
		begun := time.Now()
		if pause := s.care(); pause != firstPause {
			t.Errorf("looks again after %s, want %s", pause, firstPause)
		}
		go s.keeper()
		time.Sleep(firstPause + time.Millisecond)
		synctest.Wait()
		if pause := s.care(); pause != 0 {
			t.Errorf("is due after %s and still waits %s", time.Since(begun), pause)
		}
		s.end()
		synctest.Wait()
	})
}
