package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Statement is what one metadata file says, for the person who is about to sign it somewhere else than where
// it was made. Nothing of it has been verified.
type Statement struct {
	Kind    string // root, targets, snapshot or timestamp; a channel's file is of the kind targets
	Version int64
	Expires time.Time

	// Roles is who may sign for whom from then on: in a root the four top-level roles, in targets the channels.
	Roles map[string]RoleKeys
	// Documents are the paths that a file of the kind targets signs, sorted.
	Documents []string
	// SignedBy are the TUF key ids that the file carries signatures of.
	SignedBy []string
}

// ReadStatement reads a metadata file. It returns ErrDocument.
func ReadStatement(data []byte) (Statement, error) {
	_, s, err := readFile(data)
	if err != nil {
		return s, fmt.Errorf("read metadata file: %w", err)
	}
	return s, nil
}

// SignFile adds a signature to a metadata file that has left its set, and returns the file. It knows no more
// than the file: whether the key is one of the role's is for Set.Merge to say. It returns ErrDocument,
// ErrSigner, or the signer's error.
func SignFile(data []byte, k Signer) (signed []byte, err error) {
	r, _, err := readFile(data)
	if err != nil {
		return nil, fmt.Errorf("sign metadata file: %w", err)
	}
	if r.signedBy(k.Public().tuf()) {
		return data, nil
	}
	if err := r.add(k); err != nil {
		return nil, fmt.Errorf("sign metadata file: %w", err)
	}
	return r.bytes(), nil
}

// Merge takes the signatures that a copy of one of the set's files has collected elsewhere, and returns the
// role and the keys that are new. It returns ErrMismatch for a file that says anything else than the set does,
// and ErrNotAKey for one with a signature that does not count.
func (s *Set) Merge(data []byte) (role string, added []PublicKey, err error) {
	from, statement, err := readFile(data)
	if err != nil {
		return "", nil, fmt.Errorf("merge: %w", err)
	}
	for _, name := range s.Roles() {
		if sameSigned(s.roles[name].bytes(), data) {
			role = name
		}
	}
	if role == "" {
		return "", nil, fmt.Errorf("merge %s version %d: %w", statement.Kind, statement.Version, ErrMismatch)
	}
	to := s.roles[role]
	for _, sig := range *from.signatures {
		key := findKey(s.signers(role), sig.KeyID)
		if key == nil || !from.signedBy(key) {
			return role, nil, fmt.Errorf("merge %s: %w: %s", role, ErrNotAKey, sig.KeyID)
		}
		if *to.version == to.published || to.signedBy(key) {
			continue
		}
		public, err := ParsePublicKey(key.Value.PublicKey)
		if err != nil {
			return role, nil, fmt.Errorf("merge %s: %w", role, err)
		}
		*to.signatures = append(*to.signatures, sig)
		to.raw = nil
		added = append(added, public)
	}
	s.settle()
	return role, added, nil
}

func findKey(keys []*metadata.Key, id string) *metadata.Key {
	for _, k := range keys {
		if own, err := k.ID(); err == nil && own == id {
			return k
		}
	}
	return nil
}

// sameSigned compares the signed parts of two files, however they are spaced.
func sameSigned(a, b []byte) bool {
	x, y := signedPart(a), signedPart(b)
	return x != nil && bytes.Equal(x, y)
}

func signedPart(data []byte) []byte {
	var file struct {
		Signed json.RawMessage `json:"signed"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil
	}
	var content any
	d := json.NewDecoder(bytes.NewReader(file.Signed))
	d.UseNumber()
	if err := d.Decode(&content); err != nil {
		return nil
	}
	out, err := json.Marshal(content) // keys of maps come sorted
	if err != nil {
		return nil
	}
	return out
}

func readFile(data []byte) (r *role, s Statement, err error) {
	defer recovered(&err)
	var head struct {
		Signed struct {
			Kind string `json:"_type"`
		} `json:"signed"`
	}
	if len(data) > maxTargetsBytes {
		return nil, s, fmt.Errorf("%w: %d bytes", ErrDocument, len(data))
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, s, fmt.Errorf("%w: %v", ErrDocument, err)
	}
	switch s.Kind = head.Signed.Kind; s.Kind {
	case RoleRoot:
		r, err = readRoot(data, &s)
	case RoleTargets:
		r, err = readTargets(data, &s)
	case RoleSnapshot:
		m, e := metadata.Snapshot().FromBytes(data)
		if err = e; err == nil {
			r = newRole(m, &m.Signed.Version, &m.Signed.Expires)
		}
	case RoleTimestamp:
		m, e := metadata.Timestamp().FromBytes(data)
		if err = e; err == nil {
			r = newRole(m, &m.Signed.Version, &m.Signed.Expires)
		}
	default:
		return nil, s, fmt.Errorf("%w: no metadata of TUF", ErrDocument)
	}
	if err != nil {
		return nil, s, fromTUF(s.Kind, err)
	}
	s.Version, s.Expires = *r.version, *r.expires
	for _, sig := range *r.signatures {
		s.SignedBy = append(s.SignedBy, sig.KeyID)
	}
	return r, s, nil
}

func readRoot(data []byte, s *Statement) (*role, error) {
	m, err := metadata.Root().FromBytes(data)
	if err != nil {
		return nil, err
	}
	s.Roles = map[string]RoleKeys{}
	for name := range m.Signed.Roles {
		keys, threshold := rootKeys(m, name)
		s.Roles[name] = RoleKeys{Keys: parsedKeys(keys), Threshold: threshold}
	}
	return newRole(m, &m.Signed.Version, &m.Signed.Expires), nil
}

func readTargets(data []byte, s *Statement) (*role, error) {
	m, err := metadata.Targets().FromBytes(data)
	if err != nil {
		return nil, err
	}
	s.Documents = slices.Sorted(maps.Keys(m.Signed.Targets))
	s.Roles = map[string]RoleKeys{}
	if d := m.Signed.Delegations; d != nil {
		for _, r := range d.Roles {
			s.Roles[r.Name] = RoleKeys{Keys: parsedKeys(pickKeys(d.Keys, r.KeyIDs)), Threshold: r.Threshold}
		}
	}
	return newRole(m, &m.Signed.Version, &m.Signed.Expires), nil
}

// parsedKeys leaves out what is no ed25519 key: no client of ours could use it.
func parsedKeys(keys []*metadata.Key) []PublicKey {
	var list []PublicKey
	for _, k := range keys {
		if p, err := ParsePublicKey(k.Value.PublicKey); err == nil {
			list = append(list, p)
		}
	}
	return list
}
