package delta

import (
	"encoding/binary"
	"io"
	"slices"
)

// pageBytes is how much of the old file is looked at together. A reference that crosses a page stays as it is.
const pageBytes = 64 << 10

// moved is the old file as it would be if its pieces had gone to where they are in the new one and every reference
// had followed: to functions, types, strings and variables. What really changed is all that is left for a patch.
//
// Its bytes depend on the old file and the layout alone. Where something is taken for a reference that is none, the
// bytes are no less certain, and the patch has to say a little more.
type moved struct {
	layout
	old  io.ReaderAt
	size int64

	page    int64 // in buf, -1 if none
	from    int64 // where it begins
	buf     []byte
	refs    []ref
	entries []byte
}

// ref is a reference: width bytes at a place, of which the value grows by what target has moved more than base, in
// units of scale.
type ref struct {
	at     int64
	width  int
	target uint64
	base   uint64 // 0 for an absolute address
	scale  int64
}

func newMoved(l layout, old io.ReaderAt, size int64) *moved {
	return &moved{layout: l, old: old, size: size, page: -1}
}

func (m *moved) ReadAt(b []byte, at int64) (n int, err error) {
	for n < len(b) {
		if at+int64(n) >= m.size {
			return n, io.EOF
		}
		if err := m.load((at + int64(n)) / pageBytes); err != nil {
			return n, err
		}
		n += copy(b[n:], m.buf[at+int64(n)-m.from:])
	}
	return n, nil
}

// load makes buf hold a page, with its references moved.
func (m *moved) load(page int64) error {
	if m.page == page {
		return nil
	}
	m.page = -1
	if err := m.find(page); err != nil {
		return err
	}
	for _, r := range m.refs {
		by := m.by(r.target)
		if r.base != 0 {
			by -= m.by(r.base)
		}
		b := m.buf[r.at-m.from:]
		if r.width == 8 {
			binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)+uint64(by))
		} else {
			binary.LittleEndian.PutUint32(b, binary.LittleEndian.Uint32(b)+uint32(by/r.scale))
		}
	}
	m.page = page
	return nil
}

// find makes buf hold a page as it is in the file, and refs the references in it.
func (m *moved) find(page int64) error {
	m.from = page * pageBytes
	m.buf = slices.Grow(m.buf[:0], pageBytes)[:min(pageBytes, m.size-m.from)]
	m.refs = m.refs[:0]
	if n, err := m.old.ReadAt(m.buf, m.from); n < len(m.buf) {
		return err
	}
	for _, r := range m.regions {
		a, b := max(m.from, r.at), min(m.from+int64(len(m.buf)), r.at+r.n)
		if a >= b {
			continue
		}
		switch r.kind {
		case code:
			m.findCode(a, b)
		case pointers:
			m.findPointers(a, b)
		case table:
			for record := a - (a-r.at)%r.stride; record < b; record += r.stride {
				m.findFields(record, r.fields, a, b)
			}
		case funcs:
			if err := m.findFuncs(r, a, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// findCode finds the operands that are relative to the end of their instruction.
func (m *moved) findCode(a, b int64) {
	addr, text := m.addr(a), m.buf[a-m.from:b-m.from]
	for i := 0; i < len(text); {
		n, operand := instruction(text[i:])
		if n == 0 {
			return
		}
		if operand > 0 {
			begin := addr + uint64(i)
			if target := operandTarget(begin, text[i:i+n], operand); target >= m.low && target < m.high {
				m.refs = append(m.refs, ref{a + int64(i+operand), 4, target, begin, 1})
			}
		}
		i += n
	}
}

// operandTarget is the address that an instruction at addr means by its operand.
func operandTarget(addr uint64, instruction []byte, operand int) uint64 {
	distance := int32(binary.LittleEndian.Uint32(instruction[operand:]))
	return addr + uint64(len(instruction)) + uint64(int64(distance))
}

// findPointers takes each word that could be an address for one. Words stand at multiples of their size.
func (m *moved) findPointers(a, b int64) {
	for a = (a + 7) &^ 7; a+8 <= b; a += 8 {
		if v := binary.LittleEndian.Uint64(m.buf[a-m.from:]); v >= m.low && v < m.high {
			m.refs = append(m.refs, ref{a, 8, v, 0, 1})
		}
	}
}

func (m *moved) findFields(record int64, fields []field, a, b int64) {
	for _, f := range fields {
		m.findOffset(record+f.at, f, a, b)
	}
}

// findOffset adds the reference of a field between a and b.
func (m *moved) findOffset(at int64, f field, a, b int64) {
	if at < a || at+4 > b {
		return
	}
	if target, ok := f.target(m.buf[at-m.from:]); ok {
		m.refs = append(m.refs, ref{at, 4, target, f.base, f.scale})
	}
}

// target is the address that an offset means. Neither none nor all bits set is one.
func (f field) target(b []byte) (uint64, bool) {
	v := binary.LittleEndian.Uint32(b)
	return f.base + uint64(v)*uint64(f.scale), v != 0 && v != 1<<32-1
}
