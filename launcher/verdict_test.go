package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
	"github.com/turnstone-go/turnstone/launcher/probe"
)

// look is the longest time from one look at a candidate in probation to the next.
func (c Config) look() time.Duration {
	return max(min(c.Health.Interval, longestPause), c.Health.Timeout)
}

// pauses are those before the starts of a version that ends until crash_loop decides.
func (c Config) pauses() (sum time.Duration) {
	var f falls
	now := time.Now()
	for range crashLoop - 1 {
		f.add("a", 0, c.Payload.RestartPause, now)
		sum += f.due.Sub(now)
	}
	return sum
}

// verdicts are the rows of the table of bad releases in docs/OPERATIONS.md: how it says the time within which
// the verdict comes, and that time.
var verdicts = []struct {
	release, formula string
	within           func(Config) time.Duration
}{
	{"**ends** while it warms up, with any code", "at once", func(Config) time.Duration { return 0 }},
	{"is **never ready**", "`ready_timeout` + `timeout`", func(c Config) time.Duration { return c.Health.ReadyTimeout + c.Health.Timeout }},
	{"says that it is ready, and is never healthy", "2 × `ready_timeout` + `timeout`", func(c Config) time.Duration { return 2*c.Health.ReadyTimeout + c.Health.Timeout }},
	{"another process **answers at its port**", "`ready_timeout` + `timeout`", func(c Config) time.Duration { return c.Health.ReadyTimeout + c.Health.Timeout }},
	{"**crashes** in probation", "at once", func(Config) time.Duration { return 0 }},
	{"ends in probation with **exit code 0**", "at once", func(Config) time.Duration { return 0 }},
	{"its **health fails**", "(`fall` + 1) looks", func(c Config) time.Duration { return time.Duration(c.Probation.Fall+1) * c.look() }},
	{"**hangs**, health included", "(`fall` + 1) looks", func(c Config) time.Duration { return time.Duration(c.Probation.Fall+1) * c.look() }},
	{"its health **flaps**", "(4 × `fall` + 1) looks", func(c Config) time.Duration { return time.Duration(4*c.Probation.Fall+1) * c.look() }},
	{"answers **5xx**, healthy by its probe", "1 s + 2 looks after its 20th answer", func(c Config) time.Duration { return wire.StatsPeriod + 2*c.look() }},
	{"takes **more memory** than `memory_mb`", "(`fall` + 1) looks after it passed the limit", func(c Config) time.Duration { return time.Duration(c.Probation.Fall+1) * c.look() }},
	{"is unwell, and the version before it is as well at the same moment", "", nil},
	{"takes **longer to start** than `probation.time`", "", nil},
	{"is committed, and ends five times in a row within a minute each", "the pauses, 0, then `restart_pause`, doubling, and five lives", Config.pauses},
}

// The page for operators has these rows in this order, with the values by default that the code has, and a test of
// the built launcher for each (that those exist is for internal/floors).
func TestVerdictsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(text), "### Bad releases")
	part, _, _ = strings.Cut(part, "\n## ")
	var rows [][]string
	for line := range strings.Lines(part) {
		if cells := strings.Split(line, "|"); strings.HasPrefix(line, "| ") {
			for i := range cells {
				cells[i] = strings.TrimSpace(cells[i])
			}
			rows = append(rows, cells[1:len(cells)-1])
		}
	}
	if len(rows) != len(verdicts)+1 {
		t.Fatalf("%d rows and a head, want %d", len(rows)-1, len(verdicts))
	}
	c := defaultConfig()
	c.Payload.RestartPause = firstPause
	for i, v := range verdicts {
		row := rows[i+1]
		if len(row) != 6 {
			t.Fatalf("row %q has %d cells", row, len(row))
		}
		within := ""
		if v.within != nil {
			within = fmt.Sprint(v.within(c))
		}
		if row[0] != v.release || row[2] != v.formula || row[3] != within {
			t.Errorf("row %d is %q, want %q, within %q, by default %q", i+1, row, v.release, v.formula, within)
		}
		if !strings.HasPrefix(row[5], "`e2e` Test") {
			t.Errorf("%s: no test of the built launcher is named: %q", v.release, row[5])
		}
	}
}

// within is the time of a row.
func within(t *testing.T, release string, c Config) time.Duration {
	t.Helper()
	for _, v := range verdicts {
		if v.release == release {
			return v.within(c)
		}
	}
	t.Fatalf("no row %q", release)
	return 0
}

// patient is what a judge in a bubble meets: a candidate and what it answers.
type patient struct {
	took   []time.Duration                // the answers, in turn
	well   func(since time.Duration) bool // by the moment at which it was asked
	bad    func() uint64                  // answers with 5xx by now, and no others
	heavy  func() bool
	begun  time.Time
	judge  *probe.Judge
	streak streak
	looks  int
}

// judged is when it was condemned, counted from the begin.
func (p *patient) judged(t *testing.T, c Config) time.Duration {
	t.Helper()
	p.begun = time.Now()
	p.judge = probe.NewJudge(probe.Rules{Fall: c.Probation.Fall, Errors: c.Probation.Errors, Baseline: wire.Stats{Requests: 1000}})
	err := rounds{
		pause: min(c.Health.Interval, longestPause), look: func(ctx context.Context) error { return p.look(c) },
		passed: func() bool { return true }, tick: func(time.Duration) {},
	}.run(t.Context(), time.Hour)
	if err == nil {
		t.Error("never condemned")
	}
	return time.Since(p.begun)
}

func (p *patient) look(c Config) error {
	r := probe.Result{OK: p.well == nil || p.well(time.Since(p.begun)), At: time.Now()}
	time.Sleep(p.took[p.looks%len(p.took)])
	p.looks++
	var s wire.Stats
	if p.bad != nil {
		s.Requests, s.Errors5xx = p.bad(), p.bad()
	}
	err := p.judge.Feed(r, &probe.Result{OK: true, At: r.At}, s)
	if err == nil && p.heavy != nil && p.streak.add(p.heavy(), c.Probation.Fall) {
		err = errHeavy
	}
	return err
}

// Every verdict of a probation comes within its stated time, whenever the fault begins, whatever the configuration is and
// however long the answers take up to the timeout; and what is stated is no idle promise, of more than twice what it can take.
func TestVerdictsComeInTime(t *testing.T) {
	for _, c := range []Config{defaultConfig(), setting(20*time.Millisecond, 2*time.Second, 3), setting(time.Hour, 100*time.Millisecond, 2), setting(300*time.Millisecond, 400*time.Millisecond, 5)} {
		for release, fault := range map[string]func(at time.Duration) *patient{
			"its **health fails**": func(at time.Duration) *patient {
				return &patient{well: func(since time.Duration) bool { return since < at }}
			},
			"its health **flaps**": func(at time.Duration) *patient {
				n := 0
				return &patient{well: func(since time.Duration) bool {
					if since >= at {
						n++
					}
					return n%2 == 0
				}}
			},
			"takes **more memory** than `memory_mb`": func(at time.Duration) *patient {
				p := &patient{}
				p.heavy = func() bool { return time.Since(p.begun) >= at }
				return p
			},
			"answers **5xx**, healthy by its probe": func(at time.Duration) *patient {
				p := &patient{}
				p.bad = func() uint64 { // 20 at that moment, just after the payload had reported
					if time.Since(p.begun) >= at+wire.StatsPeriod {
						return 20
					}
					return 0
				}
				return p
			},
		} {
			least, most := time.Hour, time.Duration(0)
			for step := range 40 {
				at := 10*c.look() + time.Duration(step)*c.look()/20
				for _, took := range [][]time.Duration{{0}, {c.Health.Timeout / 3}, {c.Health.Timeout}, {0, c.Health.Timeout}, {c.Health.Timeout, 0}} {
					synctest.Test(t, func(t *testing.T) {
						p := fault(at)
						p.took = took
						late := p.judged(t, c) - at
						least, most = min(least, late), max(most, late)
					})
				}
			}
			if bound := within(t, release, c); least < 0 || most > bound || 2*most < bound {
				t.Errorf("%s, pause %s, timeout %s, fall %d: condemned %s to %s after its begin, stated are %s",
					release, c.Health.Interval, c.Health.Timeout, c.Probation.Fall, least, most, bound)
			}
		}
	}
}

func setting(interval, timeout time.Duration, fall int) Config {
	c := defaultConfig()
	c.Health.Interval, c.Health.Timeout, c.Probation.Fall = interval, timeout, fall
	return c
}

// A stretch of a probation passes when its time is over and nothing else is missing, and ends with its context.
func TestRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, looks, left := time.Now(), 0, time.Duration(0)
		r := rounds{
			pause: time.Second, look: func(context.Context) error { looks++; return nil },
			passed: func() bool { return time.Since(begun) >= 20*time.Second }, tick: func(l time.Duration) { left = l },
		}
		if err := r.run(t.Context(), 10*time.Second); err != nil || time.Since(begun) != 20*time.Second || looks != 21 {
			t.Errorf("passed after %s and %d looks: %v", time.Since(begun), looks, err)
		}
		order := errors.New("an order")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(2500*time.Millisecond, func() { cancel(order) })
		if err := r.run(ctx, 10*time.Second); !errors.Is(err, order) || left != 8*time.Second {
			t.Errorf("ended with %v, %s left", err, left)
		}
	})
}
