package self

import (
	"fmt"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

// Power fails at every operation of a self-update: after it a whole launcher starts, and a good new one either
// has not been begun or takes over. After that the update can be done once more.
func TestUpdateSurvivesEveryCut(t *testing.T) {
	modes(t, updateSurvivesEveryCut)
}

func updateSurvivesEveryCut(t *testing.T, m mode) {
	var done bool
	bad := func(t *testing.T, d *durabletest.Disk, trial string) { // there is always a way back from a new launcher
		for _, h := range []health{idle, frozen} {
			d := d.Kill()
			if which := m.boot(t, d, h, trial); which != "old" {
				t.Fatalf("%s: a launcher that never reports in stays", trial)
			}
			m.rested(t, d, "old", trial)
		}
	}
	run := func(d *durabletest.Disk) { done = update(m.pretend(d)) == nil }
	durabletest.Sweep(t, func() *durabletest.Disk { return fresh(t) }, run, func(t *testing.T, d *durabletest.Disk, trial string) {
		bad(t, d.Crash(1), trial)
		if which := m.boot(t, d, good, trial); done && which != "new" {
			t.Fatalf("%s: the update was begun, and the %s launcher runs", trial, which)
		} else {
			m.rested(t, d, which, trial)
		}
		if err := update(m.pretend(d)); err != nil {
			t.Fatalf("%s: again: %v", trial, err)
		}
		if which := m.boot(t, d.Crash(0), good, trial); which != "new" {
			t.Fatalf("%s: after another update the %s launcher runs", trial, which)
		}
	})
}

// Power fails at every operation of the starts that end a trial, of a good launcher and of bad ones.
func TestBootSurvivesEveryCut(t *testing.T) {
	modes(t, bootSurvivesEveryCut)
}

func bootSurvivesEveryCut(t *testing.T, m mode) {
	for h, want := range map[health]string{good: "new", idle: "old", frozen: "old"} {
		start := func() *durabletest.Disk {
			d := fresh(t)
			if err := update(m.pretend(d)); err != nil {
				t.Fatal(err)
			}
			return d
		}
		run := func(d *durabletest.Disk) { m.boot(t, d, h, "cut") }
		durabletest.Sweep(t, start, run, func(t *testing.T, d *durabletest.Disk, trial string) {
			which := m.boot(t, d, h, trial)
			if which != want { // one cut costs a good launcher one of its tries
				t.Fatalf("%s: the %s launcher stays, want %s", trial, which, want)
			}
			m.rested(t, d, which, trial)
			r, err := m.pretend(d).Record()
			counted := h == idle || m == leads // else a guard that was cut off may not have noted it, and it is tried once more
			if err != nil || h == good && (r.Now.Version != "2.0.0" || r.HighWater != 2) || h != good && counted && len(r.Refused) != 1 {
				t.Fatalf("%s: record %+v, %v", trial, r, err)
			}
		})
	}
}

// A launcher that has reported in stays, also where power failed before the record of its trial was gone, and it has no
// try left.
func TestReportedLauncherStays(t *testing.T) {
	modes(t, reportedLauncherStays)
}

func reportedLauncherStays(t *testing.T, m mode) {
	start := func() *durabletest.Disk {
		d := fresh(t)
		if err := update(m.pretend(d)); err != nil {
			t.Fatal(err)
		}
		for n := range maxTries - 1 {
			f := m.pretend(d)
			tr, err := f.Trial()
			if err != nil {
				t.Fatal(err)
			}
			if next, err := f.Try(f.counts(tr), 100+n); next == Leave || err != nil {
				t.Fatalf("try %d: %v, %v", n+1, next, err)
			}
		}
		return d
	}
	between := 0
	run := func(d *durabletest.Disk) { m.boot(t, d, good, "cut") }
	durabletest.Sweep(t, start, run, func(t *testing.T, d *durabletest.Disk, trial string) {
		r, err := m.pretend(d).Record()
		if err != nil {
			t.Fatalf("%s: %v", trial, err)
		}
		reported := r.Now.Digest == digest(newBytes)
		if tr, _ := m.pretend(d).Trial(); tr != nil && reported {
			between++
		}
		which := m.boot(t, d, good, trial)
		if reported && which != "new" {
			t.Fatalf("%s: it had reported in, and the %s launcher runs", trial, which)
		}
		m.rested(t, d, which, trial)
	})
	if between == 0 {
		t.Error("no cut left the record of a trial that was over")
	}
}

// Power fails, or the launcher is killed, at every operation of a self-update, and power fails again at every
// operation of the starts after it: a whole launcher starts at each, and a good one stays.
func TestSecondCutWithinRecovery(t *testing.T) {
	modes(t, secondCutWithinRecovery)
}

func secondCutWithinRecovery(t *testing.T, m mode) {
	run := func(d *durabletest.Disk) { _ = update(m.pretend(d)) }
	durabletest.Sweep(t, func() *durabletest.Disk { return fresh(t) }, run, func(t *testing.T, found *durabletest.Disk, trial string) {
		for k := 0; ; k++ {
			d := found.Kill()
			d.CutAt(k, durabletest.Torn)
			m.boot(t, d, good, trial)
			again := fmt.Sprintf("%s, again at %d", trial, k)
			for seed := range uint64(2) {
				after := d.Crash(seed)
				m.rested(t, after, m.boot(t, after, good, again), again)
			}
			if !d.Dead() {
				return
			}
		}
	})
}
