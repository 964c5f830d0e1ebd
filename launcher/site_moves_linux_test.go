package main

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// The parked version takes over when the one that serves dies, and is started again when it dies too. Nobody
// orders either.
func TestTakeOverAfterCrash(t *testing.T) {
	for _, mode := range []string{"handoff", "proxy"} {
		t.Run(mode, func(t *testing.T) {
			g := newGround(t, func(c *Config) { c.Traffic.Mode = mode })
			one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
			g.must(g.Serve(t.Context(), one))
			g.answers(one)
			g.forward(two)
			g.answers(two)
			g.signal(two, syscall.SIGKILL)
			g.until("the take-over", func() bool { return len(g.told("takeover")) == 1 })
			g.answers(one)
			was := g.pid(one)
			g.signal(one, syscall.SIGKILL)
			g.until("the restart", func() bool { return len(g.told("restart")) == 1 })
			g.answers(one)
			if now := g.pid(one); now == was || now == 0 {
				t.Errorf("pid %d after %d", now, was)
			}
			if n := len(g.told("start")); n != 3 {
				t.Errorf("%d starts, want 3: what died in probation is not started again beside the one that took over", n)
			}
		})
	}
}

// A version that never takes over once it was left: it lost the traffic for a reason.
func TestRevertedVersionDoesNotTakeOver(t *testing.T) {
	g := newGround(t, nil)
	one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
	g.must(g.Serve(t.Context(), one))
	g.forward(two)
	g.must(g.Switch(t.Context(), one))
	g.signal(one, syscall.SIGKILL)
	g.until("the restart", func() bool { return len(g.told("restart")) == 1 })
	g.answers(one)
	g.Retire(two)
	g.Retire(one) // the last one: nothing is started any more
	g.until("the end of both", func() bool { return len(g.told("drain")) == 2 })
	if st, _ := g.site.health(); st != control.Unhealthy || g.pid(one) != 0 || len(g.told("restart")) != 1 {
		t.Errorf("health %v, pid %d, restarts %d", st, g.pid(one), len(g.told("restart")))
	}
}

// A candidate that ends as soon as it accepts costs nothing: the active version was not parked yet.
func TestCandidateDiesOnAccept(t *testing.T) {
	g := newGround(t, nil)
	one, two := g.release("1.0.0", ""), g.release("1.1.0", "die-on-accept")
	g.must(g.Serve(t.Context(), one))
	g.must(g.Warm(t.Context(), two))
	err := g.Switch(t.Context(), two)
	if err == nil { // it died a moment later: then one took over
		g.until("the take-over", func() bool { return len(g.told("takeover")) == 1 })
	}
	g.answers(one)
	if len(g.told("restart")) != 0 {
		t.Error("a version that died in the switch was started again")
	}
}

// While a candidate that crashed with nobody beside it is started again, the engine goes back: the candidate
// must not take the traffic from the version that the engine chose.
func TestRestartYieldsToTheEngine(t *testing.T) {
	g := newGround(t, nil)
	one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
	g.must(g.Serve(t.Context(), two)) // as after a reboot in probation
	for range 10 {
		was := g.pid(two)
		g.signal(two, syscall.SIGKILL)
		g.until("its end", func() bool { return g.pid(two) != was })
		g.must(g.Switch(t.Context(), one))
		g.answers(one)
		if !g.isServing(one) {
			t.Fatalf("%s serves", g.served().Number)
		}
		g.must(g.Switch(t.Context(), two))
		g.mu.Lock()
		g.events = nil
		g.mu.Unlock()
	}
}

// Nothing at boot asks how healthy the active version is.
func TestColdStartIsNotGatedOnHealth(t *testing.T) {
	g := newGround(t, func(c *Config) { c.Health.ReadyTimeout = time.Hour })
	one := g.release("1.0.0", "unhealthy")
	g.must(g.Serve(t.Context(), one))
	g.answers(one)
}

// A version that dies at its start is the keeper's affair and no reason to serve another one.
func TestServeLeavesAnEarlyDeathToTheKeeper(t *testing.T) {
	g := newGround(t, nil)
	g.must(g.Serve(t.Context(), g.release("1.0.0", "die-at-start")))
	g.until("the second start", func() bool { return len(g.told("exit")) >= 2 })
}

// A process that waits parked and hangs is replaced by a new one of the same version, not by an older version.
func TestHungSpareIsStartedAnew(t *testing.T) {
	g := newGround(t, nil)
	one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
	g.must(g.Serve(t.Context(), one))
	g.forward(two)
	was := g.pid(one)
	g.signal(one, syscall.SIGSTOP)
	g.must(g.Switch(t.Context(), one))
	if g.pid(one) == was {
		t.Error("the same process")
	}
	g.answers(one)
}

// A new version that stands still for a moment when it is to take connections is no bad one, as long as another one takes
// them; one that stands still for good is.
func TestNewVersionStandsStill(t *testing.T) {
	for name, still := range map[string]time.Duration{"a moment": wire.AckTimeout * 3 / 2, "for good": time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGround(t, nil)
			one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
			g.must(g.Serve(t.Context(), one))
			g.must(g.Warm(t.Context(), two))
			was := g.pid(two)
			g.signal(two, syscall.SIGSTOP)
			goesOn := time.AfterFunc(still, func() { _ = syscall.Kill(was, syscall.SIGCONT) })
			defer goesOn.Stop()
			err := g.Switch(t.Context(), two)
			if name == "for good" {
				if err == nil || !condemns(err) {
					t.Errorf("condemned %v: %v", err != nil && condemns(err), err)
				}
				g.answers(one)
				return
			}
			g.must(err)
			g.answers(two)
			if g.pid(two) != was {
				t.Error("it is not the same process")
			}
		})
	}
}

// The order to go back comes once, with the version to leave.
func TestCrashLoop(t *testing.T) {
	for _, policy := range []string{"rollback", "stay"} {
		t.Run(policy, func(t *testing.T) {
			g := newGround(t, func(c *Config) { c.Payload.CrashLoop = policy })
			one := g.release("1.0.0", "")
			g.must(g.Serve(t.Context(), one))
			g.site.mu.Lock()
			g.falls = falls{digest: one.Digest, row: crashLoop - 1} // the others took half a minute
			g.site.mu.Unlock()
			g.signal(one, syscall.SIGKILL)
			g.until("the verdict", func() bool { return len(g.told("alarm")) > 0 })
			if policy == "stay" {
				if len(g.orders) > 0 {
					t.Errorf("ordered %+v", g.orders)
				}
				return
			}
			g.until("the order", func() bool {
				g.mu.Lock()
				defer g.mu.Unlock()
				return len(g.orders) == 1 && g.orders[0].Kind == updater.OrderRollback && g.orders[0].Leaves == one.Digest && g.orders[0].Reason != ""
			})
		})
	}
}

// A machine that makes no processes for a while is waited for: that is held against no version, however often.
func TestNoProcessIsNoCrash(t *testing.T) {
	program := ""
	g := newGround(t, func(c *Config) {
		exe := c.Payload.Command[0]
		program = filepath.Join(c.State.Dir, "program")
		if err := os.Symlink(exe, program); err != nil {
			t.Fatal(err)
		}
		c.Payload.Command[0], c.Payload.RestartPause = program, time.Millisecond
	})
	one := g.release("1.0.0", "")
	g.must(g.Serve(t.Context(), one))
	g.must(os.Rename(program, program+".gone"))
	g.signal(one, syscall.SIGKILL)
	g.until("many starts in vain", func() bool { return len(g.told("alarm")) >= 2*crashLoop })
	for _, e := range g.told("alarm") {
		if !strings.Contains(e.Text, "cannot be started again") {
			t.Errorf("told: %s", e.Text)
		}
	}
	g.mu.Lock()
	if len(g.orders) > 0 {
		t.Errorf("ordered %+v", g.orders)
	}
	g.mu.Unlock()
	if _, trouble := g.health(); !strings.Contains(trouble, "signal: killed") || !strings.Contains(trouble, "no such file") {
		t.Errorf("status says: %s", trouble)
	}
	g.must(os.Rename(program+".gone", program))
	g.answers(one)
}

// A process is not started again before the end of the one before is in the books: it would be without its pause, and a
// crash loop would go unseen for one life more.
func TestEndIsBookedFirst(t *testing.T) {
	g := newGround(t, nil)
	one := g.release("1.0.0", "")
	g.must(g.Serve(t.Context(), one))
	m := g.living(one)
	g.traffic.Lock() // the keeper waits
	g.signal(one, syscall.SIGKILL)
	book := func(change func()) { g.site.mu.Lock(); defer g.site.mu.Unlock(); change() }
	g.until("the end is booked", func() (gone bool) { book(func() { gone = g.members[one.Digest] == nil }); return gone })
	book(func() { g.members[one.Digest] = m })
	g.traffic.Unlock()
	if v, looping, pause := g.bereft(); v.Digest != "" || looping || pause != 0 {
		t.Errorf("%s is started again, %v, %v", v.Number, looping, pause)
	}
	book(func() { delete(g.members, one.Digest) })
	g.wake()
	g.until("the next process", func() bool { return g.pid(one) != 0 })
}

// What was found without a process is not started any more once the engine has gone on to another version.
func TestStaleRestart(t *testing.T) {
	g := newGround(t, nil)
	one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
	g.must(g.Serve(t.Context(), one))
	g.must(g.Warm(t.Context(), two))
	g.must(g.Switch(t.Context(), two))
	for v, want := range map[journal.Version]bool{one: false, two: true} {
		ctx, done := g.attempting(v)
		if (ctx != nil) != want {
			t.Errorf("a restart of %s: want %v", v.Number, want)
		}
		if ctx != nil {
			done()
		}
	}
}

// An engine that begins again says what serves while the spare is taking over: the engine's word is the last.
func TestServeDuringATakeOver(t *testing.T) {
	g := newGround(t, nil)
	one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
	g.must(g.Serve(t.Context(), one))
	g.must(g.Warm(t.Context(), two))
	g.traffic.Lock()
	served := make(chan error)
	go func() { served <- g.Serve(t.Context(), two) }()
	for range 50 { // there is time for a mistake
		if g.isServing(two) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	g.promote(one) // the end of a take-over
	g.traffic.Unlock()
	g.must(<-served)
	g.answers(two)
	if !g.isServing(two) {
		t.Errorf("%s serves", g.served().Number)
	}
}

// The engine goes on while the keeper starts a process: nobody else would end what is not in the books yet.
func TestStartThatIsCutOff(t *testing.T) {
	g := newGround(t, nil)
	one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
	g.must(g.Serve(t.Context(), one))
	ctx, cancel := context.WithCancel(t.Context())
	emit := g.emit
	g.emit = func(e updater.Event) {
		if emit(e); e.Kind == "start" {
			cancel()
		}
	}
	if m, err := g.start(ctx, two); !errors.Is(err, context.Canceled) || m != nil {
		t.Errorf("%v, %v", m, err)
	}
	g.until("its end", func() bool { return g.pid(two) == 0 && len(g.Running()) == 1 })
	if told := g.told("exit"); len(told) > 0 {
		t.Errorf("told as a crash: %+v", told)
	}
	g.answers(one)
}

// An exchange that fails starts the old version again, and who connected meanwhile is answered by it.
func TestExchangeGoesBack(t *testing.T) {
	for _, mode := range []string{"handoff", "proxy"} {
		t.Run(mode, func(t *testing.T) {
			g := newGround(t, func(c *Config) {
				c.Traffic = TrafficConfig{Mode: mode, Strategy: "exclusive"}
			})
			one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
			bad := g.release("1.2.0", "never-ready")
			g.must(g.Serve(t.Context(), one))
			g.answers(one)
			g.must(g.Switch(t.Context(), two))
			g.answers(two)
			if g.pid(one) != 0 {
				t.Error("both run")
			}
			g.site.cfg.Health.ReadyTimeout = 3 * time.Second
			failed := make(chan error)
			go func() { failed <- g.Switch(t.Context(), bad) }()
			g.until("the start of the bad one", func() bool { return g.pid(bad) != 0 })
			got, err := g.answer()
			if err != nil || got != two.Number {
				t.Errorf("who waited got %q, %v", got, err)
			}
			if err := <-failed; err == nil {
				t.Error("no error")
			}
			g.answers(two)
			if g.pid(bad) != 0 || g.served().Digest != two.Digest {
				t.Errorf("pid %d of the bad one; %s serves", g.pid(bad), g.served().Number)
			}
		})
	}
}

// Nothing is started beside a process that survives SIGKILL. Here its host is closed, so that nothing reaches it.
func TestExchangeNeverRunsTwo(t *testing.T) {
	g := newGround(t, func(c *Config) {
		c.Payload.Kind, c.Health.Probe, c.Health.ReadyTimeout = "plain", "none", 100*time.Millisecond
		c.Traffic = TrafficConfig{Mode: "proxy", Strategy: "exclusive"}
	})
	one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
	g.must(g.Serve(t.Context(), one))
	g.sv.host.Close()
	other, err := child.New(child.Options{
		Disk: g.sv.disk, Dir: filepath.Join(g.dir, "run2"), Wire: filepath.Join(g.dir, "wire2"), Output: filepath.Join(g.dir, "log"), Log: g.sv.log,
	})
	g.must(err)
	defer other.Close()
	g.site.host = other
	if err := g.Switch(t.Context(), two); err == nil || !strings.Contains(err.Error(), "survives") || isBad(err) {
		t.Errorf("switch: %v", err)
	}
	if g.pid(two) != 0 {
		t.Error("both run")
	}
	if m := g.living(two); m != nil {
		m.proc.Stop(t.Context(), 0)
	}
	g.rest()
	g.closeSockets()
	g.boot() // which finds the survivor by its record, and ends it with the test
}

// If the way back of an exchange fails too, connections are reset and do not wait for ever.
func TestExchangeReleasesWhenNothingStarts(t *testing.T) {
	g := newGround(t, func(c *Config) {
		c.Traffic = TrafficConfig{Mode: "proxy", Strategy: "exclusive"}
		c.Health.ReadyTimeout = 500 * time.Millisecond
	})
	one, bad := g.release("1.0.0", ""), g.release("1.1.0", "die-at-start")
	g.must(g.Serve(t.Context(), one))
	g.answers(one)
	g.must(os.Chmod(g.store.Dir(one), 0o755))
	g.must(os.Remove(g.store.File(one)))
	if err := g.Switch(t.Context(), bad); err == nil {
		t.Fatal("no error")
	}
	g.until("a reset", func() bool {
		_, err := g.answer()
		return errors.Is(err, syscall.ECONNRESET) || err != nil && strings.Contains(err.Error(), "EOF")
	})
}

// Close ends what serves, what waits, what drains and what is being started, and waits for all of it.
func TestCloseLeavesNothing(t *testing.T) {
	for _, mode := range []string{"handoff", "proxy"} {
		t.Run(mode, func(t *testing.T) {
			g := newGround(t, func(c *Config) { c.Traffic.Mode = mode; c.Drain.Deadline, c.Drain.Stream = time.Minute, time.Minute })
			one, two, three := g.release("1.0.0", ""), g.release("1.1.0", ""), g.release("1.2.0", "never-ready")
			g.must(g.Serve(t.Context(), one))
			stuck, err := net.Dial("tcp", g.sockets[0].Addr().String()) // a connection that never ends
			g.must(err)
			defer stuck.Close()
			_, err = stuck.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
			g.must(err)
			if _, err := bufio.NewReader(stuck).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			g.forward(two)
			pids := []int{g.pid(one), g.pid(two)}
			g.Retire(one)
			warm := make(chan error)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { warm <- g.Warm(ctx, three) }()
			g.until("the start of the third", func() bool { return g.pid(three) != 0 })
			pids = append(pids, g.pid(three))
			cancel()
			<-warm
			limit, done := context.WithTimeout(t.Context(), 3*time.Second)
			defer done()
			begun := time.Now()
			g.Close(limit)
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
			for _, pid := range pids {
				if syscall.Kill(pid, 0) == nil {
					t.Errorf("pid %d is left", pid)
				}
			}
			records, err := os.ReadDir(filepath.Join(g.dir, "run"))
			if err != nil || len(records) > 0 {
				t.Errorf("records left: %v, %v", records, err)
			}
			noGoroutines(t)
		})
	}
}

// noGoroutines fails the test if something of a site still runs.
func noGoroutines(t *testing.T) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(stack, "main.(*site)") && !strings.Contains(stack, "noGoroutines") {
			t.Errorf("left:\n%s", stack)
		}
	}
}

// At most two old versions drain at once.
func TestGenerations(t *testing.T) {
	g := newGround(t, func(c *Config) {
		c.Drain.Deadline, c.Drain.Stream, c.Drain.Idle = time.Minute, time.Minute, time.Minute
	})
	g.must(g.Serve(t.Context(), g.release("1.0.0", "")))
	for _, number := range []string{"1.1.0", "1.2.0", "1.3.0", "1.4.0"} {
		c, err := net.Dial("tcp", g.sockets[0].Addr().String())
		g.must(err)
		defer c.Close()
		_, err = c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
		g.must(err)
		_, err = bufio.NewReader(c).ReadString('\n')
		g.must(err)
		old := g.served()
		g.forward(g.release(number, ""))
		g.Retire(old)
		g.until("at most two", func() bool {
			g.site.mu.Lock()
			defer g.site.mu.Unlock()
			return len(g.leaving) <= generations
		})
	}
}
