package child

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// record is one file of the run folder: one living process. The file holds JSON objects, one a line, that
// add to each other:
//
//  1. before the spawn, synced: everything known of the process to be made.
//  2. after the spawn: its pid and start time.
//  3. when it has said sd_notify READY=1, which it will not say again to a later launcher.
//
// Lines 2 and 3 are not synced: they are read after a crash of the launcher, which loses no written byte,
// and not after a power cut, which leaves no process (line 1 then names another boot). If line 2 is
// missing the process, if it was made at all, is found by the record's path in its environment. Fields are
// only ever added, so that a launcher may read the records of a newer one.
type record struct {
	path string // of the file; not in it

	Boot  string    `json:"boot,omitempty"`  // kernel's id of this boot
	Token string    `json:"token,omitempty"` // SHA-256 of the token, hex: the token itself is never on disk
	At    time.Time `json:"at,omitzero"`

	Number string            `json:"number,omitempty"`
	Digest string            `json:"digest,omitempty"`
	Role   string            `json:"role,omitempty"`
	Kind   Kind              `json:"kind,omitempty"`
	Path   string            `json:"path,omitempty"`
	Data   string            `json:"data,omitempty"`
	Names  []string          `json:"listeners,omitempty"`
	Addr   map[string]string `json:"addr,omitempty"`
	Output string            `json:"output,omitempty"`
	Notify string            `json:"notify,omitempty"`

	PID   int    `json:"pid,omitempty"`
	Start uint64 `json:"start,omitempty"` // in the kernel's own unit, since boot
	Ready bool   `json:"ready,omitempty"`
}

const maxRecordBytes = 64 << 10

var recordName = regexp.MustCompile(`^[0-9a-f]{16}$`)

// token is the secret that a payload proves itself with.
type token string

func newToken() token {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	return token(hex.EncodeToString(b[:]))
}

func (t token) hash() string {
	h := sha256.Sum256([]byte(t))
	return hex.EncodeToString(h[:])
}

// matches reports in constant time whether t is the token of the record.
func (r record) matches(t token) bool {
	return r.Token != "" && subtle.ConstantTimeCompare([]byte(t.hash()), []byte(r.Token)) == 1
}

// newID names a process in file names. It says nothing about the token.
func newID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // as above
	return hex.EncodeToString(b[:])
}

// createRecord writes line 1. When it returns nil, the record survives a power cut.
func createRecord(d durable.Disk, r record) error {
	f, err := d.OpenFile(r.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := writeLine(f, r); err != nil {
		_ = f.Close() // the write's error is the one to tell
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return d.SyncDir(filepath.Dir(r.path))
}

// extendRecord adds a line. It is not synced; see record.
func extendRecord(d durable.Disk, path string, line record) error {
	f, err := d.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	err = writeLine(f, line)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func writeLine(w io.Writer, r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// readRecord reads a record as far as its lines are whole. One without a whole first line has no Boot: the
// power failed while it was written, before anything was spawned.
func readRecord(d durable.Disk, path string) (record, error) {
	f, err := d.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return record{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecordBytes))
	if err != nil {
		return record{}, err
	}
	r := parseRecord(b)
	r.path = path
	return r, nil
}

func parseRecord(b []byte) record {
	var r record
	for line := range bytes.Lines(b) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		next := r
		if json.Unmarshal(line, &next) != nil {
			break
		}
		r = next
	}
	return r
}
