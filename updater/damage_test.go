package updater

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// A disk that takes no more writes keeps nobody from going back, and lets nobody go on.
func TestJournalThatCannotBeWritten(t *testing.T) {
	full := func(op durabletest.Op) error {
		if strings.HasPrefix(op.Name, "journal") {
			return errors.New("input/output error")
		}
		return nil
	}
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.launch()
		r.reach(journal.Probation)
		r.pass(2 * time.Second)
		r.disk.Fail(full)
		r.sick["watch 1.3.0"] = Bad(errors.New("answers 503"))
		begun := time.Now()
		r.until("1.2.0 serves", func() bool { return slices.Equal(r.serving(), []string{"1.2.0"}) })
		if d := time.Since(begun); d > 6*time.Second { // the next look of the watch
			t.Errorf("the disk delayed the way back by %v", d)
		}
		r.pass(time.Hour)
		if len(r.Running()) != 2 || !r.heard("alarm") {
			t.Errorf("went on without a journal: %v", r.Running())
		}
		r.disk.Fail(nil)
		r.rest(1)
		r.expect(2, RolledBack)
	})
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		began := false
		r.on = func(_ context.Context, step string, _ Version) {
			began = began || step == "fetch"
			if step == "check" && r.phase() == journal.Idle {
				r.disk.Fail(full)
			}
		}
		r.launch()
		r.pass(time.Hour)
		if began || !slices.Equal(r.serving(), []string{"1.2.0"}) {
			t.Error("a forward step began without a saved journal")
		}
		if err := r.u.Order(t.Context(), Order{Kind: OrderPause}); err == nil || r.u.Status().State.Pause != nil {
			t.Errorf("an order was accepted that is not saved: %v", err)
		}
		r.disk.Fail(nil)
		r.rest(1)
		r.expect(3, Committed)
	})
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.launch()
		r.reach(journal.Probation)
		r.disk.Fail(full)
		must(t, r.order(Order{Kind: OrderRollback})) // taken although it cannot be saved
		r.pass(0)
		if !slices.Equal(r.serving(), []string{"1.2.0"}) {
			t.Errorf("%v accept connections", r.serving())
		}
		r.disk.Fail(nil)
		r.rest(1)
		if !slices.ContainsFunc(r.state().Held, marks(version(3))) {
			t.Errorf("%+v", r.state())
		}
	})
}

// With no way back at all, what runs keeps running, and whatever turns up first takes its place: a version that
// an operator repaired, the same bytes from the channel, or a newer release.
func TestNoWayBack(t *testing.T) {
	for _, tc := range []struct {
		name  string
		cure  func(r *rig)
		ends  int // updates
		after int // serves
	}{
		{"repaired", func(r *rig) { r.repair(version(2)) }, 1, 2},
		{"the one before repaired", func(r *rig) { r.repair(version(1)) }, 1, 1},
		{"offered again", func(r *rig) { r.offer(2) }, 1, 2},
		{"a newer release", func(r *rig) { r.offer(4) }, 2, 4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
				r.launch()
				r.reach(journal.Probation)
				r.damage(version(2))
				r.damage(version(1))
				delete(r.procs, version(2).Digest)
				r.sick["watch 1.3.0"] = Bad(errors.New("answers 503"))
				r.pass(3 * time.Hour)
				if !slices.Equal(r.serving(), []string{"1.3.0"}) || r.phase() != journal.Idle || !r.heard("alarm") {
					t.Errorf("%v accept connections in %s", r.serving(), r.phase())
				}
				if s := r.u.Status(); r.rest(1).Outcome != Stranded || !strings.Contains(s.Trouble, "no good version serves") {
					t.Errorf("ended %+v, trouble %q", r.story[0], s.Trouble)
				}
				tc.cure(r)
				r.until("it serves", func() bool { return slices.Equal(r.serving(), []string{version(tc.after).Number}) })
				r.rest(tc.ends)
				r.reach(journal.Idle)
				if s := r.u.Status(); s.State.Good[0] != version(tc.after) || s.Trouble != "" || len(r.procs) != 1 {
					t.Errorf("%s is active, trouble %q, %d processes", s.State.Good[0].Number, s.Trouble, len(r.procs))
				}
			})
		})
	}
}

func (r *rig) repair(v Version) {
	_, s := r.open()
	f, err := r.disk.OpenFile(s.File(v), os.O_WRONLY, 0)
	must(r.t, err)
	_, err = f.WriteAt(artifact(int(v.Epoch)), 0)
	must(r.t, errors.Join(err, f.Sync(), f.Close()))
}

// The active version is broken on disk at boot: the one before serves, and the broken one is fetched anew.
func TestActiveIsDamaged(t *testing.T) {
	in(t, []int{2, 1}, []int{2}, func(t *testing.T, r *rig) {
		r.procs = map[string]*proc{}
		r.damage(version(2))
		r.launch()
		if !slices.Equal(r.serving(), []string{"1.1.0"}) && r.phase() == journal.Idle {
			t.Errorf("%v accept connections", r.serving())
		}
		r.rest(1)
		r.expect(2, Committed)
		if !r.heard("alarm") {
			t.Error("nobody was told")
		}
	})
	in(t, []int{2}, nil, func(t *testing.T, r *rig) { // and it is the only one
		r.procs = map[string]*proc{}
		r.damage(version(2))
		r.launch()
		r.pass(time.Hour)
		r.repair(version(2))
		r.until("it serves", func() bool { return len(r.serving()) == 1 })
	})
}

func spoil(t *testing.T, d durable.Disk, b []byte) {
	for i := range 2 {
		f, err := d.OpenFile(fmt.Sprintf("journal/slot%d", i), os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteAt(b, 0)
		must(t, errors.Join(err, f.Sync(), f.Close()))
	}
}

// A damaged journal is made anew from what is proven to have served; a merely sealed version is not.
func TestDamagedJournal(t *testing.T) {
	in(t, []int{2, 1}, []int{2}, func(t *testing.T, r *rig) {
		_, s := r.open()
		must(t, durable.WriteFile(r.disk, s.Staged(version(3)), artifact(3), 0o600))
		must(t, s.Seal(t.Context(), version(3)))
		spoil(t, r.disk, make([]byte, 4096))
		r.procs = map[string]*proc{}
		r.updater()
		r.launch()
		if !slices.Equal(r.serving(), []string{"1.2.0"}) || !r.heard("alarm") {
			t.Errorf("%v accept connections", r.serving())
		}
		if st := r.state(); !slices.Equal(st.Good, versions(2, 1)) || st.HighWater != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// A journal from a newer launcher is not touched.
func TestNewerJournal(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		j, _ := r.open()
		st := r.state()
		must(t, j.Save(st))
		must(t, j.Save(st))
		f, err := durable.ReadFile(r.disk, "journal/slot0", 1<<20)
		must(t, err)
		newer := reprint(string(f), "schema=1", "schema=2")
		spoil(t, r.disk, []byte(newer))
		r.procs = map[string]*proc{}
		r.updater()
		before := r.disk.Ops()
		r.launch()
		if err := <-r.ended; !errors.Is(err, journal.ErrNewer) {
			t.Errorf("%v", err)
		}
		r.stop = nil
		after, err := durable.ReadFile(r.disk, "journal/slot0", 1<<20)
		must(t, err)
		if !slices.Equal(r.serving(), []string{"1.2.0"}) || !strings.HasPrefix(string(after), newer) {
			t.Errorf("%v accept connections, %d operations", r.serving(), r.disk.Ops()-before)
		}
	})
}

// reprint changes a journal slot and makes its checksum right again, as package journal specifies it.
func reprint(slot, from, to string) string {
	first, rest, _ := strings.Cut(slot, "\n")
	body, _, _ := strings.Cut(rest, "\n")
	head, _, _ := strings.Cut(strings.Replace(first, from, to, 1), " sha256=")
	sum := sha256.Sum256([]byte(head + "\n" + body))
	return head + " sha256=" + hex.EncodeToString(sum[:]) + "\n" + body + "\n"
}

// What goes wrong with the staged file between fetching and staging. Other bytes than the signed ones say
// nothing about the version: it is fetched again, with no mark against it.
func TestStagedFile(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil   func(r *rig, part string)
		verdict journal.Verdict // on the first update
	}{
		"gone":    {func(r *rig, part string) { must(r.t, r.disk.Remove(part)) }, journal.None},
		"changed": {func(r *rig, part string) { must(r.t, durable.WriteFile(r.disk, part, artifact(7), 0o600)) }, journal.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
				fetched, spoilt := 0, false
				r.on = func(_ context.Context, step string, v Version) {
					if step == "fetch" {
						fetched++
					}
					if step == "check" && r.phase() == journal.Fetching && !spoilt {
						spoilt = true
						tc.spoil(r, r.u.Store.Staged(version(3)))
					}
				}
				r.launch()
				if e := r.rest(1); e.Verdict != tc.verdict || r.heard("retry") {
					t.Errorf("%+v", e)
				}
				r.until("1.3.0 is active", func() bool { return r.state().Good[0] == version(3) })
				if st := r.state(); fetched != 2 || len(st.Quarantine) != 0 {
					t.Errorf("fetched %d times, %+v", fetched, st)
				}
			})
		})
	}
}

// A way back that is short of memory for a moment is not given up for an older one.
func TestWayBackIsTriedAgain(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.sick["watch 1.3.0"] = Bad(errors.New("answers 503"))
		r.sick["switch 1.2.0"] = errors.New("no memory")
		r.launch()
		r.reach(journal.Reverting)
		r.pass(time.Second)
		delete(r.sick, "switch 1.2.0")
		r.rest(1)
		r.expect(2, RolledBack)
		if e := r.story[0]; !strings.Contains(e.Reason, "503") {
			t.Errorf("the reason was lost: %+v", e)
		}
	})
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) { // but not for ever
		r.sick["watch 1.3.0"] = Bad(errors.New("answers 503"))
		r.sick["switch 1.2.0"] = errors.New("no memory")
		r.launch()
		r.rest(1)
		r.expect(1, RolledBack)
	})
}

// A version that rots on disk after it was sealed: a new one is fetched anew, and one to go back to is given up.
func TestDamagedBeforeWarming(t *testing.T) {
	in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
		rotten := false
		r.on = func(_ context.Context, step string, _ Version) {
			if step == "check" && r.phase() == journal.Staging && !rotten {
				rotten = true
				r.damage(version(3))
			}
		}
		r.launch()
		if e := r.rest(1); e.Verdict != journal.World {
			t.Errorf("%+v", e)
		}
		r.rest(2)
		r.expect(3, Committed)
	})
	in(t, []int{3, 2, 1}, []int{3}, func(t *testing.T, r *rig) {
		r.launch()
		r.damage(version(2))
		must(t, r.order(Order{Kind: OrderRollback}))
		if e := r.rest(1); e.Verdict != journal.Bad || e.Failed != journal.Warming {
			t.Errorf("%+v", e)
		}
		r.expect(3, Discarded)
		must(t, r.order(Order{Kind: OrderRollback}))
		r.rest(2)
		r.expect(1, Committed)
	})
}

// What is proven to have run here bounds what is chosen, even where the journal knows less.
func TestHighWaterOfProvenVersions(t *testing.T) {
	in(t, []int{1}, []int{2}, func(t *testing.T, r *rig) {
		_, s := r.open()
		must(t, durable.WriteFile(r.disk, s.Staged(version(3)), artifact(3), 0o600))
		must(t, s.Seal(t.Context(), version(3)))
		must(t, s.Prove(version(3)))
		r.launch()
		r.pass(24 * time.Hour)
		if st := r.state(); st.Good[0] != version(1) || len(r.story) != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// Garbage goes one update late, when no slot of the journal names it any more, and not at all while one
// cannot be read.
func TestCollect(t *testing.T) {
	in(t, []int{4, 3, 2, 1}, []int{5}, func(t *testing.T, r *rig) {
		r.launch()
		r.rest(1)
		for _, v := range versions(5, 4, 3, 2, 1) {
			if err := r.whole(v); err != nil {
				t.Errorf("%s: %v", v.Number, err)
			}
		}
		r.offer(6)
		r.rest(2)
		if r.whole(version(1)) == nil || r.whole(version(3)) != nil {
			t.Error("kept 1.1.0, or removed 1.3.0")
		}
	})
	for _, readable := range []bool{true, false} {
		in(t, []int{2, 1}, []int{3}, func(t *testing.T, r *rig) {
			r.on = func(_ context.Context, step string, _ Version) {
				if step != "retire" {
					return
				}
				s := r.u.Store
				must(t, durable.WriteFile(r.disk, s.Staged(version(9)), artifact(9), 0o600))
				must(t, s.Seal(t.Context(), version(9)))
				if !readable {
					r.spoilOlderSlot()
				}
			}
			r.launch()
			r.rest(1)
			if kept := r.whole(version(9)) == nil; kept == readable {
				t.Errorf("journal readable: %v, garbage kept: %v", readable, kept)
			}
		})
	}
}

// The newest four proven versions stay, also one that was turned away from and that nothing names any more: should the
// journal be lost, they are what is left.
func TestCollectKeepsTheProven(t *testing.T) {
	in(t, []int{2, 1}, nil, func(t *testing.T, r *rig) {
		r.launch()
		must(t, r.order(Order{Kind: OrderRollback}))
		r.rest(1)
		for n := 3; n <= 6; n++ {
			r.offer(n)
			r.rest(n - 1)
			if slices.Contains(r.state().Good, version(2)) {
				t.Fatalf("1.2.0 is good: %+v", r.state())
			}
			if kept := r.whole(version(2)) == nil; kept != (n < 6) {
				t.Errorf("with 1.%d.0 active 1.2.0 is kept: %v", n, kept)
			}
		}
	})
}

func (r *rig) spoilOlderSlot() {
	newest := r.u.Journal.Seq()
	for i := range 2 {
		name := fmt.Sprintf("journal/slot%d", i)
		b, err := durable.ReadFile(r.disk, name, 1<<20)
		must(r.t, err)
		if !strings.Contains(string(b[:80]), fmt.Sprintf(" seq=%d ", newest)) {
			must(r.t, durable.WriteFile(r.disk, name, make([]byte, len(b)), 0o600))
		}
	}
}
