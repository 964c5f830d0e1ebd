package updater

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// fills makes the disk full from the k-th operation on that needs new space, and says whether it came to that.
// The journal's slots are not among them: they have their space, and are written in place.
func fills(w *world, k int) (came func() bool) {
	n := 0
	w.disk.Fail(func(op durabletest.Op) error {
		inPlace := op.Kind == "write" && strings.HasPrefix(op.Name, "journal")
		switch op.Kind {
		case "create", "mkdir", "write", "allocate":
			if inPlace {
				return nil
			}
			if n++; n > k {
				return durabletest.Full
			}
		}
		return nil
	})
	return func() bool { return n > k }
}

// tight is a disk that says how little it has as soon as it is full, and not before.
type tight struct {
	durable.Disk
	full func() bool
}

func (d tight) Free(name string) (int64, error) {
	if d.full() {
		return 1 << 20, nil
	}
	return d.Disk.Free(name)
}

// TestFullAtEveryWrite lets the disk become full at each write of an update. Whatever could not be written, the
// version before serves on, nobody is blamed for it, what is told says how much is needed, and when there is room again
// the update is made.
func TestFullAtEveryWrite(t *testing.T) {
	k := 0
	for came := true; came; k++ {
		in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
			full := fills(r.world, k)
			r.cut.Disk = tight{r.disk, full}
			r.launch()
			e := r.rest(1)
			came = full()
			if len(r.serving()) != 1 || e.Outcome != Committed && r.serving()[0] != version(2).Number {
				t.Errorf("full from write %d on: %+v, and %v accept connections", k, e, r.serving())
			}
			if e.Outcome != Committed && e.Verdict != journal.World || len(r.state().Quarantine) > 0 {
				t.Errorf("full from write %d on: somebody is blamed: %+v", k, r.state())
			}
			if e.Outcome != Committed && !strings.Contains(e.Reason, " MiB needed, 1.0 MiB free; make room for ") {
				t.Errorf("full from write %d on: the reason is %q", k, e.Reason)
			}
			r.disk.Fail(nil)
			r.cut.Disk = r.disk
			r.until("the update, when there is room", func() bool { return left(r.state()).Digest == version(3).Digest && r.phase() == journal.Idle })
			r.expect(3, Committed)
		})
		if t.Failed() {
			return
		}
	}
	if k < 5 {
		t.Errorf("only %d writes could fail", k)
	}
}

// Back to the version before, on a disk that takes not one byte more.
func TestRollbackOnAFullDisk(t *testing.T) {
	in(t, []int{2, 1}, nil, func(t *testing.T, r *rig) {
		fills(r.world, 0)
		r.launch()
		r.pass(time.Second)
		must(t, r.order(Order{Kind: OrderRollback}))
		r.rest(1)
		r.expect(1, Committed)
	})
}

// What is marked as final is not tried again; the same without the mark is.
func TestUnreadyIsFinal(t *testing.T) {
	st := at(journal.Fetching)
	err := errors.New("no room")
	if got := follow(st, clone(st), err, edge); got.Phase != journal.Fetching || got.Starts != st.Starts+1 {
		t.Errorf("a passing failure leads to %+v", got)
	}
	if got := follow(st, clone(st), unready(err), edge); got.Phase != journal.Discarding || got.Verdict != journal.World || len(got.Quarantine) != 0 {
		t.Errorf("no room leads to %+v", got)
	}
}
