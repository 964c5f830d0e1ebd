package delta

import (
	"bytes"
	"debug/elf"
	"debug/pe"
	"encoding/binary"
	"errors"
	"slices"
)

// errNotGo says that a file is none that is understood, which is no fault: the plain form does for it.
var errNotGo = errors.New("no executable of Go for amd64 that is understood")

// program is a Go executable as the linker laid it out.
type program struct {
	file []byte
	layout
	data  []segment  // where pointers are, among other things
	bases []uint64   // what offsets count from, in an order that is the same for every program
	funcs []function // in the order of their table
	home  region     // of their records
}

// function is one of a program, from its _func record.
type function struct {
	name   string
	text   []byte
	addr   uint64 // of text
	record int64  // place of the record
}

// minAddr is the lowest address of a program that is understood: below, small numbers would pass for addresses.
const minAddr = 1 << 16

// parseGo understands a Go executable for amd64, ELF or PE, linked at a fixed address, of Go 1.20 or later.
func parseGo(file []byte) (*program, error) {
	p := &program{file: file}
	if p.parseELF() != nil && p.parsePE() != nil {
		return nil, errNotGo
	}
	for _, s := range slices.Concat(p.segments, p.data) {
		if s.at < 0 || s.n < 0 || s.at > int64(len(file)) || s.n > int64(len(file))-s.at || s.addr < minAddr {
			return nil, errNotGo
		}
	}
	if err := p.parseTables(); err != nil {
		return nil, err
	}
	slices.SortFunc(p.regions, func(a, b region) int { return int(a.at - b.at) })
	end := int64(0)
	for _, r := range p.regions {
		if r.at < end || r.n < 0 || r.n > int64(len(file))-r.at {
			return nil, errNotGo
		}
		end = r.at + r.n
	}
	p.addPointers()
	return p, nil
}

func (p *program) parseELF() error {
	f, err := elf.NewFile(bytes.NewReader(p.file))
	if err != nil {
		return err
	}
	if f.Machine != elf.EM_X86_64 || f.Type != elf.ET_EXEC || f.ByteOrder != binary.LittleEndian {
		return errNotGo
	}
	p.layout = layout{low: 1<<64 - 1}
	for _, s := range f.Progs {
		if s.Type == elf.PT_LOAD {
			p.segments = append(p.segments, segment{int64(s.Off), int64(s.Filesz), s.Vaddr})
			p.low, p.high = min(p.low, s.Vaddr), max(p.high, s.Vaddr+s.Memsz)
		}
	}
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC != 0 && s.Type != elf.SHT_NOBITS {
			p.section(segment{int64(s.Offset), int64(s.FileSize), s.Addr}, s.Flags&elf.SHF_EXECINSTR != 0)
		}
	}
	return nil
}

func (p *program) parsePE() error {
	f, err := pe.NewFile(bytes.NewReader(p.file))
	if err != nil {
		return err
	}
	head, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || f.Machine != pe.IMAGE_FILE_MACHINE_AMD64 {
		return errNotGo
	}
	p.layout = layout{low: head.ImageBase, high: head.ImageBase + uint64(head.SizeOfImage)}
	for _, s := range f.Sections {
		part := segment{int64(s.Offset), int64(min(s.Size, s.VirtualSize)), head.ImageBase + uint64(s.VirtualAddress)}
		if part.n > 0 && s.Characteristics&pe.IMAGE_SCN_MEM_DISCARDABLE == 0 {
			p.segments = append(p.segments, part)
			if s.Name == ".pdata" { // where each function begins and ends, and its unwinding
				p.regions = append(p.regions, region{kind: table, at: part.at, n: part.n, stride: 12, fields: []field{{0, p.low, 1}, {4, p.low, 1}, {8, p.low, 1}}})
				continue
			}
			p.section(part, s.Characteristics&pe.IMAGE_SCN_MEM_EXECUTE != 0)
		}
	}
	return nil
}

func (p *program) section(s segment, executable bool) {
	if executable {
		p.regions = append(p.regions, region{kind: code, at: s.at, n: s.n})
	} else {
		p.data = append(p.data, s)
	}
}

// addPointers makes regions of what is between the others, which are in their order, and is data.
func (p *program) addPointers() {
	taken := p.regions
	for _, s := range p.data {
		from, end := s.at, s.at+s.n
		for _, r := range taken {
			if r.at+r.n <= from || r.at >= end {
				continue
			}
			p.addRegion(from, r.at)
			from = max(from, r.at+r.n)
		}
		p.addRegion(from, end)
	}
	slices.SortFunc(p.regions, func(a, b region) int { return int(a.at - b.at) })
}

func (p *program) addRegion(from, to int64) {
	if from < to {
		p.regions = append(p.regions, region{kind: pointers, at: from, n: to - from})
	}
}

// place returns where in the file an address is, -1 if it is not there.
func (p *program) place(addr uint64) int64 {
	for _, s := range p.segments {
		if addr >= s.addr && addr-s.addr < uint64(s.n) {
			return s.at + int64(addr-s.addr)
		}
	}
	return -1
}

func (p *program) u32(at int64) int64  { return int64(binary.LittleEndian.Uint32(p.file[at:])) }
func (p *program) u64(at int64) uint64 { return binary.LittleEndian.Uint64(p.file[at:]) }
