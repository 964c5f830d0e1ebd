package self

import (
	"fmt"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

// Power fails at every operation of a self-update: after it a whole launcher starts, and a good new one either
// has not been begun or takes over. After that the update can be done once more.
func TestUpdateSurvivesEveryCut(t *testing.T) {
	var done bool
	bad := func(t *testing.T, d *durabletest.Disk, trial string) { // there is always a way back from a new launcher
		if which := boot(t, d, false, trial); which != "old" {
			t.Fatalf("%s: a launcher that never reports in stays", trial)
		}
		rested(t, d, "old", trial)
	}
	run := func(d *durabletest.Disk) { done = update(pretend(d)) == nil }
	durabletest.Sweep(t, func() *durabletest.Disk { return fresh(t) }, run, func(t *testing.T, d *durabletest.Disk, trial string) {
		bad(t, d.Crash(1), trial)
		if which := boot(t, d, true, trial); done && which != "new" {
			t.Fatalf("%s: the update was begun, and the %s launcher runs", trial, which)
		} else {
			rested(t, d, which, trial)
		}
		if err := update(pretend(d)); err != nil {
			t.Fatalf("%s: again: %v", trial, err)
		}
		if which := boot(t, d.Crash(0), true, trial); which != "new" {
			t.Fatalf("%s: after another update the %s launcher runs", trial, which)
		}
	})
}

// Power fails at every operation of the starts that end a trial, of a good launcher and of a bad one.
func TestBootSurvivesEveryCut(t *testing.T) {
	for _, good := range []bool{true, false} {
		want := map[bool]string{true: "new", false: "old"}[good]
		start := func() *durabletest.Disk {
			d := fresh(t)
			if err := update(pretend(d)); err != nil {
				t.Fatal(err)
			}
			return d
		}
		run := func(d *durabletest.Disk) { boot(t, d, good, "cut") }
		durabletest.Sweep(t, start, run, func(t *testing.T, d *durabletest.Disk, trial string) {
			which := boot(t, d, good, trial)
			if which != want { // one cut costs a good launcher one of its tries
				t.Fatalf("%s: the %s launcher stays, want %s", trial, which, want)
			}
			rested(t, d, which, trial)
			r, err := pretend(d).Record()
			if err != nil || good && (r.Now.Version != "2.0.0" || r.HighWater != 2) || !good && len(r.Refused) != 1 {
				t.Fatalf("%s: record %+v, %v", trial, r, err)
			}
		})
	}
}

// A launcher that has reported in stays, also where power failed before the record of its trial was gone, and it has no
// try left.
func TestReportedLauncherStays(t *testing.T) {
	start := func() *durabletest.Disk {
		d := fresh(t)
		if err := update(pretend(d)); err != nil {
			t.Fatal(err)
		}
		for n := range maxTries - 1 {
			if goOn, err := pretend(d).Try(digest(newBytes), 100+n); !goOn || err != nil {
				t.Fatalf("try %d: %v, %v", n+1, goOn, err)
			}
		}
		return d
	}
	between := 0
	run := func(d *durabletest.Disk) { boot(t, d, true, "cut") }
	durabletest.Sweep(t, start, run, func(t *testing.T, d *durabletest.Disk, trial string) {
		r, err := pretend(d).Record()
		if err != nil {
			t.Fatalf("%s: %v", trial, err)
		}
		reported := r.Now.Digest == digest(newBytes)
		if tr, _ := pretend(d).Trial(); tr != nil && reported {
			between++
		}
		which := boot(t, d, true, trial)
		if reported && which != "new" {
			t.Fatalf("%s: it had reported in, and the %s launcher runs", trial, which)
		}
		rested(t, d, which, trial)
	})
	if between == 0 {
		t.Error("no cut left the record of a trial that was over")
	}
}

// Power fails, or the launcher is killed, at every operation of a self-update, and power fails again at every
// operation of the starts after it: a whole launcher starts at each, and a good one stays.
func TestSecondCutWithinRecovery(t *testing.T) {
	run := func(d *durabletest.Disk) { _ = update(pretend(d)) }
	durabletest.Sweep(t, func() *durabletest.Disk { return fresh(t) }, run, func(t *testing.T, found *durabletest.Disk, trial string) {
		for k := 0; ; k++ {
			d := found.Kill()
			d.CutAt(k, durabletest.Torn)
			boot(t, d, true, trial)
			again := fmt.Sprintf("%s, again at %d", trial, k)
			for seed := range uint64(2) {
				after := d.Crash(seed)
				rested(t, after, boot(t, after, true, again), again)
			}
			if !d.Dead() {
				return
			}
		}
	})
}
