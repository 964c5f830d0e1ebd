// Package self replaces the launcher by a newer one, and puts the old one back when the newer one does not
// report in.
//
// The invariant: at every moment, a power cut included, the registered path starts a whole launcher whose bytes
// were verified, and as long as a new one has not reported in there is a record that leads back to the one
// before it. Launchers live in folders of their own, FOLDER/DIGEST/launcher, and are never written again. What
// moves is the registered path alone, by one atomic step, and the record of a trial is on the disk before that.
//
// Where a process can become another program (System.Leads), the registered path starts the old launcher until the
// new one has reported in: the old one counts the start, leaves a guard beside it, and becomes the new one. So
// whatever the new one does, and whenever power fails, the next start is again in the hands of the old one.
// Elsewhere, on Windows, the registered path starts the new launcher itself, which counts its starts in the first
// act of its main, and the guard is a service of its own, which Windows starts again with the machine.
//
// The guard, a process of the old launcher, goes back when the time of the trial is over. The new launcher goes
// back by itself when it runs and cannot report in.
//
// The package decides neither which launcher is offered nor when it is a good moment, and asks no network.
package self

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/minio/selfupdate"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// Launcher names one launcher binary.
type Launcher struct {
	Version string `json:"version"`
	Digest  string `json:"digest"` // sha256, 64 lower-case hex digits
	Epoch   uint64 `json:"epoch"`
}

// Trial is a new launcher that has not reported in. The file is FOLDER/trial.
type Trial struct {
	Target   Launcher      `json:"target"`
	Previous Launcher      `json:"previous"`
	Link     string        `json:"link"`   // what is registered; see System.Point
	Within   time.Duration `json:"within"` // from a start until it must have reported in
	Tries    int           `json:"tries"`  // starts of the target
	PID      int           `json:"pid"`    // of the last one
}

// Record is what outlives a trial. The file is FOLDER/current.
type Record struct {
	Now       Launcher  `json:"now"`       // the last one that has reported in
	Previous  string    `json:"previous"`  // digest of the one before it
	HighWater uint64    `json:"highwater"` // the highest epoch that has reported in: nothing at or below is newly chosen
	Refused   []Refused `json:"refused"`   // at most maxRefused
}

// Refused is a launcher that did not report in here, and why it is not tried again.
type Refused struct {
	Launcher
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

const (
	maxTries   = 2        // starts in which a new launcher may fail to report in
	maxRefused = 16       // the oldest is dropped
	maxRecord  = 64 << 10 // bytes of a record
	base       = "launcher"
)

// System is what a trial needs of the machine.
type System struct {
	Disk  durable.Disk
	Point func(link, target string) error                       // atomic and durable
	Leads bool                                                  // the old launcher is what is started, and becomes the new one
	Lock  func(name string) (io.Closer, error)                  // kept while a trial is changed
	Apply func(update io.Reader, opts selfupdate.Options) error // selfupdate.Apply; it syncs nothing
}

// Folder is the launchers of one installation and the records about them.
type Folder struct {
	dir string
	sys System
}

// New is the folder dir, STATE/launcher, which need not exist yet.
func New(dir string, sys System) *Folder { return &Folder{dir, sys} }

var digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Find returns the folder and the digest of a launcher by the path of its file, with every link followed. It is
// false for a launcher that never came here by a self-update.
func Find(exe string) (dir, digest string, ok bool) {
	own := filepath.Dir(exe)
	dir, digest = filepath.Dir(own), filepath.Base(own)
	return dir, digest, filepath.Base(exe) == base+ext && filepath.Base(dir) == base && digestForm.MatchString(digest)
}

// Dir is the folder's path.
func (f *Folder) Dir() string { return f.dir }

// File is where the launcher with this digest is, or would be.
func (f *Folder) File(digest string) string { return filepath.Join(f.dir, digest, base+ext) }

func (f *Folder) trialFile() string  { return filepath.Join(f.dir, "trial") }
func (f *Folder) recordFile() string { return filepath.Join(f.dir, "current") }

// Trial returns the trial under way, nil if there is none.
func (f *Folder) Trial() (*Trial, error) {
	var t Trial
	if found, err := f.read(f.trialFile(), &t); !found {
		return nil, err
	}
	if !digestForm.MatchString(t.Target.Digest) || !digestForm.MatchString(t.Previous.Digest) || t.Link == "" {
		return nil, fmt.Errorf("%s does not name a trial", f.trialFile())
	}
	return &t, nil
}

// Record returns what is known of earlier self-updates, the zero Record if nothing is.
func (f *Folder) Record() (Record, error) {
	var r Record
	_, err := f.read(f.recordFile(), &r)
	return r, err
}

func (f *Folder) read(name string, into any) (found bool, err error) {
	b, err := durable.ReadFile(f.sys.Disk, name, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		if err = json.Unmarshal(b, into); err != nil {
			err = fmt.Errorf("read %s: %w", name, err)
		}
	}
	return err == nil, err
}

func (f *Folder) write(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		panic("self: internal error: " + err.Error())
	}
	return durable.WriteFile(f.sys.Disk, name, append(b, '\n'), 0o644)
}

// lock keeps others from changing a trial: the guard and the new launcher may come to their verdicts at once.
// Each holds it for a few writes.
func (f *Folder) lock() (io.Closer, error) {
	for range 100 {
		l, err := f.sys.Lock(filepath.Join(f.dir, "lock"))
		if !errors.Is(err, durable.ErrLocked) {
			return l, err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, fmt.Errorf("change the launcher's trial: %w", durable.ErrLocked)
}

// note remembers a launcher that failed.
func (r *Record) note(l Launcher, reason string) {
	r.Refused = slices.DeleteFunc(r.Refused, func(x Refused) bool { return x.Digest == l.Digest })
	r.Refused = append(r.Refused, Refused{l, reason, time.Now().UTC().Truncate(time.Second)})
	r.Refused = r.Refused[max(0, len(r.Refused)-maxRefused):]
}
