package delta

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// The lengths are those that objdump prints.
func TestInstruction(t *testing.T) {
	for text, want := range map[string][2]int{
		"c3": {1, 0}, "90": {1, 0}, "cc": {1, 0}, "e8 01020304": {5, 1}, "e9 01020304": {5, 1}, "eb 10": {2, 0}, "74 05": {2, 0},
		"0f84 01020304": {6, 2}, "488d05 01020304": {7, 3}, "488b0d 01020304": {7, 3}, "4c8d3d 01020304": {7, 3},
		"833d 01020304 00": {7, 2}, "48833d 01020304 00": {8, 3}, "48c705 01020304 05060708": {11, 3}, "66c705 01020304 0506": {9, 3},
		"f605 01020304 01": {7, 2}, "f61d 01020304": {6, 2}, "f705 01020304 05060708": {10, 2}, "803d 01020304 00": {7, 2},
		"48b8 0102030405060708": {10, 0}, "b8 01020304": {5, 0}, "4889442408": {5, 0}, "48894424 10": {5, 0}, "488d9c2480000000": {8, 0},
		"488b048500000000": {8, 0}, "64488b0c25f8ffffff": {9, 0}, "f20f1005 01020304": {8, 4}, "660fefc0": {4, 0}, "0f1f440000": {5, 0},
		"660f3a0fc108": {6, 0}, "660f3800c1": {5, 0}, "c5f877": {3, 0}, "c5fe6f05 01020304": {8, 4}, "c4e27d5805 01020304": {9, 5},
		"c4e37d46c131": {6, 0}, "62f1fe486f05 01020304": {10, 6}, "f0480fb10d 01020304": {9, 5}, "69c0 01020304": {6, 0}, "6bc00a": {3, 0},
		"0fba e007": {4, 0}, "ff15 01020304": {6, 2}, "4883ec28": {4, 0}, "4881ec 01020304": {7, 0}, "c20800": {3, 0},
		"4d3b6610": {4, 0}, "e8 0102": {0, 0}, "488d05 01": {0, 0}, "": {0, 0},
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if want[0] > 0 {
			b = append(b, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90)
		}
		if n, operand := instruction(b); n != want[0] || operand != want[1] {
			t.Errorf("%s: length %d, operand at %d, want %v", text, n, operand, want)
		}
	}
}

func goodLayout() layout {
	return layout{
		low: 0x400000, high: 0x500000, segments: []segment{{0, 1000, 0x400000}},
		regions: []region{
			{kind: code, at: 0, n: 100}, {kind: pointers, at: 100, n: 100},
			{kind: table, at: 200, n: 80, stride: 8, fields: []field{{0, 0x400000, 1}, {4, 0x400100, 4}}},
			{kind: funcs, at: 300, n: 700, index: 200, count: 10, fields: []field{{0, 0x400000, 1}, {4, 0x400200, 1}, {0, 0x400300, 1}}},
		},
		shifts: []shift{{0x400000, 0}, {0x400010, 16}, {0x400800, -32}},
	}
}

// Each layout differs from the first, which is accepted, in the one thing that it is about.
func TestLayoutRefuses(t *testing.T) {
	for name, change := range map[string]func(*layout){
		"good":                      func(*layout) {},
		"a segment before the file": func(l *layout) { l.segments[0].at = -1 },
		"a segment past the file":   func(l *layout) { l.segments[0].n = 1001 },
		"an endless segment":        func(l *layout) { l.segments[0] = segment{1000, 1<<63 - 1, 0} },
		"a region past the file":    func(l *layout) { l.regions[3].n = 701 },
		"a negative region":         func(l *layout) { l.regions[0].n = -1 },
		"regions in each other":     func(l *layout) { l.regions[1].at = 99 },
		"a kind that is none":       func(l *layout) { l.regions[0].kind = kinds },
		"a negative kind":           func(l *layout) { l.regions[0].kind = -1 },
		"records of nothing":        func(l *layout) { l.regions[2].stride = 0 },
		"records without end":       func(l *layout) { l.regions[2].stride = 1 << 40 },
		"a field before its record": func(l *layout) { l.regions[2].fields[0].at = -8 },
		"a field far away":          func(l *layout) { l.regions[2].fields[0].at = 1 << 40 },
		"a scale of nothing":        func(l *layout) { l.regions[2].fields[0].scale = 0 },
		"a table past the file":     func(l *layout) { l.regions[3].count = 101 },
		"a table before the file":   func(l *layout) { l.regions[3].index = -8 },
		"a table without end":       func(l *layout) { l.regions[3].count = 1<<63 - 1 },
		"records without lists":     func(l *layout) { l.regions[3].fields = l.regions[3].fields[:1] },
		"shifts in no order":        func(l *layout) { l.shifts[1].addr = 0x400000 },
		"too many segments":         func(l *layout) { l.segments = make([]segment, maxSegments+1) },
		"too many regions":          func(l *layout) { l.regions = make([]region, maxRegions+1) },
		"too many fields":           func(l *layout) { l.regions[2].fields = make([]field, maxFields+1) },
		"too many shifts": func(l *layout) {
			for i := range uint64(maxShifts) {
				l.shifts = append(l.shifts, shift{0x500000 + i, 0})
			}
		},
	} {
		l := goodLayout()
		change(&l)
		got, err := readLayout(bytes.NewReader(appendBzip2(nil, l.print(), 9)), 1000)
		if name == "good" && (err != nil || !reflect.DeepEqual(got, l)) {
			t.Errorf("%+v comes back as %+v, %v", l, got, err)
		}
		if name != "good" && !errors.Is(err, ErrPatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	l := goodLayout()
	for name, b := range map[string][]byte{
		"more":      appendBzip2(nil, append(l.print(), 0), 9),
		"less":      appendBzip2(nil, l.print()[:len(l.print())-1], 9),
		"endless":   appendBzip2(nil, make([]byte, 100<<20), 9),
		"no bzip2":  l.print(),
		"cut short": appendBzip2(nil, l.print(), 9)[:20],
	} {
		if _, err := readLayout(bytes.NewReader(b), 1000); !errors.Is(err, ErrPatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	old, fresh := make([]byte, 1000), []byte("8 bytes.")
	patch := wrap(&l, mustMake(t, old, fresh))
	if got, err := applied(old, patch, 8); err != nil || !bytes.Equal(got, fresh) {
		t.Errorf("the twin: %q, %v", got, err)
	}
	for name, n := range map[string]int64{"negative": -1, "past the patch": int64(len(patch)) - goBytes + 1, "endless": 1<<63 - 1} {
		putInt(patch[8:], n)
		if _, err := applied(old, patch, 8); !errors.Is(err, ErrPatch) || !strings.Contains(err.Error(), "a layout of") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is read of a moved file does not depend on the pieces in which it is read.
func TestMovedIsTheSameInPieces(t *testing.T) {
	old := make([]byte, 3*pageBytes+100)
	for i := range old {
		old[i] = byte(i * i >> 3)
	}
	l := layout{low: 0, high: 1 << 63, segments: []segment{{0, int64(len(old)), 0}}, shifts: []shift{{0, 1}, {1 << 20, 1000}, {1 << 40, -5}},
		regions: []region{{kind: code, n: 100_000}, {kind: pointers, at: 100_001, n: 50_000}, {kind: table, at: 150_003, n: 40_000, stride: 7, fields: []field{{1, 5, 2}, {9, 7, 1}}}}}
	m := newMoved(l, bytes.NewReader(old), int64(len(old)))
	whole := make([]byte, len(old))
	if _, err := m.ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(whole, old) {
		t.Error("nothing has moved")
	}
	for _, n := range []int{1000, pageBytes - 1, pageBytes, 2*pageBytes + 1} {
		for at := len(old) - n; at >= 0; at -= n {
			b := make([]byte, n)
			if _, err := m.ReadAt(b, int64(at)); err != nil || !bytes.Equal(b, whole[at:at+n]) {
				t.Fatalf("%d bytes at %d: %v", n, at, err)
			}
		}
	}
	if n, err := m.ReadAt(make([]byte, 10), int64(len(old)-5)); n != 5 || err == nil {
		t.Errorf("%d bytes past the end, %v", n, err)
	}
}

// FuzzLayout: whatever a layout says that is accepted, the old file is read to its end.
func FuzzLayout(f *testing.F) {
	l := goodLayout()
	f.Add(l.print(), []byte("the old file, more or less"))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, text, part []byte) {
		old := append(bytes.Repeat(part, 2000/(len(part)+1)), make([]byte, 1000)...)[:1000]
		l, err := readLayout(bytes.NewReader(appendBzip2(nil, text, 9)), 1000)
		if err != nil {
			if !errors.Is(err, ErrPatch) {
				t.Error(err)
			}
			return
		}
		if n, err := newMoved(l, bytes.NewReader(old), 1000).ReadAt(make([]byte, 1000), 0); n != 1000 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

// FuzzInstruction: any bytes have a length that is within them.
func FuzzInstruction(f *testing.F) {
	f.Add([]byte{0x48, 0x8d, 0x05, 1, 2, 3, 4})
	f.Add([]byte{0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x05, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, operand := instruction(b); n < 0 || n > len(b) || operand > 0 && operand+4 > n {
			t.Errorf("% x: length %d, operand at %d", b, n, operand)
		}
	})
}

// FuzzParseGo: what calls itself an executable is understood or refused.
func FuzzParseGo(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01"), 0)
	f.Fuzz(func(t *testing.T, b []byte, _ int) {
		if p, err := parseGo(b); err == nil && len(p.funcs) == 0 {
			t.Error("a program without a function")
		}
	})
}
