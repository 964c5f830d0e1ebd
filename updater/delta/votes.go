package delta

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
)

// votes say how far an address has moved, with how many references for each distance.
type votes map[uint64]map[int64]int

// Votes of what is known by more than that two references stand at the same place.
const (
	known = 1000 // the linker says so
	named = 8    // it is the beginning of the same function
	alike = 2    // it is referred to in the same place of the same function
)

func (v votes) add(from, to uint64, n int) {
	if v[from] == nil {
		v[from] = map[int64]int{}
	}
	v[from][int64(to-from)] += n
}

// shifts draws the map that most references agree with, without what a single one says against those before it: an
// entry of the map costs as much as it saves there.
func (v votes) shifts() []shift {
	type run struct {
		shift
		votes int
	}
	var runs []run
	for _, addr := range slices.Sorted(maps.Keys(v)) {
		best := run{shift: shift{addr: addr}}
		for by, n := range v[addr] {
			if n > best.votes || n == best.votes && by < best.by {
				best.by, best.votes = by, n
			}
		}
		if k := len(runs) - 1; k >= 0 && runs[k].by == best.by {
			runs[k].votes += best.votes
		} else {
			runs = append(runs, best)
		}
	}
	var list []shift
	for _, r := range runs {
		if k := len(list) - 1; r.votes > 1 && (k < 0 || list[k].by != r.by) {
			list = append(list, r.shift)
		}
	}
	return list
}

// addPrograms asks the functions that both programs have under the same name.
func (v votes) addPrograms(old, fresh *program) {
	for i, base := range old.bases {
		v.add(base, fresh.bases[i], known)
	}
	namesakes := map[string][]function{}
	for _, f := range fresh.funcs {
		namesakes[f.name] = append(namesakes[f.name], f)
	}
	for _, f := range old.funcs {
		if list := namesakes[f.name]; len(list) > 0 {
			namesakes[f.name] = list[1:] // of several with one name the first is the first
			v.add(f.addr, list[0].addr, named)
			v.addRecords(old, fresh, f, list[0])
			v.addCode(f, list[0])
		}
	}
}

// addRecords asks the _func records, if they have as many offsets.
func (v votes) addRecords(old, fresh *program, a, b function) {
	v.add(old.addr(a.record), fresh.addr(b.record), named)
	x, y := old.targets(a), fresh.targets(b)
	if len(x) != len(y) {
		return
	}
	for i := range x {
		if x[i] != 0 && y[i] != 0 {
			v.add(x[i], y[i], alike)
		}
	}
}

// targets are the addresses that the offsets of a function's record mean, 0 for those that are none.
func (p *program) targets(f function) (list []uint64) {
	p.home.eachOffset(f.record, p.file[f.record:], func(at int64, x field) {
		target, ok := x.target(p.file[at:])
		if !ok {
			target = 0
		}
		list = append(list, target)
	})
	return list
}

// addCode asks the operands of two functions, up to the first instruction in which more than that differs.
func (v votes) addCode(f, g function) {
	a, b := f.text, g.text
	for i := 0; ; {
		n, operand := instruction(a[i:])
		if n == 0 || i+n > len(b) {
			return
		}
		x, y := a[i:i+n], b[i:i+n]
		if operand == 0 && !bytes.Equal(x, y) {
			return
		}
		if operand > 0 {
			if !bytes.Equal(x[:operand], y[:operand]) || !bytes.Equal(x[operand+4:], y[operand+4:]) {
				return
			}
			v.add(operandTarget(f.addr+uint64(i), x, operand), operandTarget(g.addr+uint64(i), y, operand), alike)
		}
		i += n
	}
}

// addBlocks asks the pointers in the parts of the files that have been found to be alike.
func (v votes) addBlocks(old, fresh *program, blocks []block) error {
	blocks = slices.Clone(blocks)
	slices.SortFunc(blocks, func(a, b block) int { return cmp.Compare(a.old, b.old) })
	m := newMoved(old.layout, bytes.NewReader(old.file), int64(len(old.file)))
	for page := range (m.size + pageBytes - 1) / pageBytes {
		if err := m.find(page); err != nil {
			return err
		}
		for _, r := range m.refs {
			at := now(blocks, int(r.at), r.width)
			if r.width != 8 || at < 0 {
				continue // all other references have names
			}
			if target := fresh.u64(int64(at)); target >= fresh.low && target < fresh.high {
				v.add(r.target, target, 1)
			}
		}
	}
	return nil
}

// now is where n bytes at a place of the old file are in the new one, -1 if they are not. The blocks are in the
// order of the old file.
func now(blocks []block, at, n int) int {
	i, found := slices.BinarySearchFunc(blocks, at, func(b block, at int) int { return cmp.Compare(b.old, at) })
	if !found {
		i--
	}
	if i < 0 || at+n > blocks[i].old+blocks[i].n {
		return -1
	}
	return at - blocks[i].old + blocks[i].new
}
