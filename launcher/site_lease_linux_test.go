package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Work under the lease has one owner through 20 switches, a crash, a hung owner and a restart.
func TestLeaseHasOneOwner(t *testing.T) {
	g := newGround(t, nil)
	one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
	g.must(g.Serve(t.Context(), one))
	g.owned(1)
	g.must(g.Warm(t.Context(), two))
	for i := range 20 {
		if i%2 == 0 {
			g.must(g.Switch(t.Context(), two))
		} else {
			g.must(g.Switch(t.Context(), one))
		}
		g.owned(i + 2)
	}
	g.must(g.Switch(t.Context(), two))
	g.owned(22)
	g.signal(two, syscall.SIGKILL)
	g.owned(23)
	g.forward(two)
	g.owned(24)
	g.signal(two, syscall.SIGSTOP) // it cannot say that it gave the lease back, and is ended
	g.must(g.Switch(t.Context(), one))
	g.owned(25)
	g.fenced.Store(true)
	g.signal(one, syscall.SIGKILL)
	g.until("the refusal without a journal", func() bool {
		for _, e := range g.told("alarm") {
			if strings.Contains(e.Text, "no lease") {
				return true
			}
		}
		return false
	})
	g.answers(one)
	g.fenced.Store(false)
	g.look(g.living(one), time.Now())
	g.owned(26)
}

// owned waits until the lease was granted that many times, and checks what the owners wrote.
func (g *ground) owned(times int) {
	g.t.Helper()
	g.until("owner "+strconv.Itoa(times), func() bool {
		b, err := os.ReadFile(filepath.Join(g.dir, "lease"))
		if err != nil {
			return false
		}
		lines := strings.Fields(string(b))
		for i, l := range lines {
			if n, err := strconv.Atoi(l); err != nil || n != i+1 {
				g.t.Fatalf("the owners wrote %q", string(b))
			}
		}
		return len(lines) == times
	})
}

// A process that drains, and hangs, may hold the lease still: nobody else gets it before.
func TestLeaseOfALeavingVersion(t *testing.T) {
	g := newGround(t, func(c *Config) { c.Drain.Deadline, c.Drain.Stream = 10*time.Second, 10*time.Second })
	one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
	g.must(g.Serve(t.Context(), one))
	g.owned(1)
	g.signal(one, syscall.SIGSTOP)
	g.Retire(one)
	g.must(g.Serve(t.Context(), two))
	g.owned(2)
}

// A process whose lease has ended with a park gets the next one when it serves again, also if nobody asked for the lease
// in between: the switch that parked it came no further.
func TestLeaseAfterAPark(t *testing.T) {
	leaseAfterAPark(t, func(g *ground, m *member) { g.must(m.proc.Park(t.Context())) })
}

// So does one that was parked when nobody waited for its answer any more: an order came that ended the switch.
func TestLeaseAfterAParkThatNobodyHeard(t *testing.T) {
	leaseAfterAPark(t, func(g *ground, m *member) {
		g.signal(m.version, syscall.SIGSTOP)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := m.proc.Park(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a stopped process is parked: %v", err)
		}
		g.signal(m.version, syscall.SIGCONT)
	})
}

func leaseAfterAPark(t *testing.T, park func(*ground, *member)) {
	g := newGround(t, nil)
	one := g.release("1.0.0", "")
	g.must(g.Serve(t.Context(), one))
	g.owned(1)
	m := g.living(one)
	g.promote(g.release("1.1.0", ""))
	park(g, m)
	g.until("it wants the lease again", func() bool { return m.is(func(m *member) bool { return m.wanting }) })
	g.must(g.Switch(t.Context(), one))
	g.owned(2)
}

// A candidate that takes long until its first word has never had the lease or a connection, and costs who serves
// nothing: that one is started again after a crash and gets the lease, and the candidate becomes healthy in its time.
func TestSlowCandidateOutlivesACrash(t *testing.T) {
	g := newGround(t, func(c *Config) { c.Health.ReadyTimeout = time.Minute })
	one, two := g.release("1.0.0", ""), g.release("1.1.0", "slow-start")
	g.must(g.Serve(t.Context(), one))
	g.owned(1)
	warm := make(chan error, 1)
	go func() { warm <- g.Warm(t.Context(), two) }()
	g.until("the start of the candidate", func() bool { return g.pid(two) != 0 })
	g.signal(one, syscall.SIGKILL)
	g.owned(2)
	g.must(os.WriteFile(slowStart(g.dir), nil, 0o600))
	if err := <-warm; err != nil {
		t.Errorf("the candidate: %v", err)
	}
}

// Nobody gets the lease while a process of an earlier launcher may hold it: here a record cannot be read. The next
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
