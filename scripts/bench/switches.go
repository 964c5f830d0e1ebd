package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/updater"
)

// What must be going on at a switch that counts. Under Wine, whose one server works for every process, fewer
// requests go through.
const (
	leastConnections      = 64
	leastPerSecond        = 500
	leastPerSecondWindows = 100
)

// drain is how old versions end here. It is short enough for the wait between two switches: at most two old
// versions drain at a time, and a third would cut the oldest.
type drain struct{ deadline, idle, stream time.Duration }

func (d drain) toml() string {
	return fmt.Sprintf("deadline = %q\nidle = %q\nstream = %q\nkill = \"2s\"\n", d.deadline, d.idle, d.stream)
}

// campaign is many switches of one service under load.
type campaign struct {
	*service
	load     *load.Load // whose losses count
	beside   *load.Load // clients of other kinds
	switches int
	pace     int // requests per second that must be going on at a switch that counts
	drain    drain

	mu    sync.Mutex
	at    []load.InFlight // what was in flight at each switch
	milli []float64       // that each took
}

// spare is how many switches more than wanted are made at most, for those that do not count.
const spare = 50

// counts says whether enough was going on.
func (c *campaign) counts(f load.InFlight) bool {
	return f.Connections >= leastConnections && f.PerSecond >= c.pace
}

// counted returns the switches that count.
func (c *campaign) counted() (list []load.InFlight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.at {
		if c.counts(f) {
			list = append(list, f)
		}
	}
	return list
}

// watch notes what is in flight at the moment in which the launcher says that new connections have moved.
func (c *campaign) watch() {
	c.told.each(func(e updater.Event) {
		if _, moved := e.Figures["accept_ms"]; e.Kind != "switch" || !moved {
			return
		}
		f := c.load.InFlight()
		f.Connections += c.beside.InFlight().Connections
		c.mu.Lock()
		defer c.mu.Unlock()
		c.at = append(c.at, f)
		apart := ""
		if !c.counts(f) {
			apart = " (does not count)"
		}
		fmt.Printf("switch %3d to %s: %s%s\n", len(c.at), e.Number, f, apart)
	})
}

// run makes the switches, each with a release of its own, and waits until every old version has ended. What
// is lost at a switch that does not count is lost all the same.
func (c *campaign) run(ctx context.Context) error {
	c.watch()
	for n := 0; n < c.switches+spare && len(c.counted()) < c.switches; n++ {
		v, err := c.publish(ctx, c.good)
		if err == nil {
			err = c.settled(ctx, 1)
		}
		if err == nil {
			err = c.flow(ctx)
		}
		if err != nil {
			return err
		}
		entry, err := c.update(ctx, v)
		if err == nil && entry.Outcome != updater.Committed {
			err = fmt.Errorf("the update to %s was %s: %s\n%s", v, entry.Outcome, entry.Reason, c.Log())
		}
		if err != nil {
			return err
		}
		c.milli = append(c.milli, entry.SwitchMS)
	}
	return c.settled(ctx, 0)
}

// flow waits until the load is what it has to be at a switch.
func (c *campaign) flow(ctx context.Context) error {
	for range 600 {
		f := c.load.InFlight()
		if f.PerSecond >= c.pace && f.Slow150 > 0 && f.Slow2000 > 0 {
			return nil
		}
		stage.Wait(ctx, 50*time.Millisecond)
	}
	return fmt.Errorf("the load does not flow: %s", c.load.InFlight())
}

// handoff measures what clients of every kind lose while the payload takes its connections by itself.
func (b *bench) handoff(ctx context.Context) (err error) {
	d := drain{deadline: 10 * time.Second, idle: 5 * time.Second, stream: 6 * time.Second}
	c, err := b.campaign(ctx, d, map[string]string{
		"health":    "interval = \"100ms\"\n",
		"probation": "time = \"300ms\"\nmin_requests = 50\n",
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	c.load = load.Start(load.Options{Address: c.Listen, Upgrade: "/upgrade?stay", Workers: map[load.Class]int{
		load.KeepAlive: 48, load.Fresh: 32, load.H2: 8, load.Stream: 8, load.Quiet: 16, load.Idler: 8,
	}})
	defer c.load.Stop()
	c.beside = load.Start(load.Options{Address: c.Listen, Workers: map[load.Class]int{load.Stream: 8}})
	defer c.beside.Stop()
	if err := c.run(ctx); err != nil {
		return err
	}
	r, polite := c.load.Stop(), c.beside.Stop()
	b.lost(r, load.KeepAlive, load.Quiet, load.Fresh, load.H2)
	b.note("apart: idle for longer than the grace", float64(r.Losses[load.Idler].Retryable), "retryable",
		fmt.Sprintf("of %d requests with 8 s of silence, grace %s; failed %d", r.Classes[load.Idler], d.idle, r.Losses[load.Idler].Failed))
	b.streams(c, r)
	b.atMost(0, "streams that are told: cut without a goodbye", float64(polite.StreamsCut), "", fmt.Sprintf("%d told", polite.StreamsTold))
	b.conditions(c, r)
	return nil
}

// proxy measures what clients lose while the launcher forwards to a program that knows nothing of it. Such
// a program cannot send its clients elsewhere, so only new connections are free of losses; what stays on the
// old version until the deadline is cut, and counted by both sides.
func (b *bench) proxy(ctx context.Context) (err error) {
	d := drain{deadline: 3 * time.Second, idle: time.Second, stream: 3 * time.Second}
	c, err := b.campaign(ctx, d, map[string]string{
		"payload":   "kind = \"plain\"\nuser = \"same\"\ncommand = [\"{{.Exe}}\", \"-addr\", \"127.0.0.1:{{.Port}}\"]\n",
		"health":    "interval = \"100ms\"\n",
		"probation": "time = \"300ms\"\nmin_requests = 50\n",
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	c.load = load.Start(load.Options{Address: c.Listen, Pause: 120 * time.Millisecond, Workers: map[load.Class]int{load.Fresh: 256}})
	defer c.load.Stop()
	c.beside = load.Start(load.Options{Address: c.Listen, Workers: map[load.Class]int{load.KeepAlive: 8, load.Stream: 8}})
	defer c.beside.Stop()
	if err := c.run(ctx); err != nil {
		return err
	}
	r, old := c.load.Stop(), c.beside.Stop()
	b.lost(r, load.Fresh)
	kept := old.Losses[load.KeepAlive]
	b.note("apart: cut by the deadline, as clients saw it", float64(kept.Failed+kept.Retryable+old.StreamsCut), "",
		fmt.Sprintf("%d kept-alive connections, %d streams; refused %d", kept.Failed+kept.Retryable, old.StreamsCut, kept.Refused))
	b.note("apart: cut by the deadline, as the launcher counted", c.cutByLauncher(), "", "deadline "+d.deadline.String())
	b.conditions(c, r)
	return nil
}

// campaign starts a service of good releases with the stage's tables in place of its own.
func (b *bench) campaign(ctx context.Context, d drain, tables map[string]string) (*campaign, error) {
	good, err := b.newLine(ctx, "")
	if err != nil {
		return nil, err
	}
	tables["drain"] = d.toml()
	s, err := b.serve(ctx, good, stage.Options{Config: tables})
	often, pace := 100, leastPerSecond
	if b.windows {
		often, pace = 30, leastPerSecondWindows
	}
	return &campaign{service: s, switches: b.runs(often, 6), pace: pace, drain: d}, err
}

// lost adds what the clients of these classes lost: nothing is allowed.
func (b *bench) lost(r load.Report, classes ...load.Class) {
	sum := load.Losses{}
	for _, class := range classes {
		x := r.Losses[class]
		sum = load.Losses{Refused: sum.Refused + x.Refused, Failed: sum.Failed + x.Failed, Retryable: sum.Retryable + x.Retryable}
	}
	b.atMost(0, "refused", float64(sum.Refused), "", "")
	b.atMost(0, "failed", float64(sum.Failed), "", "a fresh connection cut, or any broken answer")
	b.atMost(0, "retryable", float64(sum.Retryable), "", "a reused connection died before the first byte")
	for _, class := range classes {
		x := r.Losses[class]
		b.atMost(0, "lost by class "+string(class), float64(x.Refused+x.Failed+x.Retryable), "", fmt.Sprintf("of %d requests", r.Classes[class]))
	}
	for _, text := range r.Samples {
		b.say("  lost: %s", text)
	}
}

// streams adds how upgraded connections ended that are not told to: at the deadline of their own, which
// begins with the drain of the version that they are on, and no sooner.
func (b *bench) streams(c *campaign, r load.Report) {
	begun := map[string]time.Time{}
	for _, e := range c.told.all(func(e updater.Event) bool { return e.Kind == "drain" && e.Figures == nil }) {
		if _, known := begun[e.Number]; !known {
			begun[e.Number] = e.At
		}
	}
	var lived []float64
	early := 0
	for _, end := range r.Ends {
		at, drains := begun[strings.TrimPrefix(end.Server, "example/")]
		left := end.At.Sub(at)
		if !drains || left < c.drain.stream || end.Told {
			early++
			b.say("  early: a stream of %s, opened %s, ended %s, %s after the drain began", end.Server, end.Opened.Format("15:04:05.000"), end.At.Format("15:04:05.000"), left)
			continue
		}
		lived = append(lived, left.Seconds())
	}
	b.atMost(0, "streams left alone: ended before their deadline", float64(early), "",
		fmt.Sprintf("%d of 8 at a time lived to it, %.2f to %.2f s into the drain, deadline %s; the launcher counted %.0f cut, with idlers too late",
			len(lived), quantile(lived, 0), quantile(lived, 1), c.drain.stream, c.cutByLauncher()))
}

// cutByLauncher adds up what the drains of all versions cut.
func (c *campaign) cutByLauncher() (cut float64) {
	for _, e := range c.told.all(func(e updater.Event) bool { return e.Kind == "drain" }) {
		cut += e.Figures["cut"]
	}
	return cut
}

// conditions adds what was going on at the switches.
func (b *bench) conditions(c *campaign, r load.Report) {
	b.atLeast(float64(c.switches), "switches that count", float64(len(c.counted())), "",
		fmt.Sprintf("of %d; %d requests, %.0f/s on average", len(c.at), r.Requests, r.PerSecond))
	b.atLeast(float64(len(c.at)+1), "versions that answered clients", float64(len(r.Versions)), "", "")
	least := func(at []load.InFlight, name string, target float64, of func(load.InFlight) int) {
		var all []float64
		for _, f := range at {
			all = append(all, float64(of(f)))
		}
		b.atLeast(target, name, quantile(all, 0), "", fmt.Sprintf("the least; median %.0f", median(all)))
	}
	least(c.counted(), "at each that counts: connections", leastConnections, func(f load.InFlight) int { return f.Connections })
	least(c.counted(), "at each that counts: requests in the second before", float64(c.pace), func(f load.InFlight) int { return f.PerSecond })
	least(c.at, "at every switch: requests of 150 ms in flight", 1, func(f load.InFlight) int { return f.Slow150 })
	least(c.at, "at every switch: requests of 2 s in flight", 1, func(f load.InFlight) int { return f.Slow2000 })
	if r.Classes[load.Stream] > 0 {
		least(c.at, "at every switch: streams open", 1, func(f load.InFlight) int { return f.Streams })
	}
	alarms := c.told.all(func(e updater.Event) bool { return e.Kind == "alarm" })
	for _, e := range alarms {
		b.say("  alarm: %s %s %s", e.Number, e.Text, e.Err)
	}
	b.atMost(0, "alarms of the launcher", float64(len(alarms)), "", "")
	b.note("a switch, until all was acknowledged", median(c.milli), "ms", fmt.Sprintf("median; slowest %.1f ms", quantile(c.milli, 1)))
	b.note("slowest request", r.WorstMs, "ms", "beyond what it asked for")
}
