package manifest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Errors of the signing side, which is not about trust.
var (
	ErrNoRole    = errors.New("no such role")
	ErrNotAKey   = errors.New("not a key of this role")
	ErrPublished = errors.New("this version is already there with other bytes")
	ErrPlan      = errors.New("keys and thresholds do not fit")
)

const maxChannels = 32

// Plan is what a fresh repository is made of.
type Plan struct {
	Product  string
	Roles    map[string]RoleKeys      // the four top-level roles and one for each channel
	Lifetime map[string]time.Duration // by role; DefaultLifetime where none is given
}

// RoleKeys says who signs for a role, and how many of them must.
type RoleKeys struct {
	Keys      []PublicKey
	Threshold int
}

// File is one file of the published tree.
type File struct {
	Name      string // with slashes, below the repository's top
	Data      []byte
	Immutable bool // once published, this name never has other bytes
}

// Set is the metadata of a repository together with the documents it signs, while it is being made.
// Every change takes the role to a version that is not published yet and drops its signatures, and the
// snapshot and the timestamp follow by themselves, so Missing always says what is left to be signed.
// A Set is not for concurrent use.
type Set struct {
	product   string
	root      *metadata.Metadata[metadata.RootType]
	targets   *metadata.Metadata[metadata.TargetsType]
	channels  map[string]*metadata.Metadata[metadata.TargetsType]
	snapshot  *metadata.Metadata[metadata.SnapshotType]
	timestamp *metadata.Metadata[metadata.TimestampType]

	roles     map[string]*role
	roots     map[int64][]byte  // the roots before the newest
	documents map[string][]byte // by target path
}

// DefaultLifetime is how long a role's signature holds when nothing else is said: the longer, the
// further its keys are from the network.
func DefaultLifetime(role string) time.Duration {
	const day = 24 * time.Hour
	switch role {
	case RoleRoot:
		return 365 * day
	case RoleTargets:
		return 180 * day
	case RoleSnapshot:
		return 14 * day
	case RoleTimestamp:
		return 3 * day
	}
	return 90 * day
}

// NewSet makes the metadata of a fresh repository, all of it unsigned at version 1. The trust document
// and the channels are the caller's to set. It returns ErrPlan.
func NewSet(p Plan, now time.Time) (*Set, error) {
	if err := CheckName(p.Product); err != nil {
		return nil, fmt.Errorf("new repository: product: %w", err)
	}
	s := &Set{
		product:   p.Product,
		root:      metadata.Root(),
		targets:   metadata.Targets(),
		snapshot:  metadata.Snapshot(),
		timestamp: metadata.Timestamp(),
		channels:  map[string]*metadata.Metadata[metadata.TargetsType]{},
		roots:     map[int64][]byte{},
		documents: map[string][]byte{},
	}
	s.targets.Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}, Roles: []metadata.DelegatedRole{}}
	s.index()
	for _, name := range topLevel() {
		if _, ok := p.Roles[name]; !ok {
			return nil, fmt.Errorf("new repository: %w: no keys for %s", ErrPlan, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Roles)) {
		if err := s.SetKeys(name, p.Roles[name]); err != nil {
			return nil, fmt.Errorf("new repository: %w", err)
		}
	}
	for _, name := range s.Roles() {
		if err := s.Bump(name, now, p.Lifetime[name]); err != nil {
			return nil, fmt.Errorf("new repository: %w", err)
		}
	}
	return s, nil
}

// index wraps the metadata that is there into roles, keeping those already wrapped.
func (s *Set) index() {
	if s.roles == nil {
		s.roles = map[string]*role{
			RoleRoot:      newRole(s.root, &s.root.Signed.Version, &s.root.Signed.Expires),
			RoleTargets:   newRole(s.targets, &s.targets.Signed.Version, &s.targets.Signed.Expires),
			RoleSnapshot:  newRole(s.snapshot, &s.snapshot.Signed.Version, &s.snapshot.Signed.Expires),
			RoleTimestamp: newRole(s.timestamp, &s.timestamp.Signed.Version, &s.timestamp.Signed.Expires),
		}
	}
	for name, m := range s.channels {
		if s.roles[name] == nil {
			s.roles[name] = newRole(m, &m.Signed.Version, &m.Signed.Expires)
		}
	}
}

func topLevel() []string { return []string{RoleRoot, RoleTargets, RoleSnapshot, RoleTimestamp} }

// Product returns the product's name.
func (s *Set) Product() string { return s.product }

// Roles lists the roles in the order of signing: root, targets, the channels by name, snapshot, timestamp.
func (s *Set) Roles() []string {
	list := []string{RoleRoot, RoleTargets}
	list = append(list, s.Channels()...)
	return append(list, RoleSnapshot, RoleTimestamp)
}

// Channels lists the channels by name.
func (s *Set) Channels() []string { return slices.Sorted(maps.Keys(s.channels)) }

// Version returns the version of a role's metadata, 0 if there is no such role.
func (s *Set) Version(role string) int64 {
	if r := s.roles[role]; r != nil {
		return *r.version
	}
	return 0
}

// Expires returns the end of a role's metadata, zero if there is no such role.
func (s *Set) Expires(role string) time.Time {
	if r := s.roles[role]; r != nil {
		return *r.expires
	}
	return time.Time{}
}

// Bump gives a role a new life: a version not published yet, no signatures, and an expiry of now plus
// lifetime (DefaultLifetime if 0) in whole seconds. It returns ErrNoRole.
func (s *Set) Bump(role string, now time.Time, lifetime time.Duration) error {
	if lifetime == 0 {
		lifetime = DefaultLifetime(role)
	}
	if s.roles[role] == nil {
		return fmt.Errorf("bump %s: %w", role, ErrNoRole)
	}
	s.change(role)
	*s.roles[role].expires = wholeSeconds(now.Add(lifetime))
	s.settle()
	return nil
}

// change must precede every change of a role. The root that is left behind is kept: clients walk all.
func (s *Set) change(role string) {
	before, data := s.root.Signed.Version, s.roles[RoleRoot].bytes()
	s.roles[role].change()
	if s.root.Signed.Version != before {
		s.roots[before] = data
	}
}

// settle makes the snapshot name what targets and channels are now, and the timestamp what the snapshot is.
func (s *Set) settle() {
	listed := map[string]*metadata.MetaFiles{"targets.json": metaFile(s.roles[RoleTargets])}
	for name := range s.channels {
		listed[name+".json"] = metaFile(s.roles[name])
	}
	if !sameFiles(s.snapshot.Signed.Meta, listed) {
		s.change(RoleSnapshot)
		s.snapshot.Signed.Meta = listed
	}
	listed = map[string]*metadata.MetaFiles{"snapshot.json": metaFile(s.roles[RoleSnapshot])}
	if !sameFiles(s.timestamp.Signed.Meta, listed) {
		s.change(RoleTimestamp)
		s.timestamp.Signed.Meta = listed
	}
}

// metaFile describes a role's file with length and digest, so that a client parses nothing but the root
// and the timestamp before it knows that the bytes are right.
func metaFile(r *role) *metadata.MetaFiles {
	data := r.bytes()
	m := metadata.MetaFile(*r.version)
	m.Length = int64(len(data))
	m.Hashes = hashes(data)
	return m
}

func sameFiles(a, b map[string]*metadata.MetaFiles) bool {
	return maps.EqualFunc(a, b, func(x, y *metadata.MetaFiles) bool {
		return x.Version == y.Version && x.Length == y.Length && x.Hashes.Equal(y.Hashes)
	})
}

// Root returns the newest root metadata: what a launcher is born with.
func (s *Set) Root() []byte { return s.roles[RoleRoot].bytes() }

// Files returns the tree in the order of publishing. Artifacts are the caller's and go before all of
// them. Nothing is visible to a client before timestamp.json, the last, except that a new root goes just
// before it: where a root changes the timestamp's keys, a client that comes between the two refuses
// once and finds both at its next try. While signatures are Missing this is a working copy, which
// LoadSet reads back, and not for publishing.
func (s *Set) Files() []File {
	var list []File
	for _, role := range append([]string{RoleTargets}, s.Channels()...) {
		for _, path := range s.Targets(role) {
			if data, ok := s.documents[path]; ok {
				list = append(list, File{targetName(path, digestOf(data)), data, true})
			}
		}
	}
	for _, role := range append(s.Channels(), RoleTargets, RoleSnapshot) {
		list = append(list, s.file(role, true))
	}
	for _, version := range slices.Sorted(maps.Keys(s.roots)) {
		list = append(list, File{metadataName(RoleRoot, version), s.roots[version], true})
	}
	return append(list, s.file(RoleRoot, true), s.file(RoleTimestamp, false))
}

func (s *Set) file(role string, immutable bool) File {
	r := s.roles[role]
	return File{metadataName(role, *r.version), r.bytes(), immutable}
}
