package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
)

// The format of a slot, version-independent down to the checksum, so that every launcher can tell damage
// from a record that it is too old for:
//
//	turnstone-journal schema=1 seq=42 bytes=317 sha256=HEX\n
//	{"good":[...],"high_water":7,"phase":"idle"}\n
//
// schema is the version of the body, seq the place in the order of writes, bytes the length of the body
// without its newline. HEX is SHA-256, in lower case, over everything else of the record: the first line
// without its last field, a newline, and the body. Numbers are decimal without leading zeros. The body is
// one JSON object with its keys in order; a record with seq=0 has no body and says that the slot was never
// used. The rest of the file, up to slotBytes, is what longer records have left, or zeros.

const (
	schema    = 1
	slotBytes = 128 << 10 // room for 128 marks with reasons of 500 bytes; allocated once, so that a full disk does not stop Save
	maxHeader = 200       // bytes of the first line
)

// record is what a slot holds.
type record struct {
	schema int
	seq    uint64
	body   []byte
}

func (r record) print() []byte {
	head := fmt.Sprintf("turnstone-journal schema=%d seq=%d bytes=%d", r.schema, r.seq, len(r.body))
	sum := sha256.New()
	fmt.Fprintf(sum, "%s\n%s", head, r.body)
	return fmt.Appendf(nil, "%s sha256=%x\n%s\n", head, sum.Sum(nil), r.body)
}

var errTorn = errors.New("torn or overwritten: not a journal record")

// parseRecord reads the record at the start of a slot. It is right if, and only if, printing what was read
// gives the bytes that were read; that compares the checksum and refuses every second way to write a field.
func parseRecord(slot []byte) (record, error) {
	head, _, found := bytes.Cut(slot[:min(len(slot), maxHeader)], []byte("\n"))
	var r record
	var size uint32
	n, _ := fmt.Sscanf(string(head), "turnstone-journal schema=%d seq=%d bytes=%d sha256=", &r.schema, &r.seq, &size)
	rest := slot[min(len(head)+1, len(slot)):]
	if !found || n != 3 || int(size) > len(rest) {
		return record{}, errTorn
	}
	r.body = rest[:size:size]
	if !bytes.HasPrefix(slot, r.print()) {
		return record{}, errTorn
	}
	return r, nil
}

// fields are the top-level fields of a body that this launcher does not know and must not lose.
type fields map[string]json.RawMessage

// printState gives the body for a state and the unknown fields of what was loaded before.
func printState(st State, extra fields) ([]byte, error) {
	known, err := json.Marshal(st)
	if err != nil {
		return nil, err
	}
	all := maps.Clone(extra)
	if err := json.Unmarshal(known, &all); err != nil {
		return nil, err
	}
	return json.Marshal(all) // in the order of the keys
}

// parseState reads a body. A body that it refuses has a right checksum, so it was meant: a newer launcher
// wrote it.
func parseState(body []byte) (State, fields, error) {
	var all, known, extra fields = nil, fields{}, fields{}
	if err := json.Unmarshal(body, &all); err != nil {
		return State{}, nil, err
	}
	for name, value := range all {
		if isField[name] {
			known[name] = value
		} else {
			extra[name] = value // kept apart, or "PHASE" would be taken for "phase" by encoding/json
		}
	}
	b, err := json.Marshal(known)
	if err != nil {
		return State{}, nil, err
	}
	var st State
	if err := json.Unmarshal(b, &st); err != nil {
		return State{}, nil, err
	}
	if !knownPhase(st.Phase) {
		return State{}, nil, fmt.Errorf("unknown phase %q", st.Phase)
	}
	return st, extra, nil
}

// isField holds the JSON names of State's fields.
var isField = func() map[string]bool {
	names := map[string]bool{}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[State]()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names[name] = true
	}
	return names
}()

func knownPhase(p Phase) bool {
	switch p {
	case Idle, Fetching, Staging, Warming, Switching, Probation, Retiring, Reverting, Discarding:
		return true
	}
	return false
}
