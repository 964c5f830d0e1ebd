package updater

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/updater/fetch"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/policy"
	"github.com/turnstone-go/turnstone/updater/store"
)

// smallHost is the engine with the real store, fetcher and journal on a small real disk, and a repository on
// another one. It is the Feed and the Site. Its processes cost nothing; the signed world is believed.
type smallHost struct {
	t       *testing.T
	small   *durabletest.Small
	disk    durable.Disk
	dir     string
	source  *fetch.Repository
	store   *store.Store
	size    int64
	offered int
	active  Version // what has the traffic
	cancel  context.CancelFunc
	ends    []Event
	turned  Event
	order   *Order // given at the first look at the channel
	u       *Updater
}

const smallVersion = 300_000

// bytesOf is the n-th artifact.
func (h *smallHost) bytesOf(n int) []byte {
	b := make([]byte, h.size)
	rng := rand.NewChaCha8([32]byte{byte(n)})
	_, _ = rng.Read(b)
	return b
}

func (h *smallHost) version(n int) Version {
	sum := sha256.Sum256(h.bytesOf(n))
	return Version{Number: fmt.Sprintf("1.%d.0", n), Digest: hex.EncodeToString(sum[:]), Epoch: uint64(n), File: "app", SizeBytes: h.size}
}

// newSmallHost has 1.1.0 and 1.0.0 on its disk, the first active, and 1.2.0 offered.
func newSmallHost(t *testing.T, size int64) *smallHost {
	h := &smallHost{t: t, small: durabletest.NewSmall(t, 64<<20), disk: durable.OS(), size: size, offered: 2}
	h.dir = filepath.Join(h.small.Dir, "state")
	repo := t.TempDir()
	must(t, os.Mkdir(filepath.Join(repo, "artifacts"), 0o755))
	must(t, os.WriteFile(filepath.Join(repo, "artifacts", h.version(2).Digest), h.bytesOf(2), 0o644))
	var err error
	h.source, err = fetch.Open(repo, fetch.Options{})
	must(t, err)
	h.open()
	for n := range 2 {
		must(t, os.WriteFile(h.store.Staged(h.version(n)), h.bytesOf(n), 0o600))
		must(t, h.store.Seal(t.Context(), h.version(n)))
		must(t, h.store.Prove(h.version(n)))
	}
	must(t, h.journal().Save(State{Phase: journal.Idle, Good: []Version{h.version(1), h.version(0)}, HighWater: 1}))
	return h
}

func (h *smallHost) open() {
	var err error
	h.store, err = store.Open(h.disk, filepath.Join(h.dir, "store"))
	must(h.t, err)
}

func (h *smallHost) journal() *journal.Journal {
	j, err := journal.Open(h.disk, filepath.Join(h.dir, "journal"))
	must(h.t, err)
	return j
}

// live runs a launcher until an update has ended, and returns the State that the next one finds.
func (h *smallHost) live(t *testing.T) (st State) {
	synctest.Test(t, func(t *testing.T) {
		h.ends, h.turned = nil, Event{}
		h.open()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		h.cancel = cancel
		h.u = New(Parts{Journal: h.journal(), Store: h.store, Feed: h, Site: h, Config: config, HostID: "host", Notify: h.note})
		if err := h.u.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("the engine gave up: %v", err)
		}
	})
	st, _, err := journal.Read(h.disk, filepath.Join(h.dir, "journal"))
	must(t, err)
	return st
}

func (h *smallHost) note(e Event) {
	switch {
	case e.Kind == "turn":
		h.turned = e
	case e.Kind != "end":
	default:
		h.ends = append(h.ends, e)
		h.cancel()
	}
}

func (h *smallHost) Check(context.Context) (policy.Offers, error) {
	if o := h.order; o != nil {
		h.order = nil
		_ = h.u.enqueue(&request{order: *o, done: make(chan error, 1)})
	}
	v := h.version(h.offered)
	return policy.Offers{Name: "acme/stable", List: []policy.Offer{{Number: v.Number, Epoch: v.Epoch, Share: 10000}}}, nil
}

func (h *smallHost) Resolve(context.Context, string) (policy.Release, error) {
	return policy.Release{Version: h.version(h.offered)}, nil
}

func (h *smallHost) Fetch(ctx context.Context, v Version, dst string, progress func(done, total int64)) error {
	want := fetch.Want{Name: "artifacts/" + v.Digest, SizeBytes: v.SizeBytes, SHA256: v.Digest}
	return h.source.Download(ctx, h.disk, want, dst, progress)
}

func (h *smallHost) Verify(context.Context, Version, string) error { return nil }

// Serve, Warm and Switch start nothing that is not whole on the disk.
func (h *smallHost) Serve(ctx context.Context, v Version) error { return h.Switch(ctx, v) }

func (h *smallHost) Warm(ctx context.Context, v Version) error { return h.store.Verify(ctx, v) }

func (h *smallHost) Switch(ctx context.Context, v Version) error {
	if err := h.Warm(ctx, v); err != nil {
		return err
	}
	h.active = v
	return nil
}

func (h *smallHost) SelfCheck(context.Context, Version) error { return nil }

func (h *smallHost) Watch(_ context.Context, w Watch) error { w.Tick(0); return nil }

func (h *smallHost) Retire(Version) {}

func (h *smallHost) Running() []Version { return []Version{h.active} }

func (h *smallHost) Evidence(Version) Evidence { return Evidence{} }

// blind is a disk that always says that it has room: what another program fills in the moment after the
// question.
type blind struct{ durable.Disk }

func (blind) Free(string) (int64, error) { return math.MaxInt64, nil }

// With every size from nothing to more than enough, an update is made, or is refused before a byte of it is
// fetched, with the sizes in the message; and the version before serves on.
func TestSweepOfFreeSpace(t *testing.T) {
	need := int64(store.ReserveBytes + smallVersion)
	sweep(t, nil, need, need/22)
}

// The same when the space is taken by somebody else after it was asked for: the disk is full in the middle of
// everything, page by page.
func TestSweepOfFreeSpaceThatGoesAway(t *testing.T) {
	sweep(t, blind{durable.OS()}, smallVersion+64<<10, 8<<10)
}

// sweep tries an update with more and more space, until 10 % above need.
func sweep(t *testing.T, disk durable.Disk, need, step int64) {
	h := newSmallHost(t, smallVersion)
	if disk != nil {
		h.disk = disk
	}
	made, refused := 0, 0
	for free := int64(0); free <= need+need/10; free += step {
		h.small.Leave(free)
		st := h.live(t)
		h.whole(t, st)
		switch e := h.ends[0]; e.Outcome {
		case Committed:
			made++
			if disk == nil && free < need {
				t.Errorf("updated with %d bytes, %d are needed", free, need)
			}
			h.back(t)
		case Discarded:
			refused++
			if made > 0 {
				t.Errorf("with %d bytes, more than enough: %s", free, e.Err)
			}
			if h.active.Number != "1.1.0" || st.Good[0] != h.version(1) || len(st.Quarantine) > 0 {
				t.Errorf("with %d bytes: %s serves, %+v", free, h.active.Number, st)
			}
			if !h.turned.Full || e.Verdict != journal.World || disk == nil && !strings.Contains(e.Err, " MiB needed, ") {
				t.Errorf("with %d bytes: %+v", free, e)
			}
		}
		if t.Failed() {
			return
		}
	}
	if made == 0 || refused == 0 {
		t.Errorf("%d updates were made and %d refused", made, refused)
	}
}

// whole demands that what the journal calls good is whole on the disk.
func (h *smallHost) whole(t *testing.T, st State) {
	if st.Phase != journal.Idle || st.Candidate != nil || len(st.Good) == 0 || st.Good[0] != h.active {
		t.Errorf("not at rest: %+v, %s serves", st, h.active.Number)
	}
	for _, v := range st.Good {
		must(t, h.store.Verify(t.Context(), v))
	}
}

// back makes 1.1.0 the active version again, as an installation that never had 1.2.0.
func (h *smallHost) back(t *testing.T) {
	h.small.Leave(32 << 20)
	_, err := h.store.Collect([]Version{h.version(1), h.version(0)})
	must(t, err)
	must(t, os.RemoveAll(filepath.Join(h.dir, "journal")))
	must(t, h.journal().Save(State{Phase: journal.Idle, Good: []Version{h.version(1), h.version(0)}, HighWater: 1}))
}

// A rollback needs no byte.
func TestRollbackWithoutSpace(t *testing.T) {
	h := newSmallHost(t, smallVersion)
	h.small.Leave(0)
	h.offered = 1 // nothing newer
	h.order = &Order{Kind: OrderRollback}
	st := h.live(t)
	if h.active.Number != "1.0.0" || st.Good[0] != h.version(0) || !slices.ContainsFunc(st.Held, marks(h.version(1))) {
		t.Errorf("%s serves, %+v", h.active.Number, st)
	}
	h.whole(t, st)
}
