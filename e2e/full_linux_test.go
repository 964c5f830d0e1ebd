package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/store"
)

// onSmallDisk serves 1.0.0 with all state on a disk of its own, and has 1.1.0 published.
func onSmallDisk(t *testing.T) (*stage.Stage, *durabletest.Small) {
	t.Helper()
	small := durabletest.NewSmall(t, 256<<20)
	o := quick(nil)
	o.State = small.Dir
	s := launched(t, o)
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	return s, small
}

// An update for which the disk has not the room is refused before it is begun, with what is missing; the version
// before serves on, and the update is made as soon as there is room.
func TestUpdateOnASmallDisk(t *testing.T) {
	s, small := onSmallDisk(t)
	need := fileSize(t, example(t, "1.1.0", "")) + store.ReserveBytes
	byOrder(t, s)
	m := behind(t, s)
	kill(t, s)
	launch(t, s)
	for _, part := range []int64{0, 1, 3} {
		small.Leave(need * part / 4)
		unmoved(t, s, func() {
			out := operator(t, s, 13, "update", "--now", "--follow")
			says(t, out, "not enough space: ", " MiB needed, ", " MiB free; make room for ", " MiB on the disk of /")
		})
		atRest(t, s, "1.0.0")
	}
	if ranges, _ := m.seen(); len(ranges) != 0 {
		t.Errorf("fetched without the room for it: %q", ranges)
	}
	small.Leave(need + need/10)
	operator(t, s, 0, "update", "--now", "--follow")
	if ranges, _ := m.seen(); len(ranges) != 1 {
		t.Errorf("fetched with %q", ranges)
	}
	serving(t, s, "1.1.0")
	atRest(t, s, "1.1.0")
}

// atRest demands that the journal is legal, with that version active and nobody blamed.
func atRest(t *testing.T, s *stage.Stage, active string) {
	t.Helper()
	st, _, err := journal.Read(durable.OS(), filepath.Join(s.State(), "journal"))
	if err != nil || st.Phase != journal.Idle || st.Candidate != nil || st.Good[0].Number != active || len(st.Quarantine) > 0 {
		t.Errorf("the journal has %+v, %v", st, err)
	}
}

// Without a byte left, the launcher still goes back to the version before; it is killed and adopts what runs; it
// is stopped and starts from nothing.
func TestRollbackOnAFullDisk(t *testing.T) {
	s, small := onSmallDisk(t)
	operator(t, s, 0, "update", "--now", "--follow")
	eventually(t, "1.0.0 has drained", func() bool { return len(pids(t, s)) == 1 })
	fill(t, small)
	operator(t, s, 0, "rollback", "--follow")
	serving(t, s, "1.0.0")
	fill(t, small)
	unmoved(t, s, func() {
		kill(t, s)
		launch(t, s)
	})
	serving(t, s, "1.0.0")
	if err := s.Quit(); err != nil {
		t.Errorf("stopped: %v", err)
	}
	fill(t, small)
	launch(t, s)
	serving(t, s, "1.0.0")
	atRest(t, s, "1.0.0")
	eventually(t, "the launcher says so too", func() bool { return status(t, s).Health == control.Healthy })
}

// fill takes what is left on a disk, and what is given back while the last process is cleared away.
func fill(t *testing.T, small *durabletest.Small) {
	t.Helper()
	eventually(t, "the disk is full", func() bool {
		small.Leave(0)
		name := filepath.Join(small.Dir, "one-more")
		err := os.WriteFile(name, []byte("x"), 0o600)
		_ = os.Remove(name) // else its own room is there at each further try
		return durable.Full(err)
	})
}

// A new launcher needs room as well, and is not begun without.
func TestSelfUpdateOnASmallDisk(t *testing.T) {
	small := durabletest.NewSmall(t, 256<<20)
	s := renewable(t, "1m", "20s", func(o *stage.Options) { o.State = small.Dir })
	launch(t, s)
	serving(t, s, "1.0.0")
	offer(t, s, "100.1.0", "")
	small.Leave(12 << 20) // more than the file, less than all that it takes
	unmoved(t, s, func() {
		says(t, operator(t, s, 13, "self-update", "--follow"), "not enough space: ")
	})
	if got := registered(t, s); got != "100.0.0" {
		t.Errorf("registered is %s", got)
	}
	small.Leave(128 << 20)
	operator(t, s, 0, "self-update", "--follow")
	if got := registered(t, s); got != "100.1.0" {
		t.Errorf("registered is %s", got)
	}
}
