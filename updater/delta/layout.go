package delta

import (
	"bufio"
	"compress/bzip2"
	"encoding/binary"
	"fmt"
	"io"
	"sort"
)

// layout says where references stand in the old file and what has become of what they point to. Addresses are
// those that the program has in memory. Only who makes a patch looks into the headers of executables: the layout
// is in the patch, and whatever it says, applying reads nothing but the old file, and comes to an end.
type layout struct {
	low, high uint64 // the addresses that a pointer may hold: low to below high
	segments  []segment
	regions   []region // by place, none in another
	shifts    []shift  // by addr
}

// segment is a stretch of the file that is loaded at addr.
type segment struct {
	at, n int64
	addr  uint64
}

// Kinds of regions.
const (
	code     = iota // x86-64 instructions
	pointers        // words of 64 bits, some of which are addresses
	table           // records of one size, with offsets of 32 bits at some places
	funcs           // the _func records of a Go program, at the places that a table names
	kinds
)

// region is a stretch of the file with references of one kind.
type region struct {
	kind   int
	at, n  int64
	stride int64   // table: of a record
	fields []field // table, funcs
	index  int64   // funcs: the place of the table that has their offsets from it
	count  int64   // of its entries
}

// field is an offset of 32 bits, in units of scale, from an address.
type field struct {
	at    int64 // in the record
	base  uint64
	scale int64
}

// shift says by how much addresses from addr on have moved.
type shift struct {
	addr uint64
	by   int64
}

// by returns how far an address has moved.
func (l *layout) by(addr uint64) int64 {
	i := sort.Search(len(l.shifts), func(i int) bool { return l.shifts[i].addr > addr })
	if i == 0 {
		return 0
	}
	return l.shifts[i-1].by
}

// addr returns the address of a place in the file, 0 if it is not loaded.
func (l *layout) addr(at int64) uint64 {
	for _, s := range l.segments {
		if at >= s.at && at-s.at < s.n {
			return s.addr + uint64(at-s.at)
		}
	}
	return 0
}

// Bounds of a layout. The largest takes 2 MB; that of a program of 50 MB takes some kB.
const (
	maxLayout   = 1 << 20 // as bytes
	maxSegments = 64
	maxRegions  = 1 << 12
	maxFields   = 16
	maxShifts   = 1 << 16
	maxScale    = 8
	maxStride   = 1 << 12
)

// print gives the layout as numbers of variable length: low, high, and then each list with its length.
func (l *layout) print() (b []byte) {
	put := func(list ...int64) {
		for _, v := range list {
			b = binary.AppendVarint(b, v)
		}
	}
	put(int64(l.low), int64(l.high), int64(len(l.segments)))
	for _, s := range l.segments {
		put(s.at, s.n, int64(s.addr))
	}
	put(int64(len(l.regions)))
	for _, r := range l.regions {
		put(int64(r.kind), r.at, r.n, r.stride, r.index, r.count, int64(len(r.fields)))
		for _, f := range r.fields {
			put(f.at, int64(f.base), f.scale)
		}
	}
	put(int64(len(l.shifts)))
	last := shift{}
	for _, s := range l.shifts {
		put(int64(s.addr-last.addr), s.by-last.by)
		last = s
	}
	return b
}

// readLayout reads a layout for an old file of size bytes from its compressed form.
func readLayout(r io.Reader, size int64) (layout, error) {
	p := parser{b: bufio.NewReader(io.LimitReader(bzip2.NewReader(r), maxLayout)), size: size}
	l := p.layout()
	if _, err := p.b.ReadByte(); p.bad || err != io.EOF {
		return layout{}, fmt.Errorf("%w: layout", ErrPatch)
	}
	return l, nil
}

// parser is the inverse of print. Once something was bad it stays so.
type parser struct {
	b    *bufio.Reader
	size int64 // of the old file
	bad  bool
}

func (p *parser) int() int64 {
	v, err := binary.ReadVarint(p.b)
	p.check(err == nil)
	return v
}

func (p *parser) check(ok bool) { p.bad = p.bad || !ok }

// count reads the length of a list.
func (p *parser) count(most int64) int64 {
	n := p.int()
	p.check(n >= 0 && n <= most)
	if p.bad {
		return 0
	}
	return n
}

// part reads a stretch of the old file.
func (p *parser) part() (at, n int64) {
	at, n = p.int(), p.int()
	p.check(at >= 0 && n >= 0 && at <= p.size && n <= p.size-at)
	return at, n
}

func (p *parser) layout() (l layout) {
	l.low, l.high = uint64(p.int()), uint64(p.int())
	for range p.count(maxSegments) {
		at, n := p.part()
		l.segments = append(l.segments, segment{at, n, uint64(p.int())})
	}
	end := int64(0)
	for range p.count(maxRegions) {
		r := p.region()
		p.check(r.at >= end)
		end = r.at + r.n
		l.regions = append(l.regions, r)
	}
	last := shift{}
	n := p.count(maxShifts)
	l.shifts = make([]shift, 0, n)
	for i := range n {
		s := shift{last.addr + uint64(p.int()), last.by + p.int()}
		p.check(i == 0 || s.addr > last.addr)
		l.shifts = append(l.shifts, s)
		last = s
	}
	return l
}

func (p *parser) region() (r region) {
	r.kind = int(p.int())
	r.at, r.n = p.part()
	r.stride, r.index, r.count = p.int(), p.int(), p.int()
	p.check(r.kind >= 0 && r.kind < kinds && r.stride >= 0 && r.stride <= maxStride)
	p.check(r.index >= 0 && r.count >= 0 && r.index <= p.size && r.count <= (p.size-r.index)/funcEntry)
	for range p.count(maxFields) {
		f := field{p.int(), uint64(p.int()), p.int()}
		p.check(f.at >= 0 && f.at <= maxStride && f.scale >= 1 && f.scale <= maxScale)
		r.fields = append(r.fields, f)
	}
	p.check(r.kind != table || r.stride >= 4)
	p.check(r.kind != funcs || len(r.fields) >= 2)
	return r
}
