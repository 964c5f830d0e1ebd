package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Report is the account of a load.
type Report struct {
	Requests    int              `json:"requests"`
	Refused     int              `json:"refused"`                 // a connection was refused
	Failed      int              `json:"failed"`                  // cut on a fresh connection, or any broken answer
	Retryable   int              `json:"retryable"`               // a reused connection died before the first answer byte
	CutByCrash  int              `json:"cut_by_crash"`            // was open when the serving process died
	Outage      int              `json:"outage,omitempty"`        // of any kind, while it was known that nobody takes connections
	Nameless    int              `json:"nameless,omitempty"`      // whole answers that name no version
	OpenAt      []int            `json:"open_at_crash,omitempty"` // at each crash: the connections, one of HTTP/2 as often as it had requests
	Idle        int              `json:"idle_retryable"`          // retryable losses of clients that were silent for longer than the grace
	StreamsTold int              `json:"streams_told"`            // upgraded connections that the server ended with a goodbye
	StreamsCut  int              `json:"streams_cut"`             // and those that it ended without a word
	WorstMs     float64          `json:"worst_request_ms"`        // beyond the time that the request asked the server to take
	PerSecond   float64          `json:"requests_per_second"`
	Classes     map[Class]int    `json:"classes"` // requests of each
	Losses      map[Class]Losses `json:"losses,omitempty"`
	Versions    map[string]int   `json:"versions,omitempty"`
	Samples     []string         `json:"samples,omitempty"` // the first few losses in words, without those of streams and idlers
	Ends        []End            `json:"-"`                 // of upgraded connections, in the order of time
}

// Losses are what one class lost, without what a crash excuses.
type Losses struct {
	Refused   int `json:"refused"`
	Failed    int `json:"failed"`
	Retryable int `json:"retryable"`
}

// End is how the server ended an upgraded connection.
type End struct {
	Server     string // what the answer to the upgrade said it is
	Opened, At time.Time
	Told       bool // with a goodbye
}

// Lost says whether any request was lost that a crash does not excuse.
func (r Report) Lost() bool { return r.Refused+r.Failed+r.Retryable > 0 }

// loss is one request that got no whole answer.
type loss struct {
	class  Class
	kind   kind
	opened time.Time
	at     time.Time
	early  time.Duration // how long before the crash it may have been
	text   string
}

type kind string

const (
	refused   kind = "refused"
	failed    kind = "failed"
	retryable kind = "retryable"
	streamCut kind = "stream cut"
)

// lossKind is what an error before the first byte of an answer amounts to, on a connection that has brought
// that many answers. A server that says nothing for long has not died.
func lossKind(err error, served int) kind {
	var ne net.Error
	slow := errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
	if served > 0 && !slow {
		return retryable
	}
	return failed
}

// book is what all workers write to.
type book struct {
	mu       sync.Mutex
	requests map[Class]int
	versions map[string]int
	open     map[*conn]struct{}
	within   map[time.Duration]int
	streams  int
	losses   []loss
	ends     []End
	crashes  []crash
	outages  []outage
	nameless int
	worst    time.Duration
	pace     pace
	halfOpen time.Duration // how long before its end a wait in vain was lost; 0 is not at all
}

func newBook() book {
	return book{requests: make(map[Class]int), versions: make(map[string]int), open: make(map[*conn]struct{}), within: make(map[time.Duration]int)}
}

type crash struct {
	at   time.Time
	open int
}

// outage is a time in which nobody takes connections.
type outage struct{ from, to time.Time }

// excuse is how long after a crash a connection that was open may take to show that it is dead.
const excuse = 3 * time.Second

func (b *book) opened(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[c] = struct{}{}
}

func (b *book) closed(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, c)
}

// enter notes that a request of that slowness is inside; the func returned notes its end.
func (b *book) enter(slow time.Duration) (leave func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.within[slow]++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.within[slow]--
	}
}

func (b *book) stream(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.streams += n
}

func (b *book) answered(class Class, took, slow time.Duration, version string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests[class]++
	if version != "" {
		b.versions[version]++
	} else if class != Stream { // a line of an echo is no request
		b.nameless++
	}
	b.worst = max(b.worst, took-slow)
	if class != Stream {
		b.pace.add(time.Now())
	}
}

// wsaRefused is WSAECONNREFUSED of winsock2.h: Go's ECONNREFUSED is a number of its own on Windows.
const wsaRefused = syscall.Errno(10061)

func (b *book) lost(class Class, k kind, opened time.Time, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests[class]++
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, wsaRefused) {
		k = refused
	}
	now := time.Now()
	at, early := now, excuse/10
	if b.halfOpen > 0 && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)) {
		at, early = now.Add(-b.halfOpen), slowest+excuse/10
	}
	b.losses = append(b.losses, loss{class, k, opened, at, early, fmt.Sprintf("%s %s %s: %v", now.Format("15:04:05.000"), class, k, err)})
}

// ended notes that the server ended an upgraded connection. One that it ended with a goodbye lost nothing.
func (b *book) ended(e End, err error) {
	e.At = time.Now()
	e.Told = err == nil
	if err != nil {
		b.lost(Stream, streamCut, e.Opened, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ends = append(b.ends, e)
}

func (b *book) crashed(at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	open := 0
	for c := range b.open {
		if c.opened.Before(at) {
			open += max(1, int(c.inside.Load()))
		}
	}
	for _, l := range b.losses { // these were open at that moment and have noticed already
		if l.opened.Before(at) && l.at.After(at.Add(-excuse/10)) {
			open++
		}
	}
	b.crashes = append(b.crashes, crash{at, open})
}

// byCrash says whether a loss is what a crash costs: the connection was open when the process died, and
// broke then. A refused connection is never excused, since the socket outlives the process.
func (b *book) byCrash(l loss) bool {
	return l.kind != refused && slices.ContainsFunc(b.crashes, func(c crash) bool {
		return !l.opened.After(c.at) && l.at.After(c.at.Add(-l.early)) && l.at.Before(c.at.Add(excuse))
	})
}

// inOutage says whether a loss is what an outage costs. When it began is known as exactly as the end of a process.
func (b *book) inOutage(l loss) bool {
	return slices.ContainsFunc(b.outages, func(o outage) bool {
		return l.at.After(o.from.Add(-excuse)) && l.opened.Before(o.to) && l.at.Before(o.to.Add(excuse))
	})
}

func (b *book) inFlight() InFlight {
	b.mu.Lock()
	defer b.mu.Unlock()
	return InFlight{len(b.open), b.within[0], b.within[150*time.Millisecond], b.within[slowest], b.streams, b.pace.lastSecond(time.Now())}
}

// Report returns the account so far.
func (l *Load) Report() Report {
	b := &l.book
	b.mu.Lock()
	defer b.mu.Unlock()
	r := Report{
		Classes: maps.Clone(b.requests), Versions: maps.Clone(b.versions), Losses: make(map[Class]Losses),
		WorstMs: float64(b.worst.Microseconds()) / 1000, Ends: slices.Clone(b.ends),
	}
	for _, n := range b.requests {
		r.Requests += n
	}
	for _, c := range b.crashes {
		r.OpenAt = append(r.OpenAt, c.open)
	}
	for _, e := range b.ends {
		if e.Told {
			r.StreamsTold++
		}
	}
	for _, x := range b.losses {
		if b.inOutage(x) {
			r.Outage++
			continue
		}
		r.add(x, b.byCrash(x))
	}
	r.Nameless = b.nameless
	r.PerSecond = float64(r.Requests) / time.Since(l.begun).Seconds()
	return r
}

func (r *Report) add(x loss, byCrash bool) {
	if byCrash {
		r.CutByCrash++
		return
	}
	if x.kind == streamCut {
		r.StreamsCut++
		return
	}
	own := r.Losses[x.class]
	switch x.kind {
	case refused:
		r.Refused++
		own.Refused++
	case retryable:
		own.Retryable++
		if x.class == Idler {
			r.Idle++
		} else {
			r.Retryable++
		}
	default:
		r.Failed++
		own.Failed++
	}
	r.Losses[x.class] = own
	if !(x.class == Idler && x.kind == retryable) && len(r.Samples) < 10 {
		r.Samples = append(r.Samples, x.text)
	}
}
