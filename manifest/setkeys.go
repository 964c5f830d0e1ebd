package manifest

import (
	"fmt"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Keys returns who signs for a role.
func (s *Set) Keys(role string) (RoleKeys, bool) {
	keys, threshold := s.keys(role)
	rk := RoleKeys{Threshold: threshold}
	for _, k := range keys {
		p, err := ParsePublicKey(k.Value.PublicKey)
		if err != nil {
			return RoleKeys{}, false
		}
		rk.Keys = append(rk.Keys, p)
	}
	return rk, s.roles[role] != nil
}

// SetKeys replaces who signs for a role and makes a channel that is not there yet. The delegator (root
// for a top-level role, targets for a channel) and the role itself must then be signed anew; the new
// root needs the signatures of the old and the new threshold. A new channel has an expiry only after
// Bump. It returns ErrPlan and ErrNoRole.
func (s *Set) SetKeys(role string, rk RoleKeys) error {
	if err := rk.check(); err != nil {
		return fmt.Errorf("keys of %s: %w", role, err)
	}
	if isTopLevel(role) {
		s.setTopLevelKeys(role, rk)
	} else if err := s.setChannelKeys(role, rk); err != nil {
		return fmt.Errorf("keys of %s: %w", role, err)
	}
	s.settle()
	return nil
}

func (rk RoleKeys) check() error {
	if rk.Threshold < 1 || rk.Threshold > len(rk.Keys) {
		return fmt.Errorf("%w: %d of %d keys must sign", ErrPlan, rk.Threshold, len(rk.Keys))
	}
	for i, k := range rk.Keys {
		if slices.Contains(rk.Keys[:i], k) {
			return fmt.Errorf("%w: key %s is named twice", ErrPlan, k.ID())
		}
	}
	return nil
}

func (rk RoleKeys) ids() []string {
	var ids []string
	for _, k := range rk.Keys {
		ids = append(ids, k.ID())
	}
	return ids
}

func (s *Set) setTopLevelKeys(role string, rk RoleKeys) {
	s.change(RoleRoot)
	if role != RoleRoot {
		s.change(role)
	}
	root := &s.root.Signed
	for _, k := range rk.Keys {
		root.Keys[k.ID()] = k.tuf()
	}
	root.Roles[role] = &metadata.Role{KeyIDs: rk.ids(), Threshold: rk.Threshold}
	var used []string
	for _, r := range root.Roles {
		used = append(used, r.KeyIDs...)
	}
	dropUnused(root.Keys, used)
}

func (s *Set) setChannelKeys(channel string, rk RoleKeys) error {
	if err := CheckName(channel); err != nil {
		return err
	}
	if s.channels[channel] == nil {
		if len(s.channels) == maxChannels {
			return fmt.Errorf("%w: at most %d channels", ErrPlan, maxChannels)
		}
		s.channels[channel] = metadata.Targets(wholeSeconds(time.Now()))
		s.index()
	}
	s.change(RoleTargets)
	s.change(channel)
	d := s.targets.Signed.Delegations
	for _, k := range rk.Keys {
		d.Keys[k.ID()] = k.tuf()
	}
	d.Roles = slices.DeleteFunc(d.Roles, func(r metadata.DelegatedRole) bool { return r.Name == channel })
	d.Roles = append(d.Roles, delegation(channel, rk))
	var used []string
	for _, r := range d.Roles {
		used = append(used, r.KeyIDs...)
	}
	dropUnused(d.Keys, used)
	return nil
}

func delegation(channel string, rk RoleKeys) metadata.DelegatedRole {
	return metadata.DelegatedRole{
		Name: channel, KeyIDs: rk.ids(), Threshold: rk.Threshold,
		Terminating: true, Paths: []string{channelPaths(channel)},
	}
}

func dropUnused(keys map[string]*metadata.Key, used []string) {
	for id := range keys {
		if !slices.Contains(used, id) {
			delete(keys, id)
		}
	}
}

// keys returns the keys of a role as its delegator has them.
func (s *Set) keys(role string) ([]*metadata.Key, int) {
	if isTopLevel(role) {
		return rootKeys(s.root, role)
	}
	for _, d := range s.targets.Signed.Delegations.Roles {
		if d.Name == role {
			return pickKeys(s.targets.Signed.Delegations.Keys, d.KeyIDs), d.Threshold
		}
	}
	return nil, 0
}

func rootKeys(root *metadata.Metadata[metadata.RootType], role string) ([]*metadata.Key, int) {
	r := root.Signed.Roles[role]
	if r == nil {
		return nil, 0
	}
	return pickKeys(root.Signed.Keys, r.KeyIDs), r.Threshold
}

func pickKeys(keys map[string]*metadata.Key, ids []string) []*metadata.Key {
	var list []*metadata.Key
	for _, id := range ids {
		if k := keys[id]; k != nil {
			list = append(list, k)
		}
	}
	return list
}

// previousKeys returns the root keys of the version before the newest: they must sign the newest too.
func (s *Set) previousKeys() ([]*metadata.Key, int) {
	data, ok := s.roots[s.root.Signed.Version-1]
	if !ok {
		return nil, 0
	}
	old, err := metadata.Root().FromBytes(data)
	if err != nil {
		return nil, 0 // LoadSet and change put only readable roots there
	}
	return rootKeys(old, RoleRoot)
}

// signers are the keys whose signature on a role may count: its own and, for the root, those of the version before.
func (s *Set) signers(role string) []*metadata.Key {
	keys, _ := s.keys(role)
	if role == RoleRoot {
		old, _ := s.previousKeys()
		keys = append(keys, old...)
	}
	return keys
}

// MaySign reports whether a key's signature on a role may count. A key that a new root replaces signs that root too.
func (s *Set) MaySign(role string, k PublicKey) bool {
	return slices.ContainsFunc(s.signers(role), func(other *metadata.Key) bool { return other.Value.PublicKey == k.String() })
}

// SignedBy reports whether a role carries the valid signature of a key.
func (s *Set) SignedBy(role string, k PublicKey) bool {
	r := s.roles[role]
	return r != nil && r.signedBy(k.tuf())
}

// Sign adds a signature. It does nothing when this key has signed already, or when the version was
// complete when it was loaded: what may be published never changes. It returns ErrNoRole, ErrNotAKey, ErrSigner,
// or the signer's error.
func (s *Set) Sign(role string, k Signer) error {
	r := s.roles[role]
	if r == nil {
		return fmt.Errorf("sign %s: %w", role, ErrNoRole)
	}
	public := k.Public()
	if !s.MaySign(role, public) {
		return fmt.Errorf("sign %s: %w: %s", role, ErrNotAKey, public.ID())
	}
	if *r.version == r.published || r.signedBy(public.tuf()) {
		return nil
	}
	if err := r.add(k); err != nil {
		return fmt.Errorf("sign %s: %w", role, err)
	}
	s.settle()
	return nil
}

// Missing counts the signatures still missing, by role; a role that is complete is not in the map.
func (s *Set) Missing() map[string]int {
	missing := map[string]int{}
	for name := range s.roles {
		if n := s.missing(name); n > 0 {
			missing[name] = n
		}
	}
	return missing
}

func (s *Set) missing(role string) int {
	keys, threshold := s.keys(role)
	n := s.roles[role].missing(keys, threshold)
	if role == RoleRoot {
		keys, threshold = s.previousKeys()
		n = max(n, s.roles[role].missing(keys, threshold))
	}
	return n
}
