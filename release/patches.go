package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/release/repo"
	"github.com/turnstone-go/turnstone/updater/delta"
)

const (
	patchPays     = 60        // percent that a patch may have at most of what is fetched without it
	packedPays    = 90        // and a packed file of the file
	patchLargest  = 512 << 20 // of the files that patches are made for: making one takes about 12 times that in memory
	patchReleases = 3         // by default
)

// addPatches gives each artifact a packed copy, and patches from the newest releases of every channel, the channel of the release
// first: a release that is promoted keeps its document, so it brings the patches for the hosts there along.
func (w *workspace) addPatches(ctx context.Context, set *manifest.Set, release *manifest.Release, to target) error {
	older, err := w.newest(set, to.channel, to.patches)
	if err != nil {
		return err
	}
	for i := range release.Artifacts {
		a := &release.Artifacts[i]
		if a.SizeBytes > patchLargest || a.Format != "" { // of a packed file hardly a byte stays the same
			continue
		}
		bases := basesOf(*a, older)
		if len(bases) == 0 && !to.pack {
			continue
		}
		fresh, err := w.artifactBytes(ctx, *a)
		if err != nil {
			return err
		}
		if to.pack {
			if err := w.addPacked(ctx, a, fresh); err != nil {
				return fmt.Errorf("pack %s: %w", a.Name, err)
			}
		}
		for _, base := range bases {
			if err := w.addPatch(ctx, a, base, fresh); err != nil {
				return fmt.Errorf("patch for %s from %s…: %w", a.Name, base.SHA256[:12], err)
			}
		}
		slices.SortFunc(a.Patches, func(a, b manifest.Patch) int { return strings.Compare(a.From, b.From) })
	}
	return nil
}

// newest returns the newest n releases of each channel that were not taken back.
func (w *workspace) newest(set *manifest.Set, channel string, n int) ([]manifest.Release, error) {
	var found []manifest.Release
	for _, name := range append([]string{channel}, w.product.Channels...) {
		c, err := loadChannel(set, w.product.Name, name)
		if err != nil {
			return nil, err
		}
		left := n
		for _, o := range c.Offers {
			if left == 0 {
				break
			}
			if o.Yanked != "" {
				continue
			}
			left--
			doc, _, there, err := loadRelease(set, name, o.Version)
			if err != nil {
				return nil, err
			}
			if there {
				found = append(found, doc)
			}
		}
	}
	return found, nil
}

// basesOf returns the artifacts for the platform of a that patches may start from, each once.
func basesOf(a manifest.Artifact, older []manifest.Release) (bases []manifest.Artifact) {
	seen := map[string]bool{a.SHA256: true}
	for _, r := range older {
		base, there := r.Artifact(a.OS, a.Arch)
		if !there || base.Format != "" || seen[base.SHA256] || base.SizeBytes > patchLargest || len(bases) == manifest.MaxPatches-1 { // one is the packed file
			continue
		}
		seen[base.SHA256] = true
		bases = append(bases, base)
	}
	return bases
}

// addPacked compresses the artifact for hosts that have nothing to start from, if it pays.
func (w *workspace) addPacked(ctx context.Context, a *manifest.Artifact, fresh []byte) error {
	packed, err := delta.Pack(fresh)
	if err != nil || int64(len(packed))*100 >= a.SizeBytes*packedPays {
		return err
	}
	return w.keepPatch(ctx, a, nil, "", packed)
}

// addPatch makes a patch, tries it, and stores it if it pays. A base that is not in this folder has none.
func (w *workspace) addPatch(ctx context.Context, a *manifest.Artifact, base manifest.Artifact, fresh []byte) error {
	old, err := w.artifactBytes(ctx, base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	patch, err := delta.Make(ctx, old, fresh)
	if err != nil {
		return err
	}
	if int64(len(patch))*100 >= download(*a)*patchPays {
		return nil
	}
	return w.keepPatch(ctx, a, old, base.SHA256, patch)
}

// download is what a host fetches that has nothing to start from.
func download(a manifest.Artifact) int64 {
	for _, p := range a.Patches {
		if p.From == "" {
			return p.SizeBytes
		}
	}
	return a.SizeBytes
}

// keepPatch tries a patch and stores it.
func (w *workspace) keepPatch(ctx context.Context, a *manifest.Artifact, old []byte, from string, patch []byte) error {
	if err := tryPatch(ctx, bytes.NewReader(old), int64(len(old)), bytes.NewReader(patch), int64(len(patch)), *a); err != nil {
		return err
	}
	sum := sha256.Sum256(patch)
	digest := hex.EncodeToString(sum[:])
	if _, err := repo.Publish(ctx, w.tree, []repo.File{repo.Bytes(manifest.HashPath(digest), patch)}); err != nil {
		return err
	}
	a.Patches = append(a.Patches, manifest.Patch{From: from, Kind: delta.Kind(patch), SizeBytes: int64(len(patch)), SHA256: digest})
	return nil
}

// artifactBytes reads an artifact of repo/ that may be large, and believes its digest alone.
func (w *workspace) artifactBytes(ctx context.Context, a manifest.Artifact) ([]byte, error) {
	r, _, err := w.tree.Open(ctx, manifest.HashPath(a.SHA256))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := bytes.NewBuffer(make([]byte, 0, a.SizeBytes+bytes.MinRead))
	if _, err := b.ReadFrom(io.LimitReader(r, a.SizeBytes+1)); err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b.Bytes()); hex.EncodeToString(sum[:]) != a.SHA256 {
		return nil, refuse("%s in this folder is damaged: bring back the file with this sha256", manifest.HashPath(a.SHA256))
	}
	return b.Bytes(), nil
}

// tryPatch applies a patch as a launcher does and compares what it makes with the artifact.
func tryPatch(ctx context.Context, old io.ReaderAt, oldBytes int64, patch io.ReaderAt, patchBytes int64, a manifest.Artifact) error {
	sum := sha256.New()
	err := delta.Apply(ctx, delta.Files{Old: old, OldBytes: oldBytes, Patch: patch, PatchBytes: patchBytes, NewBytes: a.SizeBytes}, sum)
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != a.SHA256 {
		return fmt.Errorf("%w: the patch makes sha256 %s", manifest.ErrMismatch, got)
	}
	return nil
}
