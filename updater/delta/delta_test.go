package delta

import (
	"bytes"
	"compress/bzip2"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestSuffixes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 200 {
		for _, letters := range []int{1, 2, 4, 256} {
			text := make([]byte, n)
			for i := range text {
				text[i] = byte(r.IntN(letters))
			}
			want := make([]int32, n)
			for i := range want {
				want[i] = int32(i)
			}
			slices.SortFunc(want, func(a, b int32) int { return bytes.Compare(text[a:], text[b:]) })
			if got := suffixes(text, 256); !slices.Equal(got, want) {
				t.Fatalf("%v: %v, want %v", text, got, want)
			}
		}
	}
}

// pairs are files of many kinds: alike, moved about, unlike, empty, and of long runs.
func pairs() map[string][2][]byte {
	r := rand.New(rand.NewPCG(7, 8))
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	edited := bytes.Clone(noise)
	for range 2000 {
		edited[r.IntN(len(edited))]++
	}
	edited = slices.Insert(edited, 1000, noise[5000:6000]...)
	edited = slices.Delete(edited, 70_000, 90_000)
	moved := slices.Concat(noise[200_000:], noise[:100_000], edited[:5000], noise[100_000:200_000])
	runs := make([]byte, 200_000)
	sparse := bytes.Clone(runs)
	for i := 0; i < len(sparse); i += 1000 {
		sparse[i] = byte(i)
	}
	return map[string][2][]byte{
		"edited": {noise, edited}, "moved": {noise, moved}, "back": {moved, noise}, "the same": {noise, noise},
		"unlike": {noise[:50_000], noise[100_000:]}, "from nothing": {nil, noise[:1000]}, "to nothing": {noise[:1000], nil},
		"nothing": {nil, nil}, "one byte": {{1}, {1}}, "runs": {runs, sparse}, "runs back": {sparse, runs}, "short": {[]byte("ab"), []byte("abab")},
		"runs grow": {runs[:1000], runs}, "end": {noise[:1000], noise[500:1000]},
	}
}

func mustMake(t testing.TB, old, fresh []byte) []byte {
	t.Helper()
	patch, err := Make(context.Background(), old, fresh)
	if err != nil {
		t.Fatal(err)
	}
	return patch
}

func applied(old, patch []byte, newBytes int) ([]byte, error) {
	var out bytes.Buffer
	err := Apply(context.Background(), Files{bytes.NewReader(old), int64(len(old)), bytes.NewReader(patch), int64(len(patch)), int64(newBytes)}, &out)
	return out.Bytes(), err
}

func TestMakeAndApply(t *testing.T) {
	for name, p := range pairs() {
		patch := mustMake(t, p[0], p[1])
		got, err := applied(p[0], patch, len(p[1]))
		if err != nil || !bytes.Equal(got, p[1]) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if Kind(patch) != Plain || Kind(p[0]) != "" {
			t.Errorf("%s: kinds %q and %q", name, Kind(patch), Kind(p[0]))
		}
	}
	if p := pairs()["edited"]; len(mustMake(t, p[0], p[1])) > 12_000 {
		t.Error("a patch for 2000 changed bytes is too large")
	}
}

// No code is longer than bzip2 allows, whatever the counts are, and the codes are complete.
func TestCodeLengths(t *testing.T) {
	steep := []int{1, 1}
	for len(steep) < 40 {
		steep = append(steep, steep[len(steep)-1]+steep[len(steep)-2])
	}
	for _, counts := range [][]int{steep, make([]int, 258), {0, 0, 9}, {5, 5, 5}} {
		sum := 0
		for _, l := range codeLengths(counts) {
			if l < 1 || l > longestCode {
				t.Fatalf("%v: length %d", counts, l)
			}
			sum += 1 << (longestCode - l)
		}
		if sum != 1<<longestCode {
			t.Errorf("%v: codes for %d of %d", counts, sum, 1<<longestCode)
		}
	}
}

// steps prints control triples.
func steps(list ...int64) []byte {
	b := make([]byte, 8*len(list))
	for i, v := range list {
		putInt(b[8*i:], v)
	}
	return b
}

// Each patch differs from the first, which is accepted, in the one thing that it is about.
func TestApplyRefuses(t *testing.T) {
	const huge = 1<<63 - 1
	old, zeros := []byte("0123456789"), make([]byte, 8)
	head := func(at int, v int64) []byte {
		p := pack(8, steps(4, 2, -3, 2, 0, 0), zeros, []byte("ab"))
		putInt(p[at:], v)
		return p
	}
	uncompressed := head(8, 8)
	putInt(uncompressed[16:], 0)
	step := func(list ...int64) []byte { return pack(8, steps(list...), zeros, []byte("ab")) }
	for name, c := range map[string]struct {
		patch      []byte
		want, says string // the file, or why there is none
	}{
		"good":                      {step(4, 2, -3, 2, 0, 0), "0123ab12", ""},
		"one idle step":             {step(0, 0, 1, 4, 2, 0, 2, 0, 0), "1234ab56", ""},
		"empty":                     {nil, "", "header: "},
		"no magic":                  {bytes.Replace(head(8, 0), []byte("BSDIFF40"), []byte("BSDIFF41"), 1), "", "it begins with"},
		"negative steps":            {head(8, -1), "", "streams of"},
		"endless steps":             {head(8, huge), "", "streams of"},
		"negative differences":      {head(16, -1), "", "streams of"},
		"endless differences":       {head(16, huge), "", "streams of"},
		"negative size":             {head(24, -8), "", "it makes -8"},
		"another size":              {head(24, 9), "", "it makes 9"},
		"endless size":              {head(24, huge), "", "it makes 9223372036854775807"},
		"a negative copy":           {step(-4, 2, -3, 2, 0, 0), "", "a step of -4"},
		"a copy past the new":       {step(9, 0, 0), "", "a step of 9"},
		"an endless copy":           {step(huge, 2, 0), "", "a step of 9223372036854775807"},
		"negative extra":            {step(4, -2, -3, 2, 0, 0), "", "a step of 4 and -2"},
		"extra past the new":        {step(4, 5, 0), "", "a step of 4 and 5"},
		"endless extra":             {step(4, huge, 0), "", "a step of 4 and 9223372036854775807"},
		"a copy past the old":       {step(4, 0, 4, 4, 0, 0), "", "a step of 4 and 0 bytes at 8"},
		"a move before the old":     {step(4, 2, -5, 2, 0, 0), "", "a move by -5"},
		"a move past the old":       {step(4, 2, 7, 2, 0, 0), "", "a move by 7"},
		"an endless move":           {step(4, 2, huge, 2, 0, 0), "", "a move by 9223372036854775807"},
		"an endless move back":      {step(4, 2, -huge, 2, 0, 0), "", "a move by -9223372036854775807"},
		"steps that bring nothing":  {step(0, 0, 0, 0, 0, 0, 4, 2, -3, 2, 0, 0), "", "steps that bring nothing"},
		"too few steps":             {step(4, 2, 0), "", "steps: "},
		"half a step":               {step(4, 2, -3, 2, 0), "", "steps: "},
		"too few differences":       {pack(8, steps(4, 2, -3, 2, 0, 0), zeros[:5], []byte("ab")), "", "differences: "},
		"too few extra bytes":       {pack(8, steps(4, 2, -3, 2, 0, 0), zeros, []byte("a")), "", "extra bytes: "},
		"cut in its last stream":    {head(24, 8)[:len(head(24, 8))-12], "", "extra bytes: "},
		"not compressed by bzip2":   {append(uncompressed[:headerBytes], zeros...), "", "bzip2 data invalid"},
		"differences are no bzip2":  {head(16, 5), "", "differences: "},
		"makes less than is signed": {pack(6, steps(4, 2, 0), zeros, []byte("ab")), "", "it makes 6"},
		"makes more than is signed": {pack(10, steps(4, 2, 0, 4, 0, 0), zeros, []byte("ab")), "", "it makes 10"},
		"the announced is not made": {pack(9, steps(4, 2, -3, 2, 0, 0), zeros, []byte("ab")), "", "it makes 9"},
	} {
		got, err := applied(old, c.patch, 8)
		if c.want != "" && (err != nil || string(got) != c.want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if c.want == "" && (!errors.Is(err, ErrPatch) || !strings.Contains(err.Error(), c.says)) || len(got) > 8 {
			t.Errorf("%s: %d bytes, %v, want %q", name, len(got), err, c.says)
		}
	}
}

func TestApplyStops(t *testing.T) {
	p := pairs()["edited"]
	patch := mustMake(t, p[0], p[1])
	order := errors.New("an operator's order")
	ctx, cancel := context.WithCancelCause(t.Context())
	f := Files{bytes.NewReader(p[0]), int64(len(p[0])), bytes.NewReader(patch), int64(len(patch)), int64(len(p[1]))}
	written := 0
	err := Apply(ctx, f, writer(func(b []byte) (int, error) {
		if written += len(b); written > 100_000 {
			cancel(order)
		}
		return len(b), nil
	}))
	if !errors.Is(err, order) || written > 100_000+2*chunkBytes {
		t.Errorf("%d bytes, %v", written, err)
	}
	ctx, cancel = context.WithCancelCause(t.Context())
	cancel(order)
	if _, err := Make(ctx, p[0], p[1]); !errors.Is(err, order) {
		t.Errorf("made all the same: %v", err)
	}
	full := errors.New("disk full")
	if err := Apply(t.Context(), f, writer(func([]byte) (int, error) { return 0, full })); !errors.Is(err, full) || errors.Is(err, ErrPatch) {
		t.Errorf("a full disk: %v", err)
	}
	f.Old = broken{}
	if err := Apply(t.Context(), f, io.Discard); !errors.Is(err, errDisk) || errors.Is(err, ErrPatch) {
		t.Errorf("an old file that cannot be read: %v", err)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

type broken struct{}

var errDisk = errors.New("disk broken")

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errDisk }

// FuzzPatch: whatever a patch says, Apply ends, stays within the announced size, and blames the patch.
func FuzzPatch(f *testing.F) {
	old := []byte("the quick brown fox jumps over the lazy dog")
	good := mustMake(f, old, []byte("the quick red fox jumps over the lazy cat"))
	f.Add(good, 41)
	f.Add(good, 40)
	f.Add(good[:40], 41)
	f.Add([]byte("BSDIFF40"), 0)
	packed, err := Pack(old)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed, len(old))
	f.Add(packed, 7)
	l := goodLayout()
	f.Add(wrap(&l, good), 41)
	f.Fuzz(func(t *testing.T, patch []byte, size int) {
		if size < 0 || size > 1<<20 {
			return
		}
		checkFuzzed(t, old, patch, size)
	})
}

// FuzzSteps gets past bzip2, whose checksums a fuzzer does not guess.
func FuzzSteps(f *testing.F) {
	f.Add(steps(4, 2, -3, 2, 0, 0), make([]byte, 6), []byte("ab"), 8)
	f.Add(steps(0, 0, 1, 4, 2, 0, 2, 0, 0), make([]byte, 6), []byte("ab"), 8)
	f.Add(steps(-1, 2, 1<<62), []byte{}, []byte("ab"), 8)
	f.Fuzz(func(t *testing.T, steps, diff, extra []byte, size int) {
		if size < 0 || size > 1<<20 {
			return
		}
		checkFuzzed(t, []byte("0123456789"), pack(size, steps, diff, extra), size)
	})
}

func checkFuzzed(t *testing.T, old, patch []byte, size int) {
	got, err := applied(old, patch, size)
	if len(got) > size || err == nil && len(got) != size {
		t.Errorf("%d bytes, announced %d, %v", len(got), size, err)
	}
	if err != nil && !errors.Is(err, ErrPatch) {
		t.Errorf("not the patch's fault: %v", err)
	}
}

// FuzzBzip2: the standard library reads what we compress.
func FuzzBzip2(f *testing.F) {
	for _, p := range pairs() {
		f.Add(p[1])
	}
	f.Add(bytes.Repeat([]byte("ab"), 500))
	f.Add(bytes.Repeat([]byte{7}, 1000))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := io.ReadAll(bzip2.NewReader(bytes.NewReader(appendBzip2(nil, data, 9))))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes come back as %d, %v", len(data), len(got), err)
		}
	})
}

// FuzzMake: what Make makes, Apply undoes.
func FuzzMake(f *testing.F) {
	f.Add([]byte("abracadabra"), []byte("abracadabracadabra"))
	f.Add([]byte{}, []byte{0})
	f.Fuzz(func(t *testing.T, old, fresh []byte) {
		got, err := applied(old, mustMake(t, old, fresh), len(fresh))
		if err != nil || !bytes.Equal(got, fresh) {
			t.Errorf("%q, want %q, %v", got, fresh, err)
		}
	})
}
