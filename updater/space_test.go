package updater

import (
	"context"
	"io/fs"
	"slices"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// fullDisk has no byte left: what is there may be written over and removed, and nothing can grow or be made.
type fullDisk struct{ durable.Disk }

type fullFile struct{ durable.File }

func (d fullDisk) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if _, err := d.Lstat(name); err != nil && flag != 0 {
		return nil, &fs.PathError{Op: "open", Path: name, Err: durabletest.Full}
	}
	f, err := d.Disk.OpenFile(name, flag, perm)
	return fullFile{f}, err
}

func (fullDisk) Mkdir(name string, _ fs.FileMode) error {
	return &fs.PathError{Op: "mkdir", Path: name, Err: durabletest.Full}
}

func (f fullFile) Write([]byte) (int, error) { return 0, durabletest.Full } // only new files are written so

func (f fullFile) WriteAt(b []byte, off int64) (int, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if off+int64(len(b)) > info.Size() {
		return 0, durabletest.Full
	}
	return f.File.WriteAt(b, off)
}

// A disk without a byte left keeps nobody from going back: to the version that waits parked, by its own verdict,
// and later to the one before that, by order. An update ends where it needs room.
func TestRollbackNeedsNoSpace(t *testing.T) {
	in(t, []int{2, 1}, nil, func(t *testing.T, r *rig) { // the journal was written once, into one of its slots
		r.cut.Disk = fullDisk{r.disk}
		r.launch()
		must(t, r.order(Order{Kind: OrderRollback}))
		r.rest(1)
		r.expect(1, Committed)
	})
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.sick["watch 1.3.0"] = errBad
		r.on = func(_ context.Context, step string, _ Version) {
			if step == "switch" {
				r.cut.Disk = fullDisk{r.disk}
			}
		}
		r.launch()
		r.rest(1)
		r.expect(2, RolledBack)
		if !slices.ContainsFunc(r.state().Quarantine, marks(version(3))) {
			t.Errorf("the verdict is not saved: %+v", r.state())
		}
		must(t, r.order(Order{Kind: OrderRollback}))
		r.rest(2)
		r.expect(1, Committed)
		r.offer(4)
		must(t, r.order(Order{Kind: OrderCheck}))
		if e := r.rest(3); e.Verdict != journal.World {
			t.Errorf("%+v", e)
		}
		r.expect(1, Discarded)
		r.cut.Disk = r.disk
		r.rest(4)
		r.expect(4, Committed)
	})
}
