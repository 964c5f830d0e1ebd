package manifest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// SetTarget puts a document under a role: trust.json under targets; CHANNEL/channel.json and
// CHANNEL/VERSION.json under a channel. The document is parsed first, strictly, and must be of this
// product, channel and version. A release is immutable: other bytes are ErrPublished. A channel's
// document must be able to follow the one before: ErrFloor, ErrLeap. Setting what is already there changes nothing.
func (s *Set) SetTarget(role, path string, data []byte) error {
	if err := s.setTarget(role, path, data); err != nil {
		return fmt.Errorf("set target %s of %s: %w", path, role, err)
	}
	return nil
}

func (s *Set) setTarget(role, path string, data []byte) error {
	targets := s.targetsOf(role)
	if targets == nil {
		return ErrNoRole
	}
	if err := s.checkDocument(role, path, data); err != nil {
		return err
	}
	if old, ok := s.documents[path]; ok && targets[path] != nil {
		if bytes.Equal(old, data) {
			return nil
		}
		if err := checkNext(role, path, old, data); err != nil {
			return err
		}
		if versionOf(role, path) != "" {
			return ErrPublished
		}
	}
	s.change(role)
	targets[path] = &metadata.TargetFiles{Length: int64(len(data)), Hashes: hashes(data), Path: path}
	s.documents[path] = bytes.Clone(data)
	s.settle()
	return nil
}

// RemoveTarget takes a document out of its role. It returns ErrNoRole; a path that is not there is fine.
func (s *Set) RemoveTarget(role, path string) error {
	targets := s.targetsOf(role)
	if targets == nil {
		return fmt.Errorf("remove target %s of %s: %w", path, role, ErrNoRole)
	}
	if targets[path] == nil {
		return nil
	}
	s.change(role)
	delete(targets, path)
	delete(s.documents, path)
	s.settle()
	return nil
}

// Target returns a document.
func (s *Set) Target(role, path string) ([]byte, bool) {
	if s.targetsOf(role)[path] == nil {
		return nil, false
	}
	data, ok := s.documents[path]
	return bytes.Clone(data), ok
}

// Targets lists the paths of a role's documents, sorted.
func (s *Set) Targets(role string) []string { return slices.Sorted(maps.Keys(s.targetsOf(role))) }

func (s *Set) targetsOf(role string) map[string]*metadata.TargetFiles {
	if role == RoleTargets {
		return s.targets.Signed.Targets
	}
	if m := s.channels[role]; m != nil {
		return m.Signed.Targets
	}
	return nil
}

// checkDocument reports whether a document belongs at a path: what a client would refuse is not signed.
func (s *Set) checkDocument(role, path string, data []byte) error {
	if err := checkPath(path); err != nil {
		return err
	}
	switch version := versionOf(role, path); {
	case role == RoleTargets && path == trustPath:
		_, err := openTrust(data, s.product)
		return err
	case role != RoleTargets && path == channelPath(role):
		_, err := openChannel(data, s.product, role)
		return err
	case role != RoleTargets && version != "":
		_, err := openRelease(data, s.product, version)
		return err
	}
	return fmt.Errorf("%w: a role signs only its own documents", ErrPath)
}

// checkNext holds a new channel document to the one before, as every host will that has seen it.
func checkNext(role, path string, old, data []byte) error {
	if role == RoleTargets || path != channelPath(role) {
		return nil
	}
	before, err := ParseChannel(old)
	if err != nil {
		return err
	}
	next, err := ParseChannel(data)
	if err != nil {
		return err
	}
	return next.checkAfter(before)
}

func hashes(data []byte) metadata.Hashes {
	sum, _ := hex.DecodeString(digestOf(data)) // never fails
	return metadata.Hashes{"sha256": sum}
}
