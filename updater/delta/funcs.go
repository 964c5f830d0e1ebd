package delta

import (
	"encoding/binary"
	"sort"
)

// The _func record of a Go program (runtime/runtime2.go): what is fixed, then npcdata and nfuncdata offsets.
const (
	funcBytes   = 44
	funcNPCData = 28 // 32 bits
	funcNData   = 43 // 8 bits
	funcEntry   = 8  // bytes of the table's entry for it: where it begins, and where its record is in the table
	funcLists   = 2
	funcListed  = 256 // the most that is believed of the length of a list
	funcMost    = funcBytes + funcLists*funcListed*4
)

// findFuncs finds the records that reach into a page, by a search in the table, which has them in their order.
func (m *moved) findFuncs(r region, a, b int64) error {
	var failed error
	first := sort.Search(int(r.count), func(i int) bool {
		var e [funcEntry]byte
		if _, err := m.old.ReadAt(e[:], r.index+int64(i)*funcEntry); err != nil {
			failed = err
		}
		return r.record(e[:]) > a-funcMost
	})
	n := min(int(r.count)-first, (pageBytes+funcMost)/funcBytes)
	if n <= 0 || failed != nil {
		return failed
	}
	m.entries = append(m.entries[:0], make([]byte, n*funcEntry)...)
	if _, err := m.old.ReadAt(m.entries, r.index+int64(first)*funcEntry); err != nil {
		return err
	}
	for e := m.entries; len(e) > 0; e = e[funcEntry:] {
		at := r.record(e)
		if at >= b || at < r.at || at+funcBytes > r.at+r.n {
			break
		}
		if err := m.findFunc(r, at, a, b); err != nil {
			return err
		}
	}
	return nil
}

// record is the place of the record that an entry of the table names.
func (r region) record(entry []byte) int64 {
	return r.index + int64(binary.LittleEndian.Uint32(entry[4:]))
}

func (m *moved) findFunc(r region, at, a, b int64) error {
	var head [funcBytes]byte
	if at >= m.from && at+funcBytes <= m.from+int64(len(m.buf)) {
		copy(head[:], m.buf[at-m.from:])
	} else if _, err := m.old.ReadAt(head[:], at); err != nil {
		return err
	}
	r.eachOffset(at, head[:], func(at int64, f field) { m.findOffset(at, f, a, b) })
	return nil
}

// eachOffset names the place of each offset in a record, of which head is the fixed part. The last two fields of
// the region stand for each offset of the two lists.
func (r region) eachOffset(record int64, head []byte, do func(at int64, f field)) {
	fixed, lists := r.fields[:len(r.fields)-funcLists], r.fields[len(r.fields)-funcLists:]
	for _, f := range fixed {
		do(record+f.at, f)
	}
	record += funcBytes
	for i, n := range []uint32{binary.LittleEndian.Uint32(head[funcNPCData:]), uint32(head[funcNData])} {
		for range min(n, funcListed) {
			do(record, lists[i])
			record += 4
		}
	}
}
