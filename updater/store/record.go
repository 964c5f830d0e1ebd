package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/updater/journal"
)

const (
	schema   = 1
	maxBytes = 1 << 20 // of a record
)

// seal vouches for a tree. Its format is this struct as indented JSON with a newline, and no other way to
// write the same is accepted; a launcher that needs more fields raises the schema.
type seal struct {
	Schema  int             `json:"schema"`
	Version journal.Version `json:"version"`
	Files   []sealedFile    `json:"files"` // all of the tree, by path
}

type sealedFile struct {
	Path      string `json:"path"` // inside the tree, with slashes
	SizeBytes int64  `json:"size_bytes"`
	SHA256    string `json:"sha256"` // lower-case hex
}

// proof says that a version passed its probation here. It repeats the version that the seal names and
// counts only while both agree: neither can rot unnoticed.
type proof struct {
	Schema  int             `json:"schema"`
	Version journal.Version `json:"version"`
}

// sealOf is the seal of a version that is its program alone.
func sealOf(v journal.Version) seal {
	return seal{schema, v, []sealedFile{{v.File, v.SizeBytes, v.Digest}}}
}

// encode gives the bytes of a seal or proof.
func encode(record any) []byte {
	b, err := json.MarshalIndent(record, "", "\t")
	if err != nil {
		panic("updater: internal error: encode a store record: " + err.Error()) // it has only strings and numbers
	}
	return append(b, '\n')
}

// parseSeal and parseProof are the inverse of encode.
func parseSeal(b []byte) (seal, error) {
	var s seal
	if err := parse(b, &s); err != nil {
		return seal{}, err
	}
	if s.Schema != schema {
		return seal{}, fmt.Errorf("schema %d: not a seal that this launcher knows", s.Schema)
	}
	if err := checkName(s.Version); err != nil {
		return seal{}, err
	}
	if s.Version.Format != "" {
		return s, s.checkFiles()
	}
	// The version's own digest must be what the seal vouches for, or the seal would vouch for others.
	if want := sealOf(s.Version); len(s.Files) != 1 || s.Files[0] != want.Files[0] {
		return seal{}, fmt.Errorf("%d files: not a seal that this launcher knows", len(s.Files))
	}
	return s, nil
}

func parseProof(b []byte) (proof, error) {
	var p proof
	if err := parse(b, &p); err != nil {
		return proof{}, err
	}
	if p.Schema != schema {
		return proof{}, fmt.Errorf("schema %d is not one that this launcher knows", p.Schema)
	}
	return p, checkName(p.Version)
}

// parse reads a record that is right only if encoding it again gives the same bytes.
func parse[T any](b []byte, record *T) error {
	if err := json.Unmarshal(b, record); err != nil {
		return err
	}
	if !bytes.Equal(encode(*record), b) {
		return errors.New("not as the launcher writes it")
	}
	return nil
}

// readSeal reads the seal in a version's folder: ErrNotSealed if there is none, ErrDamaged if it is not one.
func (s *Store) readSeal(home string) (seal, error) {
	b, err := durable.ReadFile(s.disk, sealName(home), maxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return seal{}, ErrNotSealed
	}
	if err != nil {
		return seal{}, damaged(err)
	}
	rec, err := parseSeal(b)
	if err != nil {
		return seal{}, damaged(fmt.Errorf("read %s: %w", sealName(home), err))
	}
	return rec, nil
}

// damaged marks a file that is too large to be what it should be, or not what it should be. An error of
// the disk itself stays one: it may pass.
func damaged(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// sealOn reads the seal of v and checks that it is v's.
func (s *Store) sealOn(v journal.Version) (seal, error) {
	if err := checkName(v); err != nil {
		return seal{}, err
	}
	rec, err := s.readSeal(s.home(v))
	if err != nil {
		return seal{}, err
	}
	w := rec.Version
	w.Epoch, w.Minisig = v.Epoch, v.Minisig // statements about the bytes, which may be made anew
	if w != v {
		return seal{}, fmt.Errorf("%w: the seal in %s is of %s with digest %s", ErrDamaged, s.home(v), w.Number, w.Digest)
	}
	return rec, nil
}
