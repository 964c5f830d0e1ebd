package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/updater"
)

// The next launcher finds what the last one left, takes the sockets back, keeps the lease where it is, and
// can do everything with the processes that it could with its own.
func TestAdoption(t *testing.T) {
	for _, mode := range []string{"handoff", "proxy"} {
		t.Run(mode, func(t *testing.T) {
			g := newGround(t, func(c *Config) { c.Traffic.Mode = mode })
			one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
			g.must(g.Serve(t.Context(), one))
			g.owned(1)
			g.forward(two)
			g.owned(2)
			pids := []int{g.pid(one), g.pid(two)}
			g.die()
			g.boot()
			g.must(g.Serve(t.Context(), two)) // as in probation
			g.answers(two)
			if g.pid(one) != pids[0] || g.pid(two) != pids[1] {
				t.Fatalf("pids %d and %d, were %v", g.pid(one), g.pid(two), pids)
			}
			g.owned(2)
			if v := g.living(one).version; v != one {
				t.Errorf("adopted as %+v", v)
			}
			watched := make(chan error)
			go func() {
				watched <- g.Watch(t.Context(), updater.Watch{Candidate: two, Baseline: one, Remaining: time.Hour, Tick: func(time.Duration) {}})
			}()
			g.until("the spare", func() bool { return g.isSpare(one) })
			g.signal(two, syscall.SIGKILL)
			if err := <-watched; err == nil {
				t.Error("the death of the candidate is no verdict")
			}
			g.until("the take-over", func() bool { return len(g.told("takeover")) == 1 })
			g.answers(one)
			g.owned(3)
			g.signal(one, syscall.SIGKILL)
			g.until("the restart", func() bool { return len(g.told("restart")) == 1 })
			g.answers(one)
			g.owned(4)
		})
	}
}

// What was started with other listeners cannot be reached by this configuration and is ended.
func TestAdoptionOfWhatDoesNotFit(t *testing.T) {
	g := newGround(t, nil)
	one := g.release("1.0.0", "")
	g.must(g.Serve(t.Context(), one))
	was := g.pid(one)
	g.die()
	g.sv.cfg.Listen = []ListenConfig{{Name: "http", Address: freePort(t)}}
	g.boot()
	g.must(g.Serve(t.Context(), one))
	g.answers(one)
	if syscall.Kill(was, 0) == nil {
		t.Errorf("pid %d lives on at the old address", was)
	}
}

// An address that another program has ends the launcher before it ends what serves: that goes on, and a launcher with an
// address that is free takes it over.
func TestTakenAddressEndsNothing(t *testing.T) {
	for _, mode := range []string{"handoff", "proxy"} {
		for _, name := range []string{"http", "web"} {
			t.Run(mode+" "+name, func(t *testing.T) {
				g := newGround(t, func(c *Config) { c.Traffic.Mode = mode })
				one, was := g.release("1.0.0", ""), g.sv.cfg.Listen
				g.must(g.Serve(t.Context(), one))
				g.answers(one)
				pid := g.pid(one)
				g.die()
				stranger, err := net.Listen("tcp", "127.0.0.1:0")
				g.must(err)
				defer stranger.Close()
				g.sv.cfg.Listen = []ListenConfig{{Name: name, Address: stranger.Addr().String()}}
				for range 2 { // the manager tries again
					if err = g.reopen(); err == nil || !strings.Contains(err.Error(), stranger.Addr().String()) || !strings.Contains(err.Error(), "1.0.0, pid "+fmt.Sprint(pid)+", goes on") {
						t.Errorf("opened: %v", err)
					}
				}
				if got, err := g.answer(); mode == "handoff" && got != one.Number {
					t.Errorf("%q, %v answers meanwhile", got, err)
				}
				g.sv.cfg.Listen = was
				g.boot()
				g.must(g.Serve(t.Context(), one))
				g.answers(one)
				if g.pid(one) != pid {
					t.Errorf("pid %d serves, was %d", g.pid(one), pid)
				}
			})
		}
	}
}

// A process that is dying has its sockets a little longer than anybody can see it.
func TestAddressOfADyingProcess(t *testing.T) {
	g := newGround(t, nil)
	g.die()
	dying, err := net.Listen("tcp", g.sv.cfg.Listen[0].Address)
	g.must(err)
	gone := time.AfterFunc(300*time.Millisecond, func() { _ = dying.Close() })
	defer gone.Stop()
	g.boot()
	one := g.release("1.0.0", "")
	g.must(g.Serve(t.Context(), one))
	g.answers(one)
}

// A socket of the last launcher is no stranger: whoever holds it is ended, and then the new address is free.
func TestOurOwnSocketIsInTheWay(t *testing.T) {
	g := newGround(t, nil)
	one := g.release("1.0.0", "")
	g.must(g.Serve(t.Context(), one))
	was := g.pid(one)
	g.die()
	_, port, _ := net.SplitHostPort(g.sv.cfg.Listen[0].Address)
	g.sv.cfg.Listen = []ListenConfig{{Name: "http", Address: "0.0.0.0:" + port}}
	g.boot()
	g.must(g.Serve(t.Context(), one))
	g.answers(one)
	if g.pid(one) == was {
		t.Errorf("pid %d goes on at the old address", was)
	}
}

// The version that waits is kept alive during the probation of its successor.
func TestWatchKeepsTheSpareAlive(t *testing.T) {
	g := newGround(t, nil)
	one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
	g.must(g.Serve(t.Context(), one))
	g.forward(two)
	ctx, cancel := context.WithCancel(t.Context())
	watched := make(chan error)
	go func() {
		watched <- g.Watch(ctx, updater.Watch{Candidate: two, Baseline: one, Remaining: time.Hour, Tick: func(time.Duration) {}})
	}()
	was := g.pid(one)
	g.signal(one, syscall.SIGKILL)
	g.until("a new spare", func() bool { m := g.waiting(one); return m != nil && m.proc.PID() != was })
	cancel()
	if err := <-watched; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	g.answers(two)
}

// The end of a candidate is the verdict at once, also when a question about it is under way that nobody answers.
func TestDeathEndsAQuestion(t *testing.T) {
	asked := filepath.Join(t.TempDir(), "asked")
	g := newGround(t, func(c *Config) {
		c.Health.Probe, c.Health.Timeout = "exec", time.Hour
		c.Health.Command = []string{"/bin/sh", "-c", "[ ! -e " + asked + ".wait ] || { : > " + asked + "; exec sleep 3600; }"}
	})
	one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
	g.must(g.Serve(t.Context(), one))
	g.forward(two)
	g.must(os.WriteFile(asked+".wait", nil, 0o600))
	watched := make(chan error, 1)
	go func() {
		watched <- g.Watch(t.Context(), updater.Watch{Candidate: two, Baseline: one, Remaining: time.Hour, Tick: func(time.Duration) {}})
	}()
	g.until("a question", func() bool { _, err := os.Stat(asked); return err == nil })
	g.signal(two, syscall.SIGKILL)
	var err error
	g.until("the verdict", func() bool {
		select {
		case err = <-watched:
			return true
		default:
			return false
		}
	})
	var bad interface{ Unwrap() error }
	if !errors.As(err, &bad) || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the verdict is %v", err)
	}
	g.answers(one)
}

// Many short stretches of watching are one probation: three failed probes in a row are seen across them.
func TestWatchInShortStretches(t *testing.T) {
	g := newGround(t, func(c *Config) { c.Health.Interval = time.Hour })
	one, bad := g.release("1.0.0", ""), g.release("1.1.0", "")
	g.must(g.Serve(t.Context(), one))
	g.forward(bad)
	g.signal(bad, syscall.SIGSTOP) // health is not answered
	g.site.cfg.Health.Timeout = 300 * time.Millisecond
	for i, end := 0, time.Now().Add(30*time.Second); time.Now().Before(end); i++ {
		ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
		err := g.Watch(ctx, updater.Watch{Candidate: bad, Baseline: one, Remaining: time.Hour, Tick: func(time.Duration) {}})
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			if i < 2 { // later on a machine that has no time for a probe in one of them
				t.Errorf("condemned in stretch %d, three failed probes are needed", i+1)
			}
			return
		}
	}
	t.Error("never condemned")
}

// A probation has one end: a process that dies before it leaves the traffic to the version that waits and is
// condemned, one that dies after it is started again and the other does not take over.
func TestProbationHasOneEnd(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("late %v", late), func(t *testing.T) {
			g := newGround(t, nil)
			one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
			g.must(g.Serve(t.Context(), one))
			g.forward(two)
			m, w := g.living(two), updater.Watch{Candidate: two, Baseline: one, Tick: func(time.Duration) {}}
			g.offer(w)
			if late {
				g.must(g.Watch(t.Context(), w))
			}
			g.signal(two, syscall.SIGKILL)
			if late {
				g.until("the restart", func() bool { return len(g.told("restart")) == 1 })
				g.answers(two)
				return
			}
			g.until("the take-over", func() bool { return len(g.told("takeover")) == 1 })
			var bad interface{ Unwrap() error }
			if err := g.pass(m); !errors.As(err, &bad) || !strings.Contains(err.Error(), "killed") {
				t.Errorf("passed: %v", err)
			}
			g.answers(one)
		})
	}
}
