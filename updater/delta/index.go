package delta

import (
	"encoding/binary"
	"math/bits"
)

// index finds in a text what is most like the beginning of another.
type index struct {
	text   []byte
	order  []int32 // its suffixes
	starts []int32 // in order, by the first two bytes
}

func newIndex(text []byte) *index {
	x := &index{text: text, order: suffixes(text, 256), starts: make([]int32, 1<<16+1)}
	for i := range text {
		x.starts[x.key(text[i:])+1]++
	}
	for k := range 1 << 16 {
		x.starts[k+1] += x.starts[k]
	}
	return x
}

// key is the first two bytes. The last suffix has one only, and stands before those that go on with a zero.
func (x *index) key(b []byte) int {
	if len(b) == 1 {
		return int(b[0]) << 8
	}
	return int(b[0])<<8 | int(b[1])
}

// longest returns where in the text the longest beginning of b stands, and its length, which is 0 when it would
// be less than two.
func (x *index) longest(b []byte) (at, n int) {
	if len(b) < 2 {
		return 0, 0
	}
	k := x.key(b)
	low, high := x.starts[k], x.starts[k+1]
	below, above := 0, 0 // how much of b is common to all between low and high
	for low < high {
		mid := low + (high-low)/2
		from := int(x.order[mid])
		have := min(below, above)
		have += common(x.text[from+have:], b[have:])
		if have > n {
			at, n = from, have
		}
		switch {
		case have == len(b):
			return at, n
		case from+have == len(x.text) || x.text[from+have] < b[have]:
			low, below = mid+1, have
		default:
			high, above = mid, have
		}
	}
	return at, n
}

// common returns how many bytes a and b begin with alike.
func common(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for ; i < n && a[i] == b[i]; i++ {
	}
	return i
}
