package manifest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

const maxRoots = 4096 // in a tree that is loaded whole

// LoadSet reads a set from a published tree or from a working copy, where signatures may be missing. It
// checks every signature and digest that is there, but takes the first root as it finds it: a Client
// is what checks a tree from a root that it was given. It returns ErrSignature, ErrMismatch and the
// other refusals, or the source's error.
func LoadSet(ctx context.Context, src Source) (s *Set, err error) {
	defer recovered(&err)
	s = &Set{
		channels:  map[string]*metadata.Metadata[metadata.TargetsType]{},
		roots:     map[int64][]byte{},
		documents: map[string][]byte{},
	}
	l := loader{ctx, src, s, map[string][]byte{}}
	for _, step := range []func() error{l.loadRoots, l.loadMetadata, l.checkSignatures, l.loadDocuments} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("load repository: %w", err)
		}
	}
	return s, nil
}

type loader struct {
	ctx context.Context
	src Source
	set *Set
	raw map[string][]byte // by role
}

func (l *loader) loadRoots() error {
	for version := int64(1); version <= maxRoots; version++ {
		data, err := l.src.Get(l.ctx, metadataName(RoleRoot, version), maxRootBytes)
		if errors.Is(err, fs.ErrNotExist) && version > 1 {
			return nil
		}
		if err != nil {
			return err
		}
		if l.set.root != nil {
			l.set.roots[version-1] = l.raw[RoleRoot]
		}
		l.raw[RoleRoot] = data
		if l.set.root, err = metadata.Root().FromBytes(data); err != nil {
			return fromTUF(metadataName(RoleRoot, version), err)
		}
		if l.set.root.Signed.Version != version {
			return fmt.Errorf("%s: %w: it says %d", metadataName(RoleRoot, version), ErrRollback, l.set.root.Signed.Version)
		}
	}
	return fmt.Errorf("%w: more than %d", ErrRoots, maxRoots)
}

func (l *loader) loadMetadata() (err error) {
	s := l.set
	if s.timestamp, err = read(l, RoleTimestamp, 0, metadata.Timestamp()); err != nil {
		return err
	}
	listed := s.timestamp.Signed.Meta
	if s.snapshot, err = read(l, RoleSnapshot, listed["snapshot.json"].Version, metadata.Snapshot()); err != nil {
		return err
	}
	listed = s.snapshot.Signed.Meta
	if s.targets, err = read(l, RoleTargets, listed["targets.json"].Version, metadata.Targets()); err != nil {
		return err
	}
	if err := checkDelegations(&s.targets.Signed); err != nil {
		return err
	}
	for _, d := range s.targets.Signed.Delegations.Roles {
		file := listed[d.Name+".json"]
		if file == nil {
			return fmt.Errorf("%w: the snapshot does not list channel %s", ErrDocument, d.Name)
		}
		if s.channels[d.Name], err = read(l, d.Name, file.Version, metadata.Targets()); err != nil {
			return err
		}
		if err := checkChannelTargets(d.Name, &s.channels[d.Name].Signed); err != nil {
			return err
		}
	}
	s.index()
	return nil
}

func read[T metadata.Roles](l *loader, role string, version int64, into *metadata.Metadata[T]) (*metadata.Metadata[T], error) {
	name := metadataName(role, version)
	data, err := l.src.Get(l.ctx, name, maxTargetsBytes)
	if err != nil {
		return nil, err
	}
	l.raw[role] = data
	m, err := into.FromBytes(data)
	if err != nil {
		return nil, fromTUF(name, err)
	}
	return m, nil
}

// checkSignatures refuses a signature that does not hold and notes which roles are complete.
func (l *loader) checkSignatures() error {
	for name, r := range l.set.roles {
		r.raw = l.raw[name]
		valid := map[string]bool{}
		for _, k := range l.set.signers(name) {
			if id, err := k.ID(); err == nil && r.signedBy(k) {
				valid[id] = true
			}
		}
		for _, s := range *r.signatures {
			if !valid[s.KeyID] {
				return fmt.Errorf("%s: %w: key %s", name, ErrSignature, s.KeyID)
			}
		}
		if l.set.missing(name) == 0 {
			r.published = *r.version
		}
	}
	return nil
}

func (l *loader) loadDocuments() error {
	s := l.set
	if err := l.loadTrust(); err != nil {
		return err
	}
	for _, channel := range s.Channels() {
		for _, path := range s.Targets(channel) {
			if err := l.loadDocument(channel, path); err != nil {
				return err
			}
		}
	}
	return nil
}

// loadTrust comes first: the trust document says which product this is.
func (l *loader) loadTrust() error {
	if l.set.targets.Signed.Targets[trustPath] == nil {
		return fmt.Errorf("%w: targets does not sign %s", ErrDocument, trustPath)
	}
	t, err := l.targetFile(RoleTargets, trustPath)
	if err != nil {
		return err
	}
	doc, err := ParseTrust(t)
	if err != nil {
		return err
	}
	l.set.product = doc.Product
	l.set.documents[trustPath] = t
	return nil
}

func (l *loader) loadDocument(role, path string) error {
	data, err := l.targetFile(role, path)
	if err != nil {
		return err
	}
	if err := l.set.checkDocument(role, path, data); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	l.set.documents[path] = data
	return nil
}

func (l *loader) targetFile(role, path string) ([]byte, error) {
	t, err := newTarget(path, l.set.targetsOf(role)[path])
	if err != nil {
		return nil, err
	}
	data, err := l.src.Get(l.ctx, t.name(), t.sizeBytes)
	if err != nil {
		return nil, err
	}
	return data, t.check(data)
}
