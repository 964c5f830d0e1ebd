package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/release/repo"
)

// checkHistory refuses to publish over what this folder has never held. Two copies of one product that
// went different ways would else take turns in hiding each other's versions, and hosts that have seen
// the higher numbers would refuse the lower ones. It trusts nothing: a client decides by signatures.
func (w *workspace) checkHistory(ctx context.Context, dst repo.Store, set *manifest.Set) error {
	there, err := dst.Get(ctx, repo.Pointer, fileLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what is published: %w", err)
	}
	ours, err := w.tree.Get(ctx, repo.Pointer, fileLimit)
	if err != nil {
		return err
	}
	if bytes.Equal(there, ours) {
		return nil // perhaps with files missing, which are put back
	}
	version, err := signedVersion(there)
	if err != nil {
		return refuse("what is published there is no repository (%s: %w): look at it with 'release verify', or give another place", repo.Pointer, err)
	}
	if mine := set.Version(manifest.RoleTimestamp); version >= mine {
		return refuse("what is published there has timestamp %d and this folder has %d: it was published from another copy of the product, bring that one", version, mine)
	}
	published, err := manifest.LoadSet(ctx, dst)
	if err != nil {
		return fmt.Errorf("read what is published (if it is damaged, publish to an empty place): %w", err)
	}
	if err := checkVersions(published, set); err != nil {
		return err
	}
	return w.checkAncestor(ctx, published)
}

// checkVersions refuses a version that is published with other bytes.
func checkVersions(published, set *manifest.Set) error {
	for _, channel := range published.Channels() {
		for _, path := range published.Targets(channel) {
			was, _ := published.Target(channel, path)
			is, there := set.Target(channel, path)
			if path == channelPath(channel) || !there || bytes.Equal(was, is) {
				continue
			}
			release, err := manifest.ParseRelease(was)
			if err != nil {
				return err
			}
			return refuse("version %s is published there with other bytes: a version never changes. Give this build a new number, from the product folder that published it", release.Version)
		}
	}
	return nil
}

// checkAncestor refuses a published tree whose files this folder, which keeps all that it ever committed,
// does not have.
func (w *workspace) checkAncestor(ctx context.Context, published *manifest.Set) error {
	for _, f := range published.Files() {
		if !f.Immutable {
			continue
		}
		ours, err := w.tree.Get(ctx, f.Name, fileLimit)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil || !bytes.Equal(ours, f.Data) {
			return refuse("what is published there has %s and this folder has not: it was published from another copy of the product, bring that one", f.Name)
		}
	}
	return nil
}
