package delta

// instruction returns the length of the x86-64 instruction at the start of b, and where in it a 32-bit operand
// stands that is relative to its end, 0 if there is none. The length is 0 if b ends within it. What is no
// instruction gets any length: where code and data are mixed the decoder soon falls into step again, and what it
// takes for an operand meanwhile costs a few bytes in the patch and no more.
//
// The layout is that of the Intel manual, volume 2, appendix A.
func instruction(b []byte) (n, operand int) {
	d := decoder{b: b}
	op, table := d.opcode()
	if table == 1 && op >= 0x40 && op <= 0x4f { // REX before nothing
		return 1, 0
	}
	switch {
	case table == 1 && (op == 0xe8 || op == 0xe9), table == 2 && op&0xf0 == 0x80:
		operand = d.at
		d.at += 4
	case d.vex || hasModRM(op, table):
		operand = d.modRM(op, table)
	}
	d.at += d.immediate(op, table)
	if d.at > len(b) {
		return 0, 0
	}
	return d.at, operand
}

type decoder struct {
	b      []byte
	at     int
	narrow bool // operands of 16 bits
	wide   bool // of 64
	vex    bool
	reg    byte // of ModRM
}

func (d *decoder) next() byte {
	d.at++
	if d.at > len(d.b) {
		return 0
	}
	return d.b[d.at-1]
}

// opcode reads prefixes and the opcode: its byte and its table, 1 for those of one byte, 2 to 4 for those after 0F,
// 0F 38 and 0F 3A.
func (d *decoder) opcode() (op byte, table int) {
	for range 15 {
		switch op = d.next(); {
		case op == 0x66:
			d.narrow = true
		case op == 0xf0, op == 0xf2, op == 0xf3, op == 0x2e, op == 0x36, op == 0x3e, op == 0x26, op == 0x64, op == 0x65, op == 0x67:
		case op&0xf0 == 0x40:
			d.wide = op&8 != 0
			if d.at < len(d.b) && d.b[d.at]&0xf0 == 0x40 {
				return op, 1
			}
		case op == 0xc5:
			d.vex = true
			d.at++
			return d.next(), 2
		case op == 0xc4:
			d.vex = true
			table = 1 + int(d.next()&0x1f)
			d.at++
			return d.next(), table
		case op == 0x62:
			d.vex = true
			table = 1 + int(d.next()&7)
			d.at += 2
			return d.next(), table
		case op == 0x0f:
			switch op = d.next(); op {
			case 0x38:
				return d.next(), 3
			case 0x3a:
				return d.next(), 4
			}
			return op, 2
		default:
			return op, 1
		}
	}
	return op, 1
}

// modRM skips the byte that says where an operand is, and what belongs to it.
func (d *decoder) modRM(op byte, table int) (operand int) {
	if d.vex && table == 2 && op == 0x77 { // VZEROUPPER
		return 0
	}
	m := d.next()
	mod, rm := m>>6, m&7
	d.reg = m >> 3 & 7
	if mod == 3 {
		return 0
	}
	if rm == 4 {
		if sib := d.next(); mod == 0 && sib&7 == 5 {
			d.at += 4
		}
	}
	switch {
	case mod == 0 && rm == 5:
		operand = d.at
		d.at += 4
	case mod == 1:
		d.at++
	case mod == 2:
		d.at += 4
	}
	return operand
}

// hasModRM says whether an opcode without VEX has such a byte.
func hasModRM(op byte, table int) bool {
	switch {
	case table > 2:
		return true
	case table == 2:
		return !(op >= 0x05 && op <= 0x0b || op == 0x0e || op >= 0x30 && op <= 0x37 || op == 0x77 ||
			op >= 0xa0 && op <= 0xa2 || op >= 0xa8 && op <= 0xaa || op >= 0xc8 && op <= 0xcf)
	case op < 0x40:
		return op&7 < 4
	case op < 0xc0:
		return op == 0x63 || op == 0x69 || op == 0x6b || op >= 0x80 && op <= 0x8f
	}
	return op <= 0xc1 || op == 0xc6 || op == 0xc7 || op >= 0xd0 && op <= 0xd3 || op >= 0xd8 && op <= 0xdf || op == 0xf6 || op == 0xf7 || op >= 0xfe
}

// immediate is the length of the constant at the end of an instruction, a relative one of 8 bits included.
func (d *decoder) immediate(op byte, table int) int {
	full := 4
	if d.narrow {
		full = 2
	}
	switch table {
	case 1:
		return d.immediate1(op, full)
	case 2:
		if op >= 0x70 && op <= 0x73 || op == 0xa4 || op == 0xac || op == 0xba || op == 0xc2 || op >= 0xc4 && op <= 0xc6 {
			return 1
		}
	case 4:
		return 1
	}
	return 0
}

func (d *decoder) immediate1(op byte, full int) int {
	switch {
	case op < 0x40:
		return [8]int{4: 1, 5: full}[op&7]
	case op == 0x68, op == 0x69, op == 0x81, op == 0xa9, op == 0xc7, op == 0xf7 && d.reg < 2:
		return full
	case op >= 0xb8 && op <= 0xbf:
		if d.wide {
			return 8
		}
		return full
	case op >= 0xa0 && op <= 0xa3:
		return 8
	case op == 0x6a, op == 0x6b, op&0xf0 == 0x70, op == 0x80, op == 0x82, op == 0x83, op == 0xa8, op >= 0xb0 && op <= 0xb7,
		op == 0xc0, op == 0xc1, op == 0xc6, op == 0xcd, op >= 0xe0 && op <= 0xe7, op == 0xeb, op == 0xf6 && d.reg < 2:
		return 1
	case op == 0xc2, op == 0xca:
		return 2
	case op == 0xc8:
		return 3
	}
	return 0
}
