package payload

import (
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
)

// Bounds of a drain beside those of the launcher.
const (
	freshPatience = 5 * time.Second        // a connection that has sent nothing by then counts as idle
	queueAccept   = 100 * time.Millisecond // for what waits in the queue of a listener of our own, which nobody else empties
	lateAccept    = 500 * time.Millisecond // instead, while something is inside
	settleLimit   = time.Second            // for an accept loop to register what it was given last
	lastRound     = 2 * time.Second        // for the final GOAWAY, which net/http follows by a second of waiting
	overtime      = 100 * time.Millisecond // instead, when the deadline has passed and a handler may be stuck
	idleSpread    = 5 * time.Millisecond   // between the ends of two idle connections
	streamSpread  = 20 * time.Millisecond  // between the goodbyes of two streams
	closeLinger   = time.Second            // for a client to see that its idle connection has ended
)

// drain finishes what the process has. It begins once; a second call returns at once.
//
// http.Server.Shutdown alone would lose requests: it closes idle connections whose next request may be on
// its way, and a connection whose first request is read after Shutdown has begun is closed without an
// answer (golang/go#75591). So it comes last, when there is nothing left that it could hurt:
//
//  1. accept nothing more, and end every connection with its next answer;
//  2. wait until no connection has a request inside or has not yet been heard of;
//  3. meanwhile, when their grace is over, end the idle ones, one after the other;
//  4. streams are told to finish and have a deadline of their own;
//  5. Shutdown, and Close for what a deadline left.
func (p *program) drain(grace wire.Grace) { p.beginDrain(&grace)() }

// beginDrain does step 1 and returns what does the rest. Without a grace it takes the default.
func (p *program) beginDrain(grace *wire.Grace) (finish func()) {
	if !p.enter(draining) {
		return func() {}
	}
	if grace == nil {
		grace = &defaultGrace
	}
	d := &drainage{p: p, grace: *grace, begin: time.Now(), ended: make(map[*conn]time.Time)}
	p.orders.Lock() // an accept under way ends first
	defer p.orders.Unlock()
	p.leave()
	p.lease.close()
	_ = p.parkGates() // a gate that cannot be shut is closed with the process
	d.quiet = !slices.ContainsFunc(p.openGates(), (*gate).isOpen)
	return d.finish
}

func (d *drainage) finish() {
	var told sync.WaitGroup
	told.Go(d.runHooks)
	told.Go(d.tellStreams)
	d.wait()
	told.Wait()
	d.shutdown()
	d.p.link.report(d.p.stats())
	d.p.health.close()
	d.p.enter(drained)
	close(d.p.done)
}

// drainage is one drain under way.
type drainage struct {
	p     *program
	grace wire.Grace
	begin time.Time
	quiet bool // our own listeners are closed
	ended map[*conn]time.Time
	next  time.Time // when the next idle connection may be ended
}

func (d *drainage) runHooks() {
	ctx, cancel := context.WithDeadline(context.Background(), d.begin.Add(d.grace.Deadline))
	defer cancel()
	d.p.mu.Lock()
	hooks := slices.Clone(d.p.drainHook)
	d.p.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var wg sync.WaitGroup
		for _, f := range hooks {
			wg.Go(func() { f(ctx) })
		}
		wg.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done(): // the process ends whatever they do
	}
}

// tellStreams ends the contexts of the streams, spread over at most half of their time.
func (d *drainage) tellStreams() {
	d.p.mu.Lock()
	all := make([]*stream, 0, len(d.p.streams))
	for st := range d.p.streams {
		all = append(all, st)
	}
	d.p.mu.Unlock()
	for _, st := range all {
		if st.ctx.Err() != nil {
			continue // it has ended by itself
		}
		st.cancel()
		time.Sleep(min(streamSpread, d.grace.Stream/time.Duration(2*len(all))))
	}
}

// wait returns when nothing is left or every deadline has passed.
func (d *drainage) wait() {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		now := time.Now()
		if !d.look(now) {
			return
		}
		time.Sleep(pause)
	}
}

// look does what is due and reports whether there is something left to wait for.
func (d *drainage) look(now time.Time) (more bool) {
	spent := now.Sub(d.begin)
	late := spent >= d.grace.Deadline
	busy := !late && spent < settleLimit && !d.settled()
	left := false
	for _, s := range d.p.allServers() {
		l := s.levels()
		l.wait(now)
		if late {
			d.cut(s, l.active, 1)
			d.cut(s, append(l.fresh, l.idle...), 0)
		} else {
			busy = busy || len(l.active)+len(l.fresh) > 0
			left = d.endIdle(l.idle, now) || left
		}
		if spent >= d.grace.Stream {
			d.cut(s, l.streams, 1)
		} else {
			left = left || len(l.streams) > 0
		}
	}
	stopped := d.stopOwn(spent >= lateAccept || !busy && spent >= queueAccept)
	return left || busy || stopped || !d.quiet
}

// wait moves the connections that have sent nothing for long to the idle ones.
func (l *levels) wait(now time.Time) {
	fresh := l.fresh
	l.fresh = nil
	for _, c := range fresh {
		if now.Sub(c.since) > freshPatience {
			l.idle = append(l.idle, c)
		} else {
			l.fresh = append(l.fresh, c)
		}
	}
}

// settled reports whether every accepted connection is known to a server.
func (d *drainage) settled() bool {
	gates := d.p.openGates()
	var delivered uint64
	for _, g := range gates {
		delivered += g.count()
	}
	for _, g := range gates {
		if !g.settled(delivered == d.p.tracked.Load()) {
			return false
		}
	}
	return true
}

// stopOwn shuts the listeners that no other process shares, once the connections which were in their queue have
// been served: what is left there is reset. It reports whether it has done so now: one may have come in the meantime.
func (d *drainage) stopOwn(due bool) bool {
	if !due || d.quiet {
		return false
	}
	d.quiet = true
	for _, g := range d.p.openGates() {
		_ = g.shut(time.Second) // closed with the process at the latest
	}
	return true
}

// endIdle ends the idle connections whose grace is over and reports whether there are any. The write side
// goes first, and the connection itself when the client has answered or a moment later: closing it with
// unread bytes of the client would reset it, and could destroy an answer that is still on its way.
func (d *drainage) endIdle(idle []*conn, now time.Time) bool {
	left := false
	step := min(idleSpread, d.grace.Idle/time.Duration(2*len(idle)+1))
	for _, c := range idle {
		at, ended := d.ended[c]
		switch {
		case c.h2.Load() && now.Sub(d.begin) > time.Second:
			continue // it was told a second ago; Shutdown ends it in good order
		case ended && now.Sub(at) > closeLinger:
			_ = c.nc.Close() // it is over either way
		case !ended && !c.h2.Load() && c.idleFor(d.begin, now) >= d.grace.Idle && now.After(d.next):
			d.ended[c] = now
			d.next = maxTime(d.next, now.Add(-50*time.Millisecond)).Add(step)
			c.ending.Store(true)
			_ = closeWrite(c.nc) // the same
		}
		left = true
	}
	return left
}

// cut closes connections at their deadline; each counts as that many with work inside.
func (d *drainage) cut(s *server, conns []*conn, count uint64) {
	for _, c := range conns {
		s.cut.Add(count)
		s.conns.Delete(c.nc)
		_ = c.nc.Close() // it is over either way
	}
}

// shutdown ends the servers; nothing is inside any more, except HTTP/2 connections to be told so.
func (d *drainage) shutdown() {
	limit := lastRound
	if time.Since(d.begin) > d.grace.Deadline {
		limit = overtime
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range d.p.allServers() {
		wg.Go(func() {
			if s.srv.Shutdown(ctx) != nil {
				_ = s.srv.Close() // the process ends
			}
		})
	}
	wg.Wait()
	for _, g := range d.p.openGates() {
		_ = g.Close() // the process ends
	}
}

func closeWrite(nc net.Conn) error {
	if w, ok := nc.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nc.Close()
}
