package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, d durable.Disk, dir string) *Journal {
	t.Helper()
	j, err := Open(d, dir)
	must(t, err)
	return j
}

// numbered returns a state that carries n in a long body: several sectors, so that it can tear.
func numbered(n int) State {
	return State{Phase: Probation, HighWater: uint64(n), Reason: strings.Repeat(fmt.Sprint(n, " "), 600),
		Good: []Version{{Number: fmt.Sprintf("%d.0.0", n), Digest: fmt.Sprint(n)}}, Candidate: &Version{Number: fmt.Sprintf("%d.1.0", n)}}
}

// number reads back which state it is: 0 for none, -1 for one that nobody has saved.
func number(st State, err error) int {
	if errors.Is(err, ErrEmpty) {
		return 0
	}
	n := int(st.HighWater)
	if err != nil || !reflect.DeepEqual(st, numbered(n)) {
		return -1
	}
	return n
}

func TestSaveAndLoad(t *testing.T) {
	d, dir := durable.OS(), filepath.Join(t.TempDir(), "state", "journal")
	if _, _, err := Read(d, dir); !errors.Is(err, ErrEmpty) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read without a journal: %v", err)
	}
	j := open(t, d, dir)
	if _, err := j.Load(); !errors.Is(err, ErrEmpty) {
		t.Errorf("load of a new journal: %v", err)
	}
	if _, _, err := Read(d, dir); !errors.Is(err, ErrEmpty) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read of a new journal: %v", err)
	}
	if _, err := j.Fence(); !errors.Is(err, ErrEmpty) {
		t.Errorf("fence of a new journal: %v", err)
	}
	for n := 1; n < 6; n++ {
		must(t, j.Save(numbered(n)))
		for name, got := range map[string]int{"load": number(j.Load()), "load by another": number(open(t, d, dir).Load())} {
			if got != n {
				t.Errorf("%s: %d after saving %d", name, got, n)
			}
		}
		st, seq, err := Read(d, dir)
		if number(st, err) != n || seq != uint64(n) || j.Seq() != uint64(n) {
			t.Errorf("read: state %d, number %d, journal says %d", number(st, err), seq, j.Seq())
		}
	}
	fence, err := j.Fence()
	if err != nil || fence != 6 || j.Seq() != 6 || number(open(t, d, dir).Load()) != 5 {
		t.Errorf("fence %d, %v", fence, err)
	}
	for i := range 2 {
		if info, err := os.Stat(slotName(dir, i)); err != nil || info.Size() != slotBytes {
			t.Errorf("slot %d: %v, %v", i, info, err)
		}
	}
}

// Whatever operation the power or the process dies in, the next start finds the old state or the new one;
// and so does the one after it, when power fails again while the next start saves.
func TestEveryCut(t *testing.T) {
	var acked, tried int
	var granted, last uint64
	start := func() *durabletest.Disk {
		acked, tried, granted, last = 0, 0, 0, 0
		return durabletest.New()
	}
	run := func(d *durabletest.Disk) {
		j, err := Open(d, "state/journal")
		for n := 1; n <= 4 && err == nil; n++ {
			tried = n
			if err = j.Save(numbered(n)); err == nil {
				acked = n
				var f uint64
				if f, err = j.Fence(); err == nil {
					granted = f
				}
			}
			last = j.Seq()
		}
	}
	check := func(t *testing.T, d *durabletest.Disk, trial string) {
		again := d.Kill()
		j := open(t, d, "state/journal")
		found := number(j.Load())
		if found != acked && found != tried {
			t.Fatalf("%s: found %d, saved %d, was saving %d", trial, found, acked, tried)
		}
		if j.Seq() < last {
			t.Errorf("%s: number %d after %d", trial, j.Seq(), last)
		}
		must(t, j.Save(numbered(9)))
		if f, err := j.Fence(); err != nil || f <= granted {
			t.Errorf("%s: fence %d after %d, %v", trial, f, granted, err)
		}
		if got := number(open(t, d.Crash(0), "state/journal").Load()); got != 9 {
			t.Errorf("%s: saved 9 after it, found %d", trial, got)
		}
		if strings.HasSuffix(trial, "killed") || strings.HasSuffix(trial, "seed 2") {
			cutTwice(t, again, found, trial)
		}
	}
	durabletest.Sweep(t, start, run, check)
}

// cutTwice is the second cut: it must leave what the first start found, or what it saved.
func cutTwice(t *testing.T, first *durabletest.Disk, found int, trial string) {
	for k := 0; ; k++ {
		d := first.Kill()
		d.CutAt(k, durabletest.Torn)
		saved, seen := false, -1
		if j, err := Open(d, "state/journal"); err == nil {
			if st, err := j.Load(); err == nil || errors.Is(err, ErrEmpty) {
				if seen = number(st, err); seen < 0 {
					t.Fatalf("%s, again at %d: found a state that nobody has saved", trial, k)
				}
				saved = j.Save(numbered(9)) == nil
			}
		}
		for seed := range uint64(3) {
			got := number(open(t, d.Crash(seed), "state/journal").Load())
			if got != 9 && (saved || got != found && seen >= 0) {
				t.Fatalf("%s, again at %d, seed %d: found %d, the start before saw %d (saved: %v)", trial, k, seed, got, found, saved)
			}
		}
		if !d.Dead() {
			return
		}
	}
}

// A rebuild that failed is not taken for done, nor for a new install.
func TestRebuildFails(t *testing.T) {
	d := durabletest.New()
	j := open(t, d, "j")
	must(t, j.Save(numbered(1)))
	must(t, j.Save(numbered(2)))
	spoil(t, d, 0, damages["noise"])
	spoil(t, d, 1, damages["noise"])
	j = open(t, d, "j")
	d.Fail(func(op durabletest.Op) error {
		if op.Kind == "write" {
			return syscall.ENOSPC
		}
		return nil
	})
	if err := j.Rebuild(numbered(7)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	d.Fail(nil)
	if _, err := j.Load(); !errors.Is(err, ErrDamaged) {
		t.Errorf("after a rebuild that failed: %v", err)
	}
	must(t, j.Rebuild(numbered(7)))
	if got := number(open(t, d.Crash(0), "j").Load()); got != 7 {
		t.Errorf("found %d", got)
	}
}

func TestRebuildSurvivesEveryCut(t *testing.T) {
	done := false
	start := func() *durabletest.Disk {
		done = false
		d := durabletest.New()
		j := open(t, d, "j")
		must(t, j.Save(numbered(1)))
		must(t, j.Save(numbered(2)))
		return d
	}
	run := func(d *durabletest.Disk) {
		if j, err := Open(d, "j"); err == nil {
			done = j.Rebuild(numbered(7)) == nil
		}
	}
	durabletest.Sweep(t, start, run, func(t *testing.T, d *durabletest.Disk, trial string) {
		if got := number(open(t, d, "j").Load()); got != 7 && (done || got != 2) {
			t.Errorf("%s: found %d, done: %v", trial, got, done)
		}
	})
}

func TestUnknownFieldsAreKept(t *testing.T) {
	d := durabletest.New()
	open(t, d, "j")
	r := record{1, 5, []byte(`{"good":null,"high_water":1,"later":{"of":["a","newer","launcher"]},"phase":"idle"}`)}
	spoil(t, d, 1, func([]byte) []byte { return padded(r.print()) })
	for range 3 { // through both slots, and through a new start
		j := open(t, d, "j")
		st, err := j.Load()
		must(t, err)
		must(t, j.Save(st))
		b, err := durable.ReadFile(d, slotName("j", 1-j.slot), slotBytes)
		must(t, err)
		if !bytes.Contains(b, []byte(`"later":{"of":["a","newer","launcher"]}`)) {
			t.Errorf("lost: %s", bytes.TrimRight(b, "\x00"))
		}
	}
}

func TestSaveRefuses(t *testing.T) {
	j := open(t, durabletest.New(), "j")
	must(t, j.Save(numbered(1)))
	if err := j.Save(State{Phase: "teleporting"}); err == nil {
		t.Error("saved a phase that cannot be loaded")
	}
	if err := j.Save(State{Phase: Idle, Reason: strings.Repeat("x", slotBytes)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("saved too much: %v", err)
	}
	if number(j.Load()) != 1 || j.Seq() != 1 {
		t.Error("a refused save changed something")
	}
}

// A write that fails, in part or at its sync, is repeated in the same slot with the same number: the other
// slot holds the only state that is safe.
func TestFullDisk(t *testing.T) {
	for _, kind := range []string{"write", "sync"} {
		d := durabletest.New()
		j := open(t, d, "j")
		must(t, j.Save(numbered(1)))
		must(t, j.Save(numbered(2)))
		d.Fail(func(op durabletest.Op) error {
			if op.Kind == kind {
				return syscall.ENOSPC
			}
			return nil
		})
		for range 2 {
			if _, err := j.Fence(); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("%s fails: %v", kind, err)
			}
		}
		for n := 3; n <= 6; n++ {
			if err := j.Save(numbered(n)); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("%s fails: %v", kind, err)
			}
		}
		if number(j.Load()) != 2 || j.Seq() != 2 {
			t.Errorf("%s fails: the journal says %d, number %d", kind, number(j.Load()), j.Seq())
		}
		for seed := range uint64(20) {
			if got := number(open(t, d.Crash(seed), "j").Load()); got < 2 || got > 6 {
				t.Errorf("%s fails, seed %d: found %d", kind, seed, got)
			}
		}
		d.Fail(nil)
		must(t, j.Save(numbered(3)))
		if got := number(open(t, d.Crash(0), "j").Load()); got != 3 || j.Seq() != 3 {
			t.Errorf("%s failed, then saved 3: found %d, number %d", kind, got, j.Seq())
		}
	}
}

func TestNamed(t *testing.T) {
	j := open(t, durabletest.New(), "j")
	numbers := func() (out []string) {
		all, err := j.Named()
		must(t, err)
		for _, v := range all {
			out = append(out, v.Number)
		}
		slices.Sort(out)
		return out
	}
	if got := numbers(); len(got) > 0 {
		t.Errorf("an empty journal names %v", got)
	}
	must(t, j.Save(numbered(1)))
	must(t, j.Save(numbered(2)))
	if got, want := numbers(), []string{"1.0.0", "1.1.0", "2.0.0", "2.1.0"}; !slices.Equal(got, want) {
		t.Errorf("named %v, want those of both slots: %v", got, want)
	}
	must(t, j.Save(numbered(2)))
	if got, want := numbers(), []string{"2.0.0", "2.1.0"}; !slices.Equal(got, want) {
		t.Errorf("named %v, want each once: %v", got, want)
	}
}

func TestFencesAreUniqueAmongGoroutines(t *testing.T) {
	j := open(t, durabletest.New(), "j")
	must(t, j.Save(numbered(1)))
	var mu sync.Mutex
	var wg sync.WaitGroup
	seen := map[uint64]bool{}
	for range 8 {
		wg.Go(func() {
			for range 20 {
				f, err := j.Fence()
				if err == nil {
					err = j.Save(numbered(1))
				}
				mu.Lock()
				if err != nil || seen[f] {
					t.Errorf("fence %d given twice, or %v", f, err)
				}
				seen[f] = true
				mu.Unlock()
				_, _ = j.Load()
				_, _ = j.Named()
			}
		})
	}
	wg.Wait()
}

// BenchmarkSave prints what a transition costs here: it is this machine's fsync, and nothing else.
func BenchmarkSave(b *testing.B) {
	j := open(b, durable.OS(), b.TempDir())
	st := State{Phase: Idle, Good: []Version{{Number: "1.0.0", Minisig: strings.Repeat("m", 300)}, {Number: "0.9.0", Minisig: strings.Repeat("m", 300)}}}
	var took []time.Duration
	for b.Loop() {
		begin := time.Now()
		must(b, j.Save(st))
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// A launcher that is killed after a Sync failed leaves a record that is seen, called clean, and not on the disk. What the
// next one loads it also finds after a power cut, and so does the one after it when the power fails during its next save.
func TestLoadAfterAnEarlierFailedSync(t *testing.T) {
	d := durabletest.New()
	j := open(t, d, "journal")
	must(t, j.Save(numbered(1)))
	must(t, j.Save(numbered(2)))
	d.Fail(func(op durabletest.Op) error {
		if op.Kind == "sync" {
			return syscall.EIO
		}
		return nil
	})
	if j.Save(numbered(3)) == nil {
		t.Fatal("no failure")
	}
	d.Fail(nil)
	d = d.Kill()
	j = open(t, d, "journal")
	loaded := number(j.Load())
	if loaded != 3 {
		t.Fatalf("loaded %d", loaded)
	}
	for seed := range uint64(durabletest.Seeds) {
		if got := number(open(t, d.Crash(seed), "journal").Load()); got != loaded {
			t.Errorf("seed %d: found %d after %d was loaded", seed, got, loaded)
		}
	}
	d.CutAt(0, durabletest.Torn)
	if j.Save(numbered(4)) == nil {
		t.Fatal("no cut")
	}
	for seed := range uint64(durabletest.Seeds) {
		if got := number(open(t, d.Crash(seed), "journal").Load()); got < loaded {
			t.Errorf("seed %d: found %d after a save that was cut, %d had been loaded", seed, got, loaded)
		}
	}
}
