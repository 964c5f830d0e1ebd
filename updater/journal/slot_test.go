package journal

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Changing the format of a slot strands every installed launcher, so it is written down here too.
func TestSlotFormat(t *testing.T) {
	body, err := printState(State{Phase: Idle, HighWater: 7}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The checksum is that of sha256sum over the first line up to " sha256", a newline, and the body.
	want := "turnstone-journal schema=1 seq=42 bytes=43 sha256=71cf11ac48176ed058632806873dadb3a721fc8c0d555940fe16812609846f0e\n" +
		`{"good":null,"high_water":7,"phase":"idle"}` + "\n"
	if got := string(record{1, 42, body}.print()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// FuzzParseRecord: what is accepted is printed as it was, and nothing panics.
func FuzzParseRecord(f *testing.F) {
	body, _ := printState(State{Phase: Warming, Good: []Version{{Number: "1.0.0"}}}, nil)
	f.Add(record{1, 0, nil}.print())
	f.Add(record{1, 42, body}.print())
	f.Add(padded(record{9, 1 << 63, []byte("\n\x00")}.print()))
	f.Add([]byte("turnstone-journal schema=1 seq=1 bytes=4294967295 sha256=\n"))
	f.Add([]byte("turnstone-journal schema=+1 seq=01 bytes=0 sha256=\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			return
		}
		if p := r.print(); !bytes.HasPrefix(b, p) {
			t.Errorf("parsed %q, printed %q", b, p)
		}
		slot{record: r}.state() // must not panic
	})
}

// FuzzDamage changes a good slot at will: what is still accepted must be what was written.
func FuzzDamage(f *testing.F) {
	body, _ := printState(State{Phase: Probation, HighWater: 12, Reason: "a\nb"}, nil)
	good := record{1, 41, body}.print()
	f.Add(uint16(20), []byte("2"))
	f.Add(uint16(30), []byte("\x00\x00\x00"))
	f.Add(uint16(len(good)-1), []byte("\x00"))
	f.Add(uint16(0), good)
	f.Fuzz(func(t *testing.T, at uint16, patch []byte) {
		b := padded(bytes.Clone(good))
		copy(b[min(int(at), len(b)):], patch)
		r, err := parseRecord(b)
		if err == nil && !bytes.Equal(r.print(), good) && !bytes.HasPrefix(patch, []byte("turnstone-journal ")) {
			t.Errorf("changed at %d by %q, and accepted as %q", at, patch, r.print())
		}
	})
}

// FuzzParseState: a body that is accepted keeps its meaning and its unknown fields when printed.
func FuzzParseState(f *testing.F) {
	for _, s := range []string{`{"phase":"idle"}`, `{"phase":"idle","PHASE":"warming","later":[1,{"x":"<&>"}]}`, `null`, `[]`, `{`,
		`{"phase":"probation","remaining":-5,"candidate":{"number":"1.0.0"},"pin":{"until":"2026-01-02T03:04:05.6+01:00"}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		st, extra, err := parseState(b)
		if err != nil {
			return
		}
		printed, err := printState(st, extra)
		if err != nil {
			t.Fatalf("parsed %q, and cannot print it: %v", b, err)
		}
		again, extra2, err := parseState(printed)
		if err != nil || len(extra2) != len(extra) {
			t.Fatalf("printed %q: %v, %d of %d unknown fields", printed, err, len(extra2), len(extra))
		}
		twice, err := printState(again, extra2)
		if err != nil || !bytes.Equal(printed, twice) {
			t.Errorf("printed %q, then %q (%v)", printed, twice, err)
		}
	})
}

func TestParseThenPrintIsTheIdentity(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		st := drawState(r)
		body, err := printState(st, nil)
		if err != nil {
			r.Fatal(err)
		}
		rec, err := parseRecord(padded(record{schema, rapid.Uint64().Draw(r, "seq"), body}.print()))
		if err != nil {
			r.Fatal(err)
		}
		got, extra, err := parseState(rec.body)
		if err != nil || len(extra) > 0 || !reflect.DeepEqual(got, st) {
			r.Fatalf("saved %+v\nloaded %+v, %v, %v", st, got, extra, err)
		}
	})
}

func TestUnknownFieldsStayApart(t *testing.T) {
	body := []byte(`{"PHASE":"warming","good":null,"high_water":3,"later":{"a":[1,2]},"phase":"idle"}`)
	st, extra, err := parseState(body)
	if err != nil || st.Phase != Idle || len(extra) != 2 {
		t.Fatalf("%+v, %v, %v", st, extra, err)
	}
	if printed, err := printState(st, extra); err != nil || !bytes.Equal(printed, body) {
		t.Errorf("printed %s (%v)", printed, err)
	}
}

// The engine bounds its lists to 64 marks each; with reasons of 500 bytes they must fit.
func TestFullStateFits(t *testing.T) {
	st := State{Phase: Probation, Reason: strings.Repeat("r", 500)}
	mark := Mark{strings.Repeat("9", 32), strings.Repeat("d", 64), strings.Repeat("c", 64), 1 << 63, strings.Repeat("r", 500), time.Now().UTC()}
	v := Version{strings.Repeat("9", 32), strings.Repeat("d", 64), 1 << 63, strings.Repeat("f", 64), 1 << 62, strings.Repeat("m", 400), "tar.zst", strings.Repeat("p", 200), 1 << 62}
	for range 64 {
		st.Quarantine, st.Held = append(st.Quarantine, mark), append(st.Held, mark)
	}
	for range 16 {
		st.Good = append(st.Good, v)
	}
	body, err := printState(st, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(record{schema, 1, body}.print()); n > slotBytes {
		t.Errorf("%d bytes do not fit in %d", n, slotBytes)
	}
}

// The list of phases exists twice, as constants and as those that load.
func TestKnownPhases(t *testing.T) {
	for _, p := range []Phase{"", "Idle", "idle ", "rolling"} {
		if knownPhase(p) {
			t.Errorf("%q is known", p)
		}
	}
}

func drawState(r *rapid.T) State {
	text := rapid.StringN(0, 40, 200)
	version := rapid.Custom(func(r *rapid.T) Version {
		return Version{Number: text.Draw(r, "number"), Digest: text.Draw(r, "digest"), Epoch: rapid.Uint64().Draw(r, "epoch"),
			File: text.Draw(r, "file"), SizeBytes: rapid.Int64().Draw(r, "size"), Minisig: text.Draw(r, "minisig")}
	})
	when := rapid.Custom(func(r *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(0, 1<<36).Draw(r, "s"), rapid.Int64Range(0, 999999999).Draw(r, "ns")).UTC()
	})
	mark := rapid.Custom(func(r *rapid.T) Mark {
		return Mark{text.Draw(r, "number"), text.Draw(r, "digest"), text.Draw(r, "config"), rapid.Uint64().Draw(r, "epoch"), text.Draw(r, "reason"), when.Draw(r, "at")}
	})
	st := State{
		Phase:     rapid.SampledFrom([]Phase{Idle, Fetching, Staging, Warming, Switching, Probation, Retiring, Reverting, Discarding}).Draw(r, "phase"),
		Good:      rapid.SliceOfN(version, 0, 3).Draw(r, "good"),
		Candidate: rapid.Ptr(version, true).Draw(r, "candidate"),
		HighWater: rapid.Uint64().Draw(r, "high"),
		Remaining: time.Duration(rapid.Int64().Draw(r, "remaining")),
		Boots:     rapid.Int().Draw(r, "boots"),
		Starts:    rapid.Int().Draw(r, "starts"),
		Clean:     rapid.Bool().Draw(r, "clean"),
		Verdict:   rapid.SampledFrom([]Verdict{None, Bad, World, Superseded, Yanked, Operator}).Draw(r, "verdict"),
		Reason:    text.Draw(r, "reason"),
	}
	st.Quarantine = orNil(rapid.SliceOfN(mark, 0, 3).Draw(r, "quarantine"))
	st.Held = orNil(rapid.SliceOfN(mark, 0, 3).Draw(r, "held"))
	if rapid.Bool().Draw(r, "orders") {
		st.Pin = &Pin{text.Draw(r, "pin"), text.Draw(r, "why"), when.Draw(r, "until")}
		st.Pause = &Pause{Reason: text.Draw(r, "why")}
		st.Want = &Want{Number: text.Draw(r, "want"), Now: rapid.Bool().Draw(r, "now")}
	}
	return st
}

// orNil is what an empty list with omitempty comes back as.
func orNil(marks []Mark) []Mark {
	if len(marks) == 0 {
		return nil
	}
	return marks
}

// Not a fuzz target, so that it runs every time: random bytes, and random damage to real slots.
func TestRandomBytesAreNeverAState(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	body, _ := printState(State{Phase: Idle, Reason: strings.Repeat("x", 900)}, nil)
	good := record{schema, 5, body}.print()
	for range 20000 {
		b := bytes.Clone(good)
		for range 1 + rng.IntN(4) {
			b[rng.IntN(len(b))] ^= byte(1 + rng.IntN(255))
		}
		if rng.IntN(3) == 0 {
			b = b[:rng.IntN(len(b))]
		}
		if r, err := parseRecord(b); err == nil && !bytes.Equal(r.print(), good) {
			t.Fatalf("accepted %q", b)
		}
	}
	if !json.Valid(body) {
		t.Fatal("the body is not JSON")
	}
}
