// Package load puts a service under honest HTTP load and counts what a client loses, for the demo, the
// tests and the benchmarks.
//
// Honest means: no client here ever tries a request again. Go's own client silently repeats a GET whose
// reused connection died, which hides exactly the losses that a switch may cause; so requests are written
// and answers read by hand, on connections whose whole life is known.
//
// It is not a benchmark tool: workers keep a fixed pace.
package load

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Class is a way to use connections.
type Class string

const (
	KeepAlive Class = "keep-alive" // HTTP/1.1, one request after the other on one connection
	Fresh     Class = "new"        // HTTP/1.1, one connection for each request
	H2        Class = "h2c"        // HTTP/2 without TLS, several requests at once on one connection
	Stream    Class = "stream"     // an upgraded connection that echoes
	Quiet     Class = "quiet"      // keep-alive, but silent between requests for a while that is shorter than the grace
	Idler     Class = "idle"       // keep-alive, but silent between requests for longer than the grace
)

// Options says how much load. A zero count leaves the class out.
type Options struct {
	Address  string        // host:port
	Workers  map[Class]int // connections (Fresh: at a time) of each class
	Pause    time.Duration // of a worker between two requests; 0 is 50 ms
	Lull     time.Duration // of a Quiet worker between two requests; 0 is 3 s
	Silence  time.Duration // of an Idler between two requests; 0 is 8 s
	Patience time.Duration // bounds every single wait, far beyond what any request asks for; 0 is 20 s
	Path     string        // what an ordinary request asks for; "" is /
	Upgrade  string        // what a Stream asks for; "" is /upgrade
	NoSlow   bool          // the service has no /slow?ms=N, so ask for nothing slow
	HalfOpen bool          // connections of a process that died may stay open, as under Wine: who waits in vain may have met that when he asked
}

// Load is running load; Stop ends it.
type Load struct {
	opts  Options
	stop  context.CancelFunc
	wg    sync.WaitGroup
	book  book
	begun time.Time
}

// Start begins the load. Every worker runs until Stop.
func Start(o Options) *Load {
	o.Pause = cmp.Or(o.Pause, 50*time.Millisecond)
	o.Lull = cmp.Or(o.Lull, 3*time.Second)
	o.Silence = cmp.Or(o.Silence, 8*time.Second)
	o.Patience = cmp.Or(o.Patience, 20*time.Second)
	o.Path = cmp.Or(o.Path, "/")
	o.Upgrade = cmp.Or(o.Upgrade, "/upgrade")
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{opts: o, stop: cancel, begun: time.Now(), book: newBook()}
	if o.HalfOpen {
		l.book.halfOpen = o.Patience
	}
	run := map[Class]func(context.Context, *worker){
		KeepAlive: keepAlive, Fresh: keepAlive, Quiet: keepAlive, Idler: keepAlive, H2: http2, Stream: stream,
	}
	for class, n := range o.Workers {
		for i := range n {
			w := &worker{load: l, class: class, number: i}
			l.wg.Go(func() {
				if w.begin(ctx) {
					run[class](ctx, w)
				}
			})
		}
	}
	return l
}

// Stop ends the load, lets requests in flight finish, and returns the account.
func (l *Load) Stop() Report {
	l.stop()
	l.wg.Wait()
	return l.Report()
}

// InFlight is what was open at one moment.
type InFlight struct {
	Connections int `json:"connections"`
	Fast        int `json:"fast"` // ordinary requests inside
	Slow150     int `json:"slow_150ms"`
	Slow2000    int `json:"slow_2s"`
	Streams     int `json:"streams"`
	PerSecond   int `json:"per_second"` // answers in the second before
}

func (f InFlight) String() string {
	return fmt.Sprintf("%d connections, %d requests/s, in flight %d fast, %d of 150 ms, %d of 2 s, %d streams",
		f.Connections, f.PerSecond, f.Fast, f.Slow150, f.Slow2000, f.Streams)
}

// InFlight returns what is open now.
func (l *Load) InFlight() InFlight { return l.book.inFlight() }

// Crashed tells the account that the serving process died at that moment. Connections that were open then
// and break soon after (see excuse) are counted as cut by the crash, and as nothing else.
func (l *Load) Crashed(at time.Time) { l.book.crashed(at) }

// Outage tells the account that nobody took connections in that time, and that this was to be expected. What was lost
// then is counted as that, and as nothing else.
func (l *Load) Outage(from, to time.Time) {
	l.book.mu.Lock()
	defer l.book.mu.Unlock()
	l.book.outages = append(l.book.outages, outage{from, to})
}

// worker is one client.
type worker struct {
	load   *Load
	class  Class
	number int
	sent   int
}

const slowest = 2 * time.Second

// slow says how long the next request shall take inside the server: most take no time; a few take 150 ms,
// and every eighth worker of a class asks for two seconds over and over.
func (w *worker) slow() time.Duration {
	w.sent++
	switch {
	case w.load.opts.NoSlow:
		return 0
	case w.number%8 == 7:
		return slowest
	case (w.sent+w.number)%8 == 0 || w.number%8 == 6:
		return 150 * time.Millisecond
	}
	return 0
}

func (w *worker) path(slow time.Duration) string {
	if slow == 0 {
		return w.load.opts.Path
	}
	return fmt.Sprintf("/slow?ms=%d", slow.Milliseconds())
}

// pause is how long the worker is silent between two requests.
func (w *worker) pause() time.Duration {
	switch w.class {
	case Quiet:
		return w.load.opts.Lull
	case Idler:
		return w.load.opts.Silence
	}
	return w.load.opts.Pause
}

// begin spreads the first requests, so that workers of one kind do not march in step.
func (w *worker) begin(ctx context.Context) bool {
	spread := w.load.opts.Pause
	if w.number%8 == 7 && !w.load.opts.NoSlow {
		spread = 2 * time.Second
	}
	return wait(ctx, rand.N(spread))
}

// rest waits for the worker's pause, give or take a fifth, and says whether to go on.
func (w *worker) rest(ctx context.Context) bool {
	pause := w.pause()
	return wait(ctx, pause*4/5+rand.N(pause*2/5+1))
}

func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// deadline is when a wait that begins now has lasted too long.
func (w *worker) deadline() time.Time { return time.Now().Add(w.load.opts.Patience) }
