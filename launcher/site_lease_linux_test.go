package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// launcher, which finds nothing that could, grants it.
func TestNoLeaseInDoubt(t *testing.T) {
	g := newGround(t, nil)
	g.die()
	record := filepath.Join(g.dir, "run", "0123456789abcdef")
	g.must(os.Mkdir(record, 0o700)) // it cannot be read
	g.boot()
	one := g.release("1.0.0", "")
	g.must(g.Serve(t.Context(), one))
	m := g.living(one)
	g.until("an answer to who asks for the lease", func() bool { return len(g.told("alarm"))+len(g.told("lease")) > 0 })
	for range 3 {
		g.look(m, time.Now())
	}
	if n := len(g.told("alarm")); n != 1 || m.proc.Fence() != 0 || g.fences.Load() != 0 {
		t.Errorf("%d alarms; granted with fence %d", n, m.proc.Fence())
	}
	if b, _ := os.ReadFile(filepath.Join(g.dir, "lease")); len(b) > 0 { // it may not be there yet
		t.Errorf("somebody works under the lease: %s", b)
	}
	g.answers(one)
	g.die()
	g.must(os.Remove(record))
	g.boot()
	g.must(g.Serve(t.Context(), one))
	g.owned(1)
}
