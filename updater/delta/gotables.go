package delta

import (
	"bytes"
	"encoding/binary"
)

// Words of the runtime's moduledata (runtime/symtab.go), the same from Go 1.20 to 1.26. Slices take three.
const (
	modNames  = 1
	modUnits  = 4
	modFiles  = 7
	modPCs    = 10
	modFuncs  = 16
	modText   = 22
	modTypes  = 37
	modGofunc = 40
	modLinks  = 44 // Go 1.26 has a word more before it
	modWords  = 48
)

// tabMagic begins the header of the function table since Go 1.20: for instructions of one byte and pointers of eight.
var tabMagic = []byte{0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8}

// parseTables finds the tables of the runtime. The first word of moduledata is the address of the function table.
func (p *program) parseTables() error {
	for _, s := range p.data {
		for at := range places(p.file[s.at:s.at+s.n], tabMagic) {
			var word [8]byte
			binary.LittleEndian.PutUint64(word[:], s.addr+uint64(at))
			for _, d := range p.data {
				for md := range places(p.file[d.at:d.at+max(0, d.n-8*(modWords-1))], word[:]) {
					if p.plausible(d.at + int64(md)) {
						return p.describe(d.at + int64(md))
					}
				}
			}
		}
	}
	return errNotGo
}

// places yields where b has part.
func places(b, part []byte) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for from := 0; ; from++ {
			i := bytes.Index(b[from:], part)
			if i < 0 {
				return
			}
			if from += i; !yield(from) {
				return
			}
		}
	}
}

// plausible says whether moduledata has addresses where they should be, and slices that are full.
func (p *program) plausible(md int64) bool {
	for _, w := range []int64{modNames, modUnits, modFiles, modPCs, modFuncs, modText, modTypes, modGofunc} {
		if p.place(p.u64(md+8*w)) < 0 {
			return false
		}
	}
	for _, w := range []int64{modNames, modUnits, modFiles, modPCs, modFuncs} {
		if !p.full(md, w) {
			return false
		}
	}
	return p.u64(md+8*(modFuncs+1)) > 2
}

// full says whether a word of moduledata begins a slice of as many elements as it has room for.
func (p *program) full(md, w int64) bool {
	n := p.u64(md + 8*w + 8)
	return n > 0 && n == p.u64(md+8*w+16) && n < uint64(len(p.file))
}

// describe lists the regions that have offsets, and what these count from.
func (p *program) describe(md int64) error {
	word := func(i int64) uint64 { return p.u64(md + 8*i) }
	text, names, units, files, pcs := word(modText), word(modNames), word(modUnits), word(modFiles), word(modPCs)
	tab, types, gofunc := word(modFuncs), word(modTypes), word(modGofunc)
	p.bases = []uint64{p.low, text, names, units, files, pcs, tab, types, gofunc}
	at, n := p.place(tab), int64(word(modFuncs+1)) // with one entry more at the end, which has the end of the text
	if n*funcEntry > int64(len(p.file))-at-funcMost {
		return errNotGo
	}
	p.home = region{kind: funcs, index: at, count: n - 1, at: at + n*funcEntry, fields: []field{
		{0, text, 1}, {4, names, 1}, {16, pcs, 1}, {20, pcs, 1}, {24, pcs, 1}, {32, units, 4}, {0, pcs, 1}, {0, gofunc, 1},
	}}
	if err := p.list(text, names); err != nil {
		return err
	}
	p.home.n = p.funcs[len(p.funcs)-1].record + funcBytes - p.home.at
	p.regions = append(p.regions, p.home,
		region{kind: table, at: at, n: n * funcEntry, stride: funcEntry, fields: []field{{0, text, 1}, {4, tab, 1}}},
		region{kind: table, at: p.place(units), n: 4 * int64(word(modUnits+1)), stride: 4, fields: []field{{0, files, 1}}})
	for _, w := range []int64{modLinks, modLinks + 1} {
		if links := p.place(word(w)); links >= 0 && p.full(md, w) {
			p.regions = append(p.regions, region{kind: table, at: links, n: 4 * int64(word(w+1)), stride: 4, fields: []field{{0, types, 1}}})
			break
		}
	}
	return nil
}

// list reads the functions.
func (p *program) list(text, names uint64) error {
	first, strings, size := p.place(text), p.place(names), int64(len(p.file))
	for i := range p.home.count {
		e := p.home.index + i*funcEntry
		f := function{addr: text + uint64(p.u32(e)), record: p.home.record(p.file[e:])}
		a, b := first+p.u32(e), first+p.u32(e+funcEntry)
		if a > b || b > size || f.record < p.home.at || f.record > size-funcMost {
			return errNotGo
		}
		f.text = p.file[a:b]
		name := strings + p.u32(f.record+4)
		if name > size {
			return errNotGo
		}
		f.name = string(p.file[name:][:max(0, bytes.IndexByte(p.file[name:], 0))])
		p.funcs = append(p.funcs, f)
	}
	return nil
}
