package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// slot is a slot as it was read: a record, or why there is none.
type slot struct {
	record
	err error
}

// state reads the state of a slot. The error is ErrEmpty, ErrNewer, or why the slot is unreadable.
func (s slot) state() (State, error) {
	switch {
	case s.err != nil:
		return State{}, s.err
	case s.seq == 0:
		return State{}, ErrEmpty
	case s.schema != schema:
		return State{}, fmt.Errorf("%w (schema %d, this one knows %d)", ErrNewer, s.schema, schema)
	}
	st, _, err := parseState(s.body)
	if err != nil {
		return State{}, fmt.Errorf("%w (%v)", ErrNewer, err)
	}
	return st, nil
}

// newest returns the index of the slot that counts, or why none does.
func newest(slots [2]slot) (int, error) {
	if slots[0].err != nil && slots[1].err != nil {
		err := ErrDamaged
		if errors.Is(slots[0].err, fs.ErrNotExist) && errors.Is(slots[1].err, fs.ErrNotExist) {
			err = ErrEmpty
		}
		return 0, fmt.Errorf("%w: slot 0: %w; slot 1: %w", err, slots[0].err, slots[1].err)
	}
	at := 0
	if slots[0].err != nil || slots[1].err == nil && slots[1].seq > slots[0].seq {
		at = 1
	}
	_, err := slots[at].state()
	return at, err
}

func readSlots(d durable.Disk, dir string) (slots [2]slot) {
	for i := range slots {
		b, err := readSlot(d, slotName(dir, i))
		if err == nil {
			slots[i].record, err = parseRecord(b)
		}
		slots[i].err = err
	}
	return slots
}

func readSlot(d durable.Disk, name string) ([]byte, error) {
	f, err := d.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, slotBytes)
	n, err := io.ReadFull(f, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF { // a slot cut short is for the parser to refuse
		err = nil
	}
	return b[:n], err
}

// writeSlot writes a record in place.
//
// Power before Sync returns: this slot holds its old record, the new one, or neither; the other slot is
// whole. Power after: it holds the new record.
func writeSlot(d durable.Disk, name string, b []byte) error {
	f, err := d.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return newSlot(d, name, b) // somebody removed it while we ran
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		if info.Size() < slotBytes { // cut short by somebody: take back the space
			b = padded(b)
		}
		_, err = f.WriteAt(b, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// newSlot makes a whole slot at once, with all the space that it will ever need.
func newSlot(d durable.Disk, name string, b []byte) error {
	return durable.WriteFile(d, name, padded(b), 0o600)
}

func padded(b []byte) []byte { return append(b, make([]byte, slotBytes-len(b))...) }
