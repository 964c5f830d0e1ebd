package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/wire"
	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/probe"
	"github.com/turnstone-go/turnstone/launcher/relay"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/store"
)

// generations bounds how many old processes may drain at once; one more cuts the oldest.
const generations = 2

// maxDead bounds the processes whose evidence is kept.
const maxDead = 16

// site is the living half of the launcher: the processes, the public sockets, and which of them meet.
// The engine orders (it is an updater.Site); site alone moves connections and the lease.
//
// At any moment at most one version is meant to take new connections (serving). When its process ends,
// site does not wait for the engine: the spare, which is parked, takes over at once, and if there is none
// the same version is started again.
//
// Locks are taken in this order: traffic, starting, mu, member.mu.
type site struct {
	cfg     Config                 // as it was at the start
	retuned atomic.Pointer[Config] // as it was reloaded, nil before
	disk    durable.Disk
	store   *store.Store
	host    *child.Host
	sockets []*relay.Socket
	proxies []*relay.Proxy // proxy mode: one for each socket, in the same order
	fence   func() (uint64, error)
	order   func(context.Context, updater.Order) error // to the engine
	doubt   error                                      // an earlier payload is neither adopted nor proven dead: it may hold the lease
	emit    func(updater.Event)
	log     *slog.Logger
	user    *child.User // nil: the launcher's own

	traffic sync.Mutex // held while connections or the lease move; never while mu is held
	front   *member    // proxy mode: where new connections go, nil if they wait or are refused; guarded by traffic
	behind  *member    // proxy mode: tried when front does not answer the dial; guarded by traffic
	waits   waits      // of the exchange under way; guarded by traffic

	starting sync.Mutex // held while a process is made: a version never has two

	mu       sync.Mutex // guards what follows; never held while waiting
	members  map[string]*member
	leaving  []*member       // draining, oldest first
	serving  journal.Version // what is meant to take new connections
	spare    journal.Version // takes over when the process of serving ends; zero if there is none
	falls    falls           // of the version that serves
	restarts int             // ever
	deciding bool            // the engine makes a version serve: nothing else is started
	attempt  context.CancelFunc
	dead     map[string]updater.Evidence // of at most maxDead versions
	closing  bool

	ended  chan struct{}   // wakes the keeper
	serves chan struct{}   // closed when the first process takes connections
	opener sync.Once       // closes serves
	upkeep context.Context // ends when the launcher begins to stop: nothing is started again after it
	life   context.Context // ends when everything has drained
	rest   context.CancelFunc
	end    context.CancelFunc
	wg     sync.WaitGroup
}

// member is the process of one version.
type member struct {
	version journal.Version
	proc    *child.Process
	addrs   map[string]string // proxy mode: private address by listener name
	targets []*relay.Target   // proxy mode: in the order of site.proxies
	asked   bool              // its end was ordered; guarded by site.mu
	judge   *probe.Judge      // of its probation; used by Watch alone
	heavy   streak            // looks in a row at which it took too much memory; used by Watch alone

	mu         sync.Mutex
	accepting  bool
	fit        bool       // was healthy once, or was found alive
	opened     time.Time  // when it last began to accept
	wanting    bool       // waits for the lease
	denied     string     // why it did not get it, as told last
	totals     []counted  // of the last minutes, oldest first
	measure    wire.Stats // what it answered in the minutes before it was parked
	transcript []probe.Result
}

// mark changes what is known of m.
func (m *member) mark(change func(*member)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

func (m *member) is(what func(*member) bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return what(m)
}

func (m *member) name() string { return m.version.Number }

func (m *member) alive() bool {
	select {
	case <-m.proc.Done():
		return false
	default:
		return true
	}
}

// note keeps the last probe results as evidence.
func (m *member) note(results ...probe.Result) {
	m.mark(func(m *member) {
		m.transcript = append(m.transcript, results...)
		m.transcript = m.transcript[max(0, len(m.transcript)-20):]
	})
}

func (m *member) probes() (all []probe.Result) {
	m.mark(func(m *member) { all = slices.Clone(m.transcript) })
	return all
}

// living returns the process that runs v and is not draining, or nil.
func (s *site) living(v journal.Version) *member {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.members[v.Digest]; m != nil && m.alive() {
		return m
	}
	return nil
}

// others returns every living process that is neither keep nor draining.
func (s *site) others(keep *member) []*member {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*member
	for _, m := range s.members {
		if m != keep && m.alive() {
			all = append(all, m)
		}
	}
	return all
}

// Running returns every version with a process: serving, parked or draining.
func (s *site) Running() []journal.Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []journal.Version
	for _, m := range s.members {
		if m.alive() {
			all = append(all, m.version)
		}
	}
	for _, m := range s.leaving {
		all = append(all, m.version)
	}
	return all
}

// Evidence returns what is known of the last process of v: how it ended, its last output, its probes.
func (s *site) Evidence(v journal.Version) updater.Evidence {
	s.mu.Lock()
	m, ev := s.members[v.Digest], s.dead[v.Digest]
	s.mu.Unlock()
	if m != nil { // also when it has just ended and nobody has noticed
		return s.evidence(m, m.proc.Exit().String())
	}
	return ev
}

func (s *site) evidence(m *member, exit string) updater.Evidence {
	ev := updater.Evidence{Exit: exit, Output: m.proc.Tail(8 << 10)}
	for _, r := range m.probes() {
		ev.Probes = append(ev.Probes, fmt.Sprintf("%s %s (%s)", r.At.Format("15:04:05.000"), r.Text, r.Took.Round(time.Microsecond)))
	}
	return ev
}

// event tells whoever follows what happened to a version.
func (s *site) event(kind string, v journal.Version, format string, args ...any) {
	s.measured(kind, v, nil, format, args...)
}

// figures are the numbers of an event by their names.
type figures = map[string]float64

// measured is event with its numbers for programs.
func (s *site) measured(kind string, v journal.Version, f figures, format string, args ...any) {
	s.emit(updater.Event{At: time.Now(), Kind: kind, Number: v.Number, Text: fmt.Sprintf(format, args...), Figures: f})
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
