package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/updater/fetch"
)

// patched is an artifact whose patches are to be checked, of a version that was read.
type patched struct {
	version string
	manifest.Artifact
}

func platformOf(a manifest.Artifact) string { return a.OS + "/" + a.Arch + " " }

// patches downloads every patch and, once all artifacts are known, applies each to the one that it starts from. A
// patch from a version that the channels do not name any more has nothing to be tried on; no client will ask for it.
func (c *checker) patches(ctx context.Context) error {
	for _, a := range c.patched {
		for _, p := range a.Patches {
			if err := c.patch(ctx, a.Artifact, p); err != nil {
				return fmt.Errorf("version %s for %s/%s: %s: %w", a.version, a.OS, a.Arch, called(p), err)
			}
		}
	}
	return nil
}

// called names a patch for people.
func called(p manifest.Patch) string {
	if p.Kind == manifest.PatchPacked {
		return "packed file"
	}
	return fmt.Sprintf("patch from sha256 %.12s…", p.From)
}

func (c *checker) patch(ctx context.Context, a manifest.Artifact, p manifest.Patch) error {
	patch, err := c.obtain(ctx, p.SHA256, p.SizeBytes)
	if err != nil {
		return err
	}
	defer patch.drop()
	if p.Kind == manifest.PatchPacked {
		c.result.Packed++
		return c.try(ctx, strings.NewReader(""), 0, patch, a, p)
	}
	base, known := c.files[platformOf(a)+p.From]
	if _, elsewhere := c.signatures[p.From]; !known && elsewhere {
		return fmt.Errorf("%w: it starts from a program for another platform", manifest.ErrWrongPlatform)
	}
	if !known {
		return nil
	}
	old, err := c.obtain(ctx, base.SHA256, base.SizeBytes)
	if err != nil {
		return err
	}
	defer old.drop()
	c.result.Patches++
	return c.try(ctx, old, base.SizeBytes, patch, a, p)
}

func (c *checker) try(ctx context.Context, old io.ReaderAt, oldBytes int64, patch io.ReaderAt, a manifest.Artifact, p manifest.Patch) error {
	if err := tryPatch(ctx, old, oldBytes, patch, p.SizeBytes, a); err != nil {
		return fmt.Errorf("%w: %w", manifest.ErrVerify, err)
	}
	return nil
}

// temporary is a downloaded file of the signed length and digest.
type temporary struct{ *os.File }

func (t temporary) drop() {
	_ = t.Close() // a reader has nothing to lose
	_ = os.Remove(t.Name())
}

func (c *checker) obtain(ctx context.Context, digest string, sizeBytes int64) (temporary, error) {
	name := filepath.Join(c.temp, digest+".part")
	want := fetch.Want{Name: manifest.HashPath(digest), SizeBytes: sizeBytes, SHA256: digest}
	if err := c.source.Download(ctx, c.disk, want, name, nil); err != nil {
		return temporary{}, err
	}
	f, err := os.Open(name)
	return temporary{f}, err
}
