package durabletest

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
)

// Cut is what becomes of the operation during which the power fails.
type Cut int

const (
	Before Cut = iota // it does not happen
	Torn              // a write happens in part; every other operation happens or not
	Lost              // it happens, and its answer is lost
)

func (c Cut) String() string { return [...]string{"before", "torn", "answer lost"}[c] }

// CutAt lets k more operations succeed and cuts the power during the next one.
func (d *Disk) CutAt(k int, how Cut) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut, d.how = k, how
	d.rng = rand.New(rand.NewPCG(uint64(k), uint64(how)))
}

// Ends makes every operation from the cut on call f, in the goroutine that asked for it, in place of an answer. With
// runtime.Goexit in it a process ends where it stands, as if it had been killed: what it did before is done, and none of
// its goroutines gets beyond its next operation. If f returns, the answer is ErrPower.
func (d *Disk) Ends(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ends = f
}

// power is the answer of every operation from the cut on; the caller holds the lock, and lets it go by a defer.
func (d *Disk) power() error {
	if d.ends != nil {
		d.ends()
	}
	return ErrPower
}

// Dead says whether the power has failed.
func (d *Disk) Dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

// Crash returns the disk that is found when the power comes back, the same for the same seed. With seed 0
// nothing survives that was not synced, with 1 everything does, and any other throws for each thing.
func (d *Disk) Crash(seed uint64) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.crashed(seed)
}

// Film makes every operation that succeeds show f what Crash would return after it. So one run shows all that power cuts
// at any of its operations leave. f is called by who asked for the operation, and must not use d.
func (d *Disk) Film(seed uint64, f func(found *Disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.film = func() { f(d.crashed(seed)) }
}

// Same says whether two disks, which nobody uses meanwhile, hold the same, durable and not.
func (d *Disk) Same(other *Disk) bool { return reflect.DeepEqual(d.root, other.root) }

// crashed is Crash with the lock held.
func (d *Disk) crashed(seed uint64) *Disk {
	found := New()
	found.root = d.root.crashed(newDie(seed), map[*node]*node{})
	return found
}

// Kill returns the disk that the next process finds if only the process had died: all that was done is
// seen, and what was not synced can still be lost.
func (d *Disk) Kill() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := New()
	found.root = d.root.clone(map[*node]*node{})
	return found
}

// Next is Kill for who is done with the process that died: it gets no operation done any more, and no memory is kept
// for it, however much of it is still around.
func (d *Disk) Next() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := New()
	found.root, d.root, d.dead = d.root, found.root, true
	return found
}

// do counts one operation and lets it take effect, unless it is the one to fail. The caller holds the lock
// and has checked that the operation is possible and that there is power.
func (d *Disk) do(op Op, effect func()) error {
	d.ops++
	if d.fail != nil {
		if err := d.fail(op); err != nil {
			return err
		}
	}
	if d.cut != 0 {
		d.cut--
		effect()
		if d.film != nil {
			d.film()
		}
		return nil
	}
	d.dead = true
	if d.how == Lost || d.how == Torn && (op.Kind == "write" || d.rng.IntN(2) == 0) {
		effect()
	}
	return d.power()
}

// Seeds is how many different disks Sweep shows after each cut, beside the one after a kill.
const Seeds = 6

// Sweep proves that a piece of work can be cut anywhere. It makes a disk with start and does the work with
// run, cutting the power at the first operation, the second, and so on in every way, until a run ends
// uncut. After each it hands to check what may be found: the disk after Kill, and those after Crash with
// the seeds 0 to Seeds-1. The trial says where the cut was, for messages; run's own findings travel in
// variables of the test.
func Sweep(t *testing.T, start func() *Disk, run func(*Disk), check func(t *testing.T, found *Disk, trial string)) {
	t.Helper()
	const limit = 10000 // operations: a run that is longer never ends
	for _, how := range []Cut{Before, Torn, Lost} {
		for k := 0; ; k++ {
			if k == limit {
				t.Fatalf("still running after %d operations", k)
			}
			d := start()
			d.CutAt(k, how)
			run(d)
			trial := fmt.Sprintf("cut at operation %d (%v)", k, how)
			check(t, d.Kill(), trial+", killed")
			for seed := range uint64(Seeds) {
				check(t, d.Crash(seed), fmt.Sprintf("%s, seed %d", trial, seed))
			}
			if !d.Dead() {
				break
			}
		}
	}
}
