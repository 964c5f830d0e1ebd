package journal

import (
	"bytes"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

// spoil changes the file of a slot.
func spoil(t *testing.T, d durable.Disk, slot int, change func(b []byte) []byte) {
	t.Helper()
	b, err := durable.ReadFile(d, slotName("j", slot), slotBytes)
	must(t, err)
	must(t, durable.WriteFile(d, slotName("j", slot), change(b), 0o600))
}

var damages = map[string]func(b []byte) []byte{
	"zeros":     func(b []byte) []byte { return make([]byte, len(b)) },
	"empty":     func(b []byte) []byte { return nil },
	"truncated": func(b []byte) []byte { return b[:300] },
	"header":    func(b []byte) []byte { return b[:60] },
	"one bit":   func(b []byte) []byte { b[700] ^= 4; return b },
	"number":    func(b []byte) []byte { return bytes.Replace(b, []byte("seq="), []byte("seq=9"), 1) },
	"noise":     func(b []byte) []byte { return bytes.Repeat([]byte{0xa5}, len(b)) },
	"huge":      func(b []byte) []byte { return bytes.Repeat([]byte("turnstone-journal "), len(b)) },
}

func TestOneSlotDamaged(t *testing.T) {
	for name, change := range damages {
		for slot, want := range []int{3, 2} { // slot 0 has state 1, then 3; slot 1 has state 2
			d := durabletest.New()
			j := open(t, d, "j")
			for n := 1; n <= 3; n++ {
				must(t, j.Save(numbered(n)))
			}
			at := 1 - slot // damage the older one first: the newer must count
			if j.slot == slot {
				at = slot
			}
			if want == 2 {
				at = 1 - j.slot
			}
			spoil(t, d, at, change)
			j = open(t, d, "j")
			if got := number(j.Load()); got != want {
				t.Errorf("%s in slot %d: found %d, want %d", name, at, got, want)
			}
			if _, err := j.Named(); err == nil {
				t.Errorf("%s in slot %d: Named vouches for a slot that it cannot read", name, at)
			}
			if f, err := j.Fence(); err != nil || f <= 3 {
				t.Errorf("%s in slot %d: fence %d is not above every number given before (%v)", name, at, f, err)
			}
			must(t, j.Save(numbered(8)))
			if got := number(open(t, d.Crash(0), "j").Load()); got != 8 {
				t.Errorf("%s in slot %d: saved 8, found %d", name, at, got)
			}
			if v, err := j.Named(); err != nil || len(v) != 4 {
				t.Errorf("%s in slot %d: named %v, %v after two good writes", name, at, v, err)
			}
			if info, err := d.Lstat(slotName("j", at)); err != nil || info.Size() < slotBytes {
				t.Errorf("%s in slot %d: the space was not taken back: %v", name, at, info)
			}
		}
	}
}

func TestBothSlotsDamaged(t *testing.T) {
	for name, change := range damages {
		d := durabletest.New()
		j := open(t, d, "j")
		must(t, j.Save(numbered(1)))
		must(t, j.Save(numbered(2)))
		spoil(t, d, 0, change)
		spoil(t, d, 1, change)
		before := uint64(time.Now().UnixMilli())
		j = open(t, d, "j")
		if st, err := j.Load(); !errors.Is(err, ErrDamaged) || !reflect.DeepEqual(st, State{}) {
			t.Fatalf("%s: %v, %v", name, st, err)
		}
		if err := j.Save(numbered(3)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: saved over the damage: %v", name, err)
		}
		if _, err := j.Fence(); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: fenced without a state: %v", name, err)
		}
		if _, _, err := Read(d, "j"); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: read: %v", name, err)
		}
		must(t, j.Rebuild(numbered(4)))
		if j.Seq() < before || number(open(t, d.Crash(0), "j").Load()) != 4 {
			t.Errorf("%s: rebuilt at %d, state %d", name, j.Seq(), number(open(t, d, "j").Load()))
		}
		if v, err := j.Named(); err != nil || len(v) != 2 {
			t.Errorf("%s: after the rebuild named %v, %v", name, v, err)
		}
	}
}

func TestSlotRemoved(t *testing.T) {
	d := durabletest.New()
	j := open(t, d, "j")
	for n := 1; n <= 4; n++ {
		must(t, j.Save(numbered(n)))
	}
	must(t, d.Remove(slotName("j", 0))) // while it runs
	must(t, j.Save(numbered(5)))
	must(t, j.Save(numbered(6)))
	must(t, d.Remove(slotName("j", j.slot))) // and between two runs: the older one
	j = open(t, d, "j")
	if got := number(j.Load()); got != 6 {
		t.Errorf("found %d", got)
	}
	if f, err := j.Fence(); err != nil || f < 8 {
		t.Errorf("fence %d, %v: the lost slot may have held 7", f, err)
	}
}

func TestNewerLauncher(t *testing.T) {
	good, err := printState(numbered(5), nil)
	must(t, err)
	for name, r := range map[string]record{
		"schema":        {2, 9, good},
		"body":          {2, 9, []byte("not even JSON")},
		"phase":         {1, 9, bytes.Replace(good, []byte(`"probation"`), []byte(`"teleporting"`), 1)},
		"type of field": {1, 9, bytes.Replace(good, []byte(`"high_water":5`), []byte(`"high_water":{}`), 1)},
	} {
		d := durabletest.New()
		j := open(t, d, "j")
		must(t, j.Save(numbered(1)))
		must(t, j.Save(numbered(2)))
		spoil(t, d, 0, func([]byte) []byte { return padded(r.print()) })
		j = open(t, d, "j")
		if st, err := j.Load(); !errors.Is(err, ErrNewer) || !reflect.DeepEqual(st, State{}) {
			t.Errorf("%s: loaded %v, %v", name, st, err)
		}
		if err := j.Save(numbered(3)); !errors.Is(err, ErrNewer) {
			t.Errorf("%s: saved: %v", name, err)
		}
		if _, err := j.Named(); !errors.Is(err, ErrNewer) {
			t.Errorf("%s: named: %v", name, err)
		}
		if _, _, err := Read(d, "j"); !errors.Is(err, ErrNewer) {
			t.Errorf("%s: read: %v", name, err)
		}
		must(t, j.Rebuild(numbered(4)))
		if got := number(open(t, d, "j").Load()); got != 4 {
			t.Errorf("%s: rebuilt, found %d", name, got)
		}
	}
}
