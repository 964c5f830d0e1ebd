package delta

import "slices"

// This is a writer of bzip2, which the form of the classic patch demands and the standard library does not have.
// The modules that have one make patches of Go programs 15 % larger than they need be, because they do not fit
// the code tables to the data.
//
// A stream is a header, blocks of at most level times 100 kB, and a footer. Each block is shortened where a byte
// stands four times or more, sorted (Burrows-Wheeler), moved to front, shortened where that gave zeros, and coded
// (huffman.go).

const bzipUnit = 100_000

// appendBzip2 adds a stream with the bytes of b to dst, in blocks of at most that level and no larger than b: the
// reader makes its tables, four bytes for one, for the largest block that the header allows.
func appendBzip2(dst, b []byte, level int) []byte {
	level = min(level, 1+len(b)/bzipUnit)
	w := bitWriter{out: append(dst, 'B', 'Z', 'h', '0'+byte(level))}
	whole := uint32(0)
	for len(b) > 0 {
		block, used := shortened(b, level*bzipUnit-19) // the classic tool leaves as many free
		sum := bzipSum(b[:used])
		whole = (whole<<1 | whole>>31) ^ sum
		w.put(0x314159265359, 48)
		w.put(uint64(sum), 32)
		w.put(0, 1)
		w.block(block)
		b = b[used:]
	}
	w.put(0x177245385090, 48)
	w.put(uint64(whole), 32)
	w.put(0, (8-w.n%8)%8)
	return w.out
}

// bitWriter puts bits together, the highest first.
type bitWriter struct {
	out []byte
	acc uint64
	n   uint // bits in acc, below 8 between two calls
}

func (w *bitWriter) put(v uint64, n uint) {
	w.acc, w.n = w.acc<<n|v, w.n+n
	for ; w.n >= 8; w.n -= 8 {
		w.out = append(w.out, byte(w.acc>>(w.n-8)))
	}
}

// shortened returns as much of b as fits into most bytes, with up to 255 more of a byte that stood four times
// counted in one.
func shortened(b []byte, most int) (block []byte, used int) {
	for used < len(b) && len(block)+5 <= most {
		c, n := b[used], 1
		for n < 4+255 && used+n < len(b) && b[used+n] == c {
			n++
		}
		used += n
		for range min(n, 4) {
			block = append(block, c)
		}
		if n >= 4 {
			block = append(block, byte(n-4))
		}
	}
	return block, used
}

// bzipSum is CRC-32 with the highest bit first, which hash/crc32 does not have.
func bzipSum(b []byte) uint32 {
	sum := ^uint32(0)
	for _, c := range b {
		sum = sum<<8 ^ bzipTable[byte(sum>>24)^c]
	}
	return ^sum
}

var bzipTable = func() (table [256]uint32) {
	for i := range table {
		v := uint32(i) << 24
		for range 8 {
			carry := v >> 31
			v = v<<1 ^ carry*0x04c11db7
		}
		table[i] = v
	}
	return table
}()

// sorted returns the last column of all rotations of b in their order, and the row of b itself.
func sorted(b []byte) (last []byte, row int) {
	n := int32(len(b))
	last = make([]byte, 0, n)
	for _, i := range suffixes(append(slices.Clone(b), b...), 256) {
		switch {
		case i == 0:
			row = len(last)
			last = append(last, b[n-1])
		case i < n:
			last = append(last, b[i-1])
		}
	}
	return last, row
}

func (w *bitWriter) block(b []byte) {
	last, row := sorted(b)
	w.put(uint64(row), 24)
	var there [256]bool
	for _, c := range b {
		there[c] = true
	}
	var front []byte
	var parts [16]bool // of the alphabet: which occur at all
	for c, yes := range there {
		if yes {
			front = append(front, byte(c))
			parts[c/16] = true
		}
	}
	w.flags(parts[:])
	for i, yes := range parts {
		if yes {
			w.flags(there[16*i : 16*i+16])
		}
	}
	w.coded(symbols(last, front), len(front)+2)
}

func (w *bitWriter) flags(list []bool) {
	for _, yes := range list {
		v := uint64(0)
		if yes {
			v = 1
		}
		w.put(v, 1)
	}
}

// symbols moves each byte to the front and says where it was: 0 and 1 are digits of a number of zeros, the rest is
// one more than the place; the end has a symbol of its own. Front is all bytes that occur, in order, and is changed.
func symbols(b, front []byte) []uint16 {
	end := uint16(len(front) + 1)
	out := make([]uint16, 0, len(b)/2+2)
	zeros := 0
	flush := func() {
		for ; zeros > 0; zeros = (zeros - 1) / 2 {
			out = append(out, uint16(1-zeros%2))
		}
	}
	for _, c := range b {
		at := slices.Index(front, c)
		if at == 0 {
			zeros++
			continue
		}
		flush()
		copy(front[1:at+1], front[:at])
		front[0] = c
		out = append(out, uint16(at+1))
	}
	flush()
	return append(out, end)
}
