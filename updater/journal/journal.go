// Package journal remembers where an update stands: one State, saved whole, of which every moment shows
// either the old one or the new one, power cuts included.
//
// Two slots are written in turn, each in place, and the newest whole one counts. The slot that holds the
// last acknowledged state is never changed; a write that fails or tears costs the transition that it was
// to record, which is simply done again. No write renames anything, and none needs new space on a disk
// that overwrites in place (btrfs and ZFS do not, and there a full disk makes Save fail). The code is the
// same on ext4 and NTFS. Each slot is a file of its own, so that one bad sector cannot hold both.
//
// It relies on Sync, and on a write in progress not harming other files. It does not lock (the launcher
// holds one lock for its whole state folder), does not keep history, and does not judge what a State means.
// A record that rots after it was acknowledged cannot be told from one that was torn: then the state
// before it counts.
package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// Errors of Load and Read, and of Save and Fence, which load when nobody did.
var (
	ErrEmpty   = errors.New("nothing was ever saved")                   // a new install
	ErrDamaged = errors.New("both slots of the journal are unreadable") // Rebuild from other evidence
	ErrNewer   = errors.New("written by a newer launcher")              // a newer schema, or a phase unknown here: start that launcher again, or Rebuild
)

// ErrTooLarge says that a State does not fit a slot. Nothing was written.
var ErrTooLarge = errors.New("state too large for the journal")

// Journal is the one writer of a journal folder. It is safe for concurrent use.
type Journal struct {
	disk durable.Disk
	dir  string

	mu     sync.Mutex
	loaded bool   // the fields below are what the disk holds
	seq    uint64 // of the last acknowledged write
	next   uint64 // of the next write: a failed one gives no number away, it is used again
	slot   int    // the next write goes there, never where the last acknowledged one is
	body   []byte // of the last acknowledged write; empty if there was none
	extra  fields // of that body, not known here
}

// Open prepares a journal folder, making it and its slots where they are missing. It does not read them.
//
// If power fails before it returns, the next Open goes on. A slot is made whole or not at all; it is never
// made twice, so what it holds is safe. A slot of zeros is therefore damaged, not new.
func Open(d durable.Disk, dir string) (*Journal, error) {
	if err := durable.MkdirAll(d, dir, 0o700); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	for i := range 2 {
		name := slotName(dir, i)
		_, err := d.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			err = newSlot(d, name, record{schema: schema}.print())
		}
		if err != nil {
			return nil, fmt.Errorf("open journal: %w", err)
		}
	}
	// A predecessor that was killed may have left a slot whose name is not on the disk yet.
	if err := d.SyncDir(dir); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return &Journal{disk: d, dir: dir}, nil
}

// Load returns the newest state. The error is ErrEmpty in a new install, ErrDamaged if no slot is whole,
// or ErrNewer, and then the state is zero.
//
// The first call reads the disk, and writes what it found once more: a predecessor that was killed between write and
// sync, or after a Sync that failed, has left bytes that are seen and yet not durable. Later calls return what was last
// acknowledged.
func (j *Journal) Load() (State, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.load(); err != nil {
		return State{}, fmt.Errorf("load journal %s: %w", j.dir, err)
	}
	if len(j.body) == 0 {
		return State{}, fmt.Errorf("load journal %s: %w", j.dir, ErrEmpty)
	}
	st, _, err := parseState(j.body)
	return st, err
}

// load fills the fields from the disk, once. An empty journal is no error here.
func (j *Journal) load() error {
	if j.loaded {
		return nil
	}
	slots := readSlots(j.disk, j.dir)
	at, err := newest(slots)
	if err != nil && !errors.Is(err, ErrEmpty) {
		return err
	}
	r, other := slots[at].record, slots[1-at]
	j.extra = nil
	if err == nil {
		if _, j.extra, err = parseState(r.body); err != nil {
			return err
		}
		// Power here: the slot holds the same bytes as before, or, where they were not on the disk, the other one counts.
		// Where there is no room for these bytes there is none for a state that would have to rely on them.
		if err := writeSlot(j.disk, slotName(j.dir, at), r.print()); err != nil && !durable.Full(err) {
			return err
		}
	}
	j.body, j.seq, j.next, j.slot = r.body, r.seq, r.seq+1, 1-at
	if other.err != nil || other.seq == 0 && r.seq > 1 {
		// The other slot may have held, and granted as a fence, numbers above this one.
		j.next = max(r.seq+2, unixMilli())
	}
	j.loaded = true
	return nil
}

// Save makes st the newest state. It refuses a phase that it could not load again, and after a Load that
// failed with ErrDamaged or ErrNewer it refuses with that error.
//
// If power fails before it returns, or it returns an error, the next start finds the old state or st. Once
// it has returned nil it finds st. Until a Save after a failed one succeeds, Load returns the old state.
// Top-level fields written by a newer launcher are kept.
func (j *Journal) Save(st State) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.save(st); err != nil {
		return fmt.Errorf("save journal %s: %w", j.dir, err)
	}
	return nil
}

func (j *Journal) save(st State) error {
	if err := j.load(); err != nil {
		return err
	}
	if !knownPhase(st.Phase) {
		return fmt.Errorf("unknown phase %q", st.Phase)
	}
	body, err := printState(st, j.extra)
	if err != nil {
		return err
	}
	return j.write(body)
}

// Fence saves the last state again and returns the number of that write. Numbers grow with every Save and
// Fence for the life of the installation, across crashes too, so the holder of a number can refuse work
// that carries a smaller one. The number is durable before it is returned. ErrEmpty if nothing was saved.
func (j *Journal) Fence() (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.load()
	if err == nil && len(j.body) == 0 {
		err = ErrEmpty
	}
	if err == nil {
		err = j.write(j.body)
	}
	if err != nil {
		return 0, fmt.Errorf("fence by journal %s: %w", j.dir, err)
	}
	return j.seq, nil
}

// write puts a body into the slot whose turn it is.
func (j *Journal) write(body []byte) error {
	b := record{schema, j.next, body}.print()
	if len(b) > slotBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(b), slotBytes)
	}
	if err := writeSlot(j.disk, slotName(j.dir, j.slot), b); err != nil {
		return err // the slot is in doubt and the next write goes there again
	}
	j.body, j.seq, j.next, j.slot = body, j.next, j.next+1, 1-j.slot
	return nil
}

// Rebuild starts the journal anew with st, whatever its slots hold: the way out of ErrDamaged, and by an
// operator's decision out of ErrNewer. Its numbers begin above unix milliseconds and above all that can
// still be read, so that fences granted before stay smaller; that assumes fewer than a thousand saves a
// second since 1970, and a clock not set back by more than the journal lost.
//
// If power fails before it returns, or it returns an error, the next start finds what was there before or
// st; after an error, call it again.
func (j *Journal) Rebuild(st State) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	slots := readSlots(j.disk, j.dir)
	first := 0 // the slot that is worth less
	if slots[0].err == nil && slots[0].seq >= slots[1].seq {
		first = 1
	}
	j.loaded, j.body, j.extra, j.slot = true, nil, nil, first
	j.seq = max(j.seq, slots[0].seq, slots[1].seq)
	j.next = max(j.seq+1, unixMilli())
	for range 2 { // both slots, so that nothing from before is read again
		if err := j.save(st); err != nil {
			j.loaded = false
			return fmt.Errorf("rebuild journal %s: %w", j.dir, err)
		}
	}
	return nil
}

// Seq is the number of the last acknowledged write; 0 before the first Load, and in an empty journal.
func (j *Journal) Seq() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seq
}

// Named returns every version that either slot names as good or as candidate: those that the next start
// may need, whichever slot it finds. It fails if a slot cannot be read, and then nothing may be collected.
func (j *Journal) Named() ([]Version, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []Version
	for i, s := range readSlots(j.disk, j.dir) {
		st, err := s.state()
		if errors.Is(err, ErrEmpty) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read slot %d of journal %s: %w", i, j.dir, err)
		}
		if st.Candidate != nil {
			st.Good = append(st.Good, *st.Candidate)
		}
		for _, v := range st.Good {
			if !slices.Contains(all, v) {
				all = append(all, v)
			}
		}
	}
	return all, nil
}

// Read returns the newest state and its number without writing anything, for a look while no launcher
// runs. The errors are those of Load; a folder without a journal is ErrEmpty and fs.ErrNotExist.
func Read(d durable.Disk, dir string) (State, uint64, error) {
	slots := readSlots(d, dir)
	at, err := newest(slots)
	if err != nil {
		return State{}, 0, fmt.Errorf("read journal %s: %w", dir, err)
	}
	st, _, err := parseState(slots[at].body)
	return st, slots[at].seq, err
}

func slotName(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("slot%d", i)) }

func unixMilli() uint64 { return uint64(max(time.Now().UnixMilli(), 0)) }
