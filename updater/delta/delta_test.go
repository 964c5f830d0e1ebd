package delta

import (
	"bytes"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
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

func TestBig(t *testing.T) {
	a, _ := os.ReadFile("/tmp/delta-work/caddy-2.10.1")
	b, _ := os.ReadFile("/tmp/delta-work/caddy-2.10.2")
	t0 := time.Now()
	x := newIndex(a)
	t.Log("index", time.Since(t0))
	t0 = time.Now()
	bl, err := match(t.Context(), x, b)
	t.Log("match", time.Since(t0), len(bl))
	t0 = time.Now()
	p, err := encode(a, b, bl)
	t.Log("encode", time.Since(t0), len(p), err)
	os.WriteFile("/tmp/delta-work/our.bs", p, 0o644)
	t0 = time.Now()
	var out bytes.Buffer
	err = Apply(t.Context(), Files{bytes.NewReader(a), int64(len(a)), bytes.NewReader(p), int64(len(p)), int64(len(b))}, &out)
	t.Log("apply", time.Since(t0), err, bytes.Equal(out.Bytes(), b))
}
