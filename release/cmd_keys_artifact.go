package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/turnstone-go/turnstone/manifest"
)

const withdrawn = "signed with an artifact key that is no longer trusted"

// addArtifactKey makes the second artifact key that counts while it takes the place of the first.
func (w *workspace) addArtifactKey(ctx context.Context, set *manifest.Set, alt alteration) (answer, error) {
	if alt.threshold != 0 {
		return nil, usage("--threshold: one artifact key signs, always")
	}
	trust, err := loadTrust(set)
	if err != nil {
		return nil, err
	}
	if len(trust.Minisign) >= maxArtifactKeys {
		return nil, refuse("two artifact keys are trusted already: remove the older one first ('release keys remove %s/KEY')", artifactRole)
	}
	text, state, err := w.makeArtifactKey(alt.origin, trust)
	if err != nil {
		return nil, err
	}
	trust.Minisign = append(trust.Minisign, text)
	return w.setTrust(ctx, set, altered{Added: state}, trust)
}

const maxArtifactKeys = 2

func (w *workspace) makeArtifactKey(o origin, trust manifest.Trust) (string, *keyState, error) {
	name := w.nextName(artifactRole)
	state := &keyState{Name: name, Signer: o.signer, Encrypted: o.encrypt}
	if o.public == "" {
		key, err := w.newArtifactKey(name, o.encrypt)
		if err != nil {
			return "", nil, err
		}
		state.ID, state.File = strings.ToLower(key.ID()), filepath.Base(w.keyFile(name))
		return key.Public(), state, w.product.save(w.disk, w.path)
	}
	text, _, err := readPublic(o.public, artifactRole)
	if err != nil {
		return "", nil, err
	}
	if slices.Contains(trust.Minisign, text) {
		return "", nil, nothing("this artifact key is trusted already")
	}
	if other := w.product.nameOf(text); other != "" {
		return "", nil, usage("this key is %s already: a key signs for one role", other)
	}
	state.ID = shortID(artifactRole, text)
	w.product.Keys = append(w.product.Keys, keyEntry{Name: name, Public: text, Signer: o.signer})
	return text, state, w.product.save(w.disk, w.path)
}

// removeArtifactKey ends the trust in an artifact key. What it alone has signed can then be installed nowhere, so
// it must not be on offer: a host would take it for a contradiction of the vendor's and quarantine it.
func (w *workspace) removeArtifactKey(ctx context.Context, set *manifest.Set, alt alteration) (answer, error) {
	trust, err := loadTrust(set)
	if err != nil {
		return nil, err
	}
	var have []string
	at := -1
	for i, text := range trust.Minisign {
		name, id := w.product.nameOf(text), shortID(artifactRole, text)
		have = append(have, strings.TrimSpace(name+" "+id))
		if alt.key != "" && (name == alt.key || len(alt.key) >= 8 && strings.HasPrefix(id, strings.ToLower(alt.key))) {
			at = i
		}
	}
	if at < 0 {
		return nil, usage("no artifact key %q: there is %s", alt.key, strings.Join(have, ", "))
	}
	if len(trust.Minisign) == 1 {
		return nil, refuse("it is the only artifact key: 'release keys add %s' first", artifactRole)
	}
	id := shortID(artifactRole, trust.Minisign[at])
	old := keyState{ID: id, Name: w.product.nameOf(trust.Minisign[at])}
	yanked, channels, err := w.withdraw(set, id, alt.yank)
	if err != nil {
		return nil, err
	}
	trust.Minisign = slices.Delete(trust.Minisign, at, at+1)
	return w.setTrust(ctx, set, altered{Removed: &old, Yanked: yanked}, trust, channels...)
}

// withdraw yanks what a key has signed and is on offer, or refuses if that is not wanted.
func (w *workspace) withdraw(set *manifest.Set, id string, wanted bool) (versions, channels []string, err error) {
	for _, name := range set.Channels() {
		c, err := loadChannel(set, w.product.Name, name)
		if err != nil {
			return nil, nil, err
		}
		changed := false
		for i, o := range c.Offers {
			release, _, there, err := loadRelease(set, name, o.Version)
			if err != nil {
				return nil, nil, err
			}
			if !there || o.Yanked != "" || !signedWith(release, id) {
				continue
			}
			c.Offers[i].Yanked, changed = withdrawn, true
			if !slices.Contains(versions, o.Version) {
				versions = append(versions, o.Version)
			}
		}
		if !changed {
			continue
		}
		channels = append(channels, name)
		if err := saveChannel(set, c); err != nil {
			return nil, nil, err
		}
	}
	if len(versions) > 0 && !wanted {
		return nil, nil, refuse("the key %s has signed what is on offer (%s): release these programs under new numbers first, and take them back with --yank", id, strings.Join(versions, ", "))
	}
	return versions, channels, nil
}

func signedWith(r manifest.Release, id string) bool {
	return slices.ContainsFunc(r.Artifacts, func(a manifest.Artifact) bool {
		by, err := manifest.ArtifactID(a.Minisig)
		return err == nil && strings.EqualFold(by, id)
	})
}

// setTrust signs another trust document, and the channels that change with it.
func (w *workspace) setTrust(ctx context.Context, set *manifest.Set, a altered, trust manifest.Trust, channels ...string) (answer, error) {
	if err := set.SetTarget(manifest.RoleTargets, trustPath, trust.Bytes()); err != nil {
		return nil, err
	}
	a.Role, a.Threshold, a.Keys = artifactRole, 1, len(trust.Minisign)
	missing, err := w.renewAndCommit(ctx, set, append([]string{manifest.RoleTargets}, channels...))
	a.pending = pending{missing}
	return a, err
}
