package child

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

// The launcher dies, or the power fails, at every operation with which a process is recorded and struck out. After
// it no process of this run folder lives that the next launcher has not adopted, no power cut leaves a record that
// is taken for a process, and what is left is no obstacle.
func TestRecordSurvivesEveryCut(t *testing.T) {
	for _, how := range []durabletest.Cut{durabletest.Before, durabletest.Torn, durabletest.Lost} {
		adoptions := 0
		for k := 0; ; k++ {
			o := options(t)
			d := durabletest.New()
			o.Disk = d
			h := open(t, o)
			d.CutAt(k, how)
			p, err := h.Start(t.Context(), program(t, Plain, "silent", ""))
			if err == nil && !d.Dead() {
				p.Stop(soon(t), 0) // strikes the record out
			}
			h.Close()
			adoptions += next(t, o, d.Kill(), k, how)
			for seed := range uint64(3) {
				if n := next(t, o, d.Crash(seed), k, how); n > 0 {
					t.Errorf("cut at %d (%v), seed %d: adopted %d processes after a power cut", k, how, seed, n)
				}
			}
			if !d.Dead() {
				break
			}
		}
		if (adoptions > 0) != (how == durabletest.Lost) { // else its pid was never written, and nobody has seen it ready
			t.Errorf("%v: %d were adopted", how, adoptions)
		}
	}
}

// next is the launcher that finds a disk, and returns how many processes it adopted. It ends them.
func next(t *testing.T, o Options, found *durabletest.Disk, k int, how durabletest.Cut) int {
	t.Helper()
	o.Disk = found
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	adopted, err := h.Adopt(soon(t))
	if err != nil {
		t.Errorf("cut at %d (%v): %v", k, how, err)
	}
	for _, s := range processes() {
		known := slices.ContainsFunc(adopted, func(p *Process) bool { return p.PID() == s.pid })
		if filepath.Dir(readMark(s.pid)) == h.o.Dir && !s.dead() && !known {
			t.Errorf("cut at %d (%v): process %d lives and nobody knows it", k, how, s.pid)
		}
	}
	for _, p := range adopted {
		p.Stop(context.Background(), 0)
	}
	left, err := found.ReadDir(h.o.Dir)
	if err != nil || len(left) > 0 {
		t.Errorf("cut at %d (%v): records left: %v, %v", k, how, left, err)
	}
	return len(adopted)
}

// A panic in the middle of a start, which the launcher survives, leaves neither a process that nobody knows nor a record
// of one, wherever it comes.
func TestPanicInStart(t *testing.T) {
	for k := 0; ; k++ {
		o := options(t)
		d := durabletest.New()
		o.Disk = d
		h := open(t, o)
		left := k
		d.Fail(func(durabletest.Op) error {
			if left--; left == -1 {
				panic("in the middle")
			}
			return nil
		})
		p, panicked := func() (p *Process, panicked bool) {
			defer func() { panicked = recover() != nil }()
			p, err := h.Start(t.Context(), program(t, Plain, "silent", ""))
			if err != nil {
				t.Fatal(err)
			}
			return p, false
		}()
		d.Fail(nil)
		if !panicked {
			p.Stop(soon(t), 0)
			return
		}
		for limit := soon(t); ; time.Sleep(time.Millisecond) {
			records, err := d.ReadDir(h.o.Dir)
			alive := slices.ContainsFunc(processes(), func(s stat) bool { return filepath.Dir(readMark(s.pid)) == h.o.Dir })
			if err == nil && len(records) == 0 && !alive {
				break
			}
			if limit.Err() != nil {
				t.Fatalf("after a panic at operation %d: records %v (%v), a process: %v", k, records, err, alive)
			}
		}
		h.Close()
	}
}
