package main

import (
	"bufio"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
	"github.com/turnstone-go/turnstone/updater"
)

// A candidate passes its probation when it has answered enough, or the version that waits has no
// connection left that could have come to it, or twice the time has passed.
func TestProbationWaitsForTraffic(t *testing.T) {
	const enough = 5
	for name, come := range map[string]func(g *ground, candidate *member, parked net.Conn){
		"answers": func(g *ground, candidate *member, _ net.Conn) {
			for range enough {
				if got, err := g.answer(); err != nil || got != candidate.name() {
					g.t.Fatalf("%q, %v answers, want %s", got, err, candidate.name())
				}
			}
		},
		"connections": func(_ *ground, _ *member, parked net.Conn) { parked.Close() },
		"time": func(g *ground, candidate *member, _ net.Conn) {
			candidate.mark(func(m *member) { m.opened = m.opened.Add(-time.Hour) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGround(t, func(c *Config) { c.Probation.Time = time.Hour })
			one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
			g.must(g.Serve(t.Context(), one))
			parked := g.stay()
			defer parked.Close()
			g.forward(two)
			g.until("the connection counts", func() bool { return g.connections(g.living(one)) == 1 })
			m := g.living(two)
			m.mark(func(m *member) { m.opened = m.opened.Add(-90 * time.Minute) }) // longer than the time, not twice as long
			looked, passed := make(chan bool), make(chan error, 1)
			w := updater.Watch{Candidate: two, Baseline: one, MinRequests: enough, Tick: func(time.Duration) {
				select {
				case looked <- true:
				default:
				}
			}}
			go func() { passed <- g.Watch(t.Context(), w) }()
			select {
			case <-looked:
			case err := <-passed:
				t.Fatalf("it is over at once: %v", err)
			}
			come(g, m, parked)
			select {
			case err := <-passed:
				g.must(err)
			case <-time.After(20 * time.Second):
				t.Error("it is never over")
			}
		})
	}
}

// stay opens a connection to what serves, on which an answer has begun that never ends.
func (g *ground) stay() net.Conn {
	g.t.Helper()
	c, err := net.Dial("tcp", g.sockets[0].Addr().String())
	g.must(err)
	_, err = c.Write([]byte("GET /stay HTTP/1.1\r\nHost: x\r\n\r\n"))
	g.must(err)
	_, err = bufio.NewReader(c).ReadString('\n')
	g.must(err)
	return c
}

// What a candidate is compared with is what the version before answered in its last ten minutes or so, and not what it did
// before them.
func TestUsualIsOfTheLastTenMinutes(t *testing.T) {
	g := newGround(t, nil)
	one := g.release("1.0.0", "")
	g.must(g.Serve(t.Context(), one))
	m := g.living(one)
	g.answers(one)
	g.until("ten answers", func() bool { return m.proc.Stats().Requests == 10 })
	began := m.proc.Began()
	for _, tc := range []struct {
		after time.Duration // of its start
		want  uint64
	}{{5 * time.Minute, 10}, {15*time.Minute - 1, 10}, {15 * time.Minute, 0}} {
		m.count(began.Add(tc.after), m.proc.Stats())
		if got := m.usual(); got != (wire.Stats{Requests: tc.want, Open: got.Open, Idle: got.Idle, Active: got.Active}) {
			t.Errorf("%s after its start: %+v, want %d requests", tc.after, got, tc.want)
		}
	}
}

// What takes more memory than it may is turned away when the version before takes less, or is not there to be asked; what
// both need is for an operator to allow.
func TestMemoryIsComparedWithTheVersionBefore(t *testing.T) {
	g := newGround(t, func(c *Config) { c.Probation.MemoryMB, c.Probation.Fall = 1, 3 }) // every process takes more
	one, two := g.release("1.0.0", ""), g.release("1.1.0", "")
	g.must(g.Serve(t.Context(), one))
	g.forward(two)
	m, base := g.living(two), g.living(one)
	for range 10 {
		g.must(g.weigh(m, base))
	}
	for n := range 3 {
		if err := g.weigh(m, nil); errors.Is(err, errHeavy) != (n == 2) {
			t.Errorf("look %d without the version before: %v", n+1, err)
		}
	}
}
