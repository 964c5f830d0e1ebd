package updater

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/policy"
	"github.com/turnstone-go/turnstone/updater/store"
)

const (
	probationTime = 25 * time.Second
	config        = "cafe"
)

// artifact is the bytes of the n-th version.
func artifact(n int) []byte { return fmt.Appendf(nil, "the program, version %d\n", n) }

func version(n int) Version {
	b := artifact(n)
	sum := sha256.Sum256(b)
	return Version{Number: fmt.Sprintf("1.%d.0", n), Digest: hex.EncodeToString(sum[:]), Epoch: uint64(n), File: "app", SizeBytes: int64(len(b))}
}

func versions(list ...int) []Version {
	var out []Version
	for _, n := range list {
		out = append(out, version(n))
	}
	return out
}

// proc is one living payload process.
type proc struct {
	v         Version
	accepting bool
}

// world is a machine: a disk, the processes on it, the vendor's repository, and what goes wrong there. It is
// the Feed and the Site of the engine under test. It ends a test when the engine breaks a promise that no
// error could excuse: starting what is not sealed, or stopping what has the traffic.
type world struct {
	mu      sync.Mutex
	t       *testing.T
	disk    *durabletest.Disk // what is on it
	cut     *cutter           // what the engine sees of it
	look    *store.Store      // of the disk looked, for the test's own eyes
	looked  *durabletest.Disk
	procs   map[string]*proc
	offers  []policy.Offer
	sick    map[string]error                                  // by step and version: "warm 1.3.0"
	on      func(ctx context.Context, step string, v Version) // called before each step, may be nil
	checks  int                                               // looks at the channel while idle, in this boot
	enough  int                                               // of them, before the test is over
	cancel  context.CancelFunc
	u       *Updater
	poll    time.Duration
	sawYank map[string]bool // the numbers that the engine of this boot has read to be taken back
	events  []Event
	story   []Entry
	served  map[string]bool                // the numbers that were committed here, to which it is right to go back
	ended   func(Entry)                    // called for every finished update, may be nil
	line    func(b []byte) ([]byte, error) // what becomes of the vendor's bytes on their way, may be nil
}

// newWorld returns a machine on which the versions good run well, the first of them active, and whose vendor
// offers the others.
func newWorld(t *testing.T, good, offered []int) *world {
	w := &world{t: t, disk: durabletest.New(), procs: map[string]*proc{}, sick: map[string]error{}, sawYank: map[string]bool{}, served: map[string]bool{}, enough: 3, poll: time.Hour}
	w.cut = &cutter{Disk: w.disk}
	w.offer(offered...)
	j, s := w.open()
	_ = w.whole(version(1))
	for _, v := range good {
		must(t, durable.WriteFile(w.disk, s.Staged(version(v)), artifact(v), 0o600))
		must(t, s.Seal(t.Context(), version(v)))
		must(t, s.Prove(version(v)))
	}
	if len(good) > 0 {
		must(t, j.Save(State{Phase: journal.Idle, Good: versions(good...), HighWater: uint64(slices.Max(good))}))
		w.procs[version(good[0]).Digest] = &proc{version(good[0]), true}
	}
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) offer(list ...int) {
	w.offers = nil
	for _, n := range list {
		w.offers = append(w.offers, policy.Offer{Number: version(n).Number, Epoch: uint64(n), Share: 10000})
	}
}

func (w *world) yank(n int) {
	for i := range w.offers {
		if w.offers[i].Epoch == uint64(n) {
			w.offers[i].Yanked = "found to lose data"
		}
	}
}

func (w *world) open() (*journal.Journal, *store.Store) {
	j, err := journal.Open(w.cut, "journal")
	must(w.t, err)
	s, err := store.Open(w.cut, "store")
	must(w.t, err)
	return j, s
}

// updater returns a fresh engine over the machine.
func (w *world) updater() *Updater {
	j, s := w.open()
	w.u = New(Parts{Journal: j, Store: s, Feed: w, Site: w, Config: config, HostID: "host", Poll: w.poll,
		ProbationTime: probationTime, Notify: w.note, History: w.remember})
	return w.u
}

// meet orders what the test does against what the engine does: the bubble lets only one of them run at a
// time, but does not tell the race detector.
func (w *world) meet() {
	w.mu.Lock()
	defer w.mu.Unlock()
}

func (w *world) note(e Event) {
	w.meet()
	defer w.meet()
	if e.Kind == "commit" && w.sawYank[e.Number] && !w.served[e.Number] {
		w.t.Errorf("committed %s although it was taken back", e.Number)
	}
	if e.Kind == "commit" {
		w.served[e.Number] = true
	}
	if len(w.events) < 10000 {
		w.events = append(w.events, e)
	}
}

func (w *world) heard(kind string) bool {
	return slices.ContainsFunc(w.events, func(e Event) bool { return e.Kind == kind })
}

func (w *world) remember(e Entry) {
	w.meet()
	defer w.meet()
	if w.ended != nil {
		w.ended(e)
		return
	}
	w.story = append(w.story, e)
}

// state is the journal as it is on the disk.
func (w *world) state() State {
	w.t.Helper()
	st, _, err := journal.Read(w.disk, "journal")
	must(w.t, err)
	return st
}

// phase is where the engine says it is.
func (w *world) phase() Phase { return w.u.Status().State.Phase }

// whole says whether v is sealed and undamaged. It neither counts as an operation nor syncs anything: the store is
// opened once for each disk, when nothing has been lost and nothing fails.
func (w *world) whole(v Version) error {
	if w.looked != w.disk {
		s, err := store.Open(w.disk, "store")
		must(w.t, err)
		w.looked, w.look = w.disk, s
	}
	return w.look.Verify(context.Background(), v)
}

func (w *world) damage(v Version) {
	_ = w.whole(v)
	f, err := w.disk.OpenFile(w.look.File(v), os.O_WRONLY, 0)
	must(w.t, err)
	_, err = f.WriteAt([]byte("rot"), 3)
	must(w.t, errors.Join(err, f.Sync(), f.Close()))
}

// begin is one operation of the machine before it has an effect, and done after it.
func (w *world) begin(ctx context.Context, step string, v Version) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	w.meet()
	defer w.meet()
	if w.on != nil {
		w.on(ctx, step, v)
	}
	w.cut.tick(nil)
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return w.sick[step+" "+v.Number]
}

// done is what ends an operation: a cut here loses its answer.
func (w *world) done() { w.cut.tick(nil) }

// start makes v run, parked.
func (w *world) start(v Version) *proc {
	if p := w.procs[v.Digest]; p != nil {
		return p
	}
	if err := w.whole(v); err != nil {
		w.t.Errorf("started %s: %v", v.Number, err)
	}
	p := &proc{v: v}
	w.procs[v.Digest] = p
	return p
}

func (w *world) Serve(ctx context.Context, v Version) error {
	if err := w.begin(ctx, "serve", v); err != nil {
		return err
	}
	w.start(v).accepting = true
	w.park(v)
	w.done()
	return nil
}

func (w *world) park(but Version) {
	for d, p := range w.procs {
		if d != but.Digest {
			p.accepting = false
		}
	}
}

func (w *world) SelfCheck(ctx context.Context, v Version) error {
	if err := w.begin(ctx, "self-check", v); err != nil {
		return err
	}
	if err := w.whole(v); err != nil {
		w.t.Errorf("%s is run and is not sealed: %v", v.Number, err)
	}
	w.done()
	return nil
}

func (w *world) Warm(ctx context.Context, v Version) error {
	if err := w.begin(ctx, "warm", v); err != nil {
		return err
	}
	w.start(v)
	w.done()
	return nil
}

func (w *world) Switch(ctx context.Context, v Version) error {
	if err := w.begin(ctx, "switch", v); err != nil {
		return err
	}
	w.start(v).accepting = true
	w.done()
	if err := w.sick["park by "+v.Number]; err != nil {
		return err
	}
	w.park(v)
	w.done()
	return nil
}

// errExit is the death of a process.
var errExit = errors.New("exit code 2")

// Watch lets a candidate die that is sick of errExit: whoever is parked takes over at once,
// as the launcher does without asking the engine.
func (w *world) Watch(ctx context.Context, watch Watch) error {
	for left := watch.Remaining; left > 0; {
		if err := wait(ctx, time.Second); err != nil {
			return err
		}
		left -= time.Second
		if int(left/time.Second)%5 == 0 {
			if err := w.begin(ctx, "watch", watch.Candidate); err != nil {
				if errors.Is(err, errExit) {
					w.die(watch.Candidate)
				}
				return err
			}
		}
		watch.Tick(max(left, 0))
	}
	return nil
}

func (w *world) die(v Version) {
	delete(w.procs, v.Digest)
	if list := w.Running(); len(list) > 0 {
		w.procs[list[len(list)-1].Digest].accepting = true
	}
}

func (w *world) Retire(v Version) {
	_ = w.begin(context.Background(), "retire", v)
	if p := w.procs[v.Digest]; p != nil && p.accepting && len(w.u.Status().State.Good) > 0 {
		w.t.Fatalf("stopped %s, which has the traffic", v.Number)
	}
	delete(w.procs, v.Digest)
	w.done()
}

func (w *world) Running() (list []Version) {
	w.meet()
	for _, p := range w.procs {
		list = append(list, p.v)
	}
	slices.SortFunc(list, func(a, b Version) int { return int(a.Epoch) - int(b.Epoch) })
	return list
}

func (w *world) Evidence(v Version) Evidence {
	return Evidence{Exit: "exit code 2", Output: "panic: " + v.Number, Probes: []string{"refused"}}
}

// serving returns the numbers of the versions that accept connections.
func (w *world) serving() (list []string) {
	for _, v := range w.Running() {
		if w.procs[v.Digest].accepting {
			list = append(list, v.Number)
		}
	}
	return list
}
