package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/delta"
	"github.com/turnstone-go/turnstone/updater/fetch"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// bases is where a patch may start: the store.
type bases interface {
	Base(ctx context.Context, digest string) (durable.File, error)
}

// errMade says that a patch, though the signed one, does not make the signed file.
var errMade = errors.New("the patch does not make the signed file")

// fetchPatch makes dst hold v's bytes by a patch from a version in the store, and returns true when it does. It is
// a short cut: whatever goes wrong on it is told and costs no more than the download of the whole file, which then
// follows. Nothing speaks against the version, and only the end of ctx against going on.
//
// The patch is downloaded beside dst, and what it makes is written to a third file, which takes the place of dst
// when it is whole: a download of the file itself never goes on from what a patch had begun.
func (f *feed) fetchPatch(ctx context.Context, v journal.Version, dst string, progress func(done, total int64)) bool {
	if f.bases == nil {
		return false
	}
	a, err := f.artifact(ctx, v)
	if err != nil || len(a.Patches) == 0 {
		return false
	}
	p, base, found := f.usable(ctx, a.Patches)
	if !found {
		f.say(v, "has patches, none from a version in the store: fetching the whole file", nil)
		return false
	}
	defer base.close()
	if !f.worth(v, p, dst) {
		return false
	}
	f.say(v, fmt.Sprintf("by a %s of %d bytes instead of %d", called(p), p.SizeBytes, v.SizeBytes), nil)
	err = f.patch(ctx, v, p, base, dst, progress)
	if err == nil {
		return true
	}
	if ctx.Err() == nil {
		f.say(v, "cannot be made by the "+called(p)+": fetching the whole file", err)
	}
	return false
}

// artifact finds the signed document's word on v.
func (f *feed) artifact(ctx context.Context, v journal.Version) (manifest.Artifact, error) {
	r, err := f.client.Release(ctx, f.source, v.Number)
	if err != nil {
		return manifest.Artifact{}, err
	}
	a, ok := r.Artifact(f.host.OS, f.host.Arch)
	if !ok || a.SHA256 != v.Digest {
		return manifest.Artifact{}, manifest.ErrNoRelease
	}
	return a, nil
}

// called names a patch for people.
func called(p manifest.Patch) string {
	if p.Kind == manifest.PatchPacked {
		return "packed file"
	}
	return "patch"
}

// base is the old file of a patch, none for one that starts from nothing.
type base struct{ file durable.File }

func (b base) close() {
	if b.file != nil {
		_ = b.file.Close() // a reader has nothing to lose
	}
}

// old is the base as the patch reads it.
func (b base) old() (io.ReaderAt, int64, error) {
	if b.file == nil {
		return strings.NewReader(""), 0, nil
	}
	info, err := b.file.Stat()
	if err != nil {
		return nil, 0, err
	}
	return b.file, info.Size(), nil
}

// usable returns the smallest patch whose base is whole in the store, and the base.
func (f *feed) usable(ctx context.Context, patches []manifest.Patch) (p manifest.Patch, b base, found bool) {
	patches = slices.Clone(patches)
	slices.SortStableFunc(patches, func(a, b manifest.Patch) int { return cmp.Compare(a.SizeBytes, b.SizeBytes) })
	for _, p := range patches {
		if p.Kind == manifest.PatchPacked {
			return p, base{}, true
		}
		if file, err := f.bases.Base(ctx, p.From); err == nil {
			return p, base{file}, true
		}
	}
	return manifest.Patch{}, base{}, false
}

// worth says whether the patch is less than what is still missing of the file.
func (f *feed) worth(v journal.Version, p manifest.Patch, dst string) bool {
	info, err := f.disk.Lstat(dst)
	return err != nil || v.SizeBytes-info.Size() > p.SizeBytes
}

// patch downloads p, whose length and digest are checked before a byte of it is looked at, and applies it.
func (f *feed) patch(ctx context.Context, v journal.Version, p manifest.Patch, from base, dst string, progress func(done, total int64)) error {
	name := dst + ".patch"
	want := fetch.Want{Name: manifest.HashPath(p.SHA256), SizeBytes: p.SizeBytes, SHA256: p.SHA256}
	if err := f.source.Download(ctx, f.disk, want, name, progress); err != nil {
		if ctx.Err() == nil {
			err = errors.Join(err, fetch.Forget(f.disk, name))
		}
		return err
	}
	err := f.make(ctx, v, p, from, dst)
	return errors.Join(err, fetch.Forget(f.disk, name), fetch.Forget(f.disk, dst+".new"))
}

// make applies the patch beside dst, syncs what came out if it is the signed file, and puts it in the place of dst.
func (f *feed) make(ctx context.Context, v journal.Version, p manifest.Patch, from base, dst string) error {
	patch, err := f.disk.OpenFile(dst+".patch", os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = patch.Close() }() // a reader has nothing to lose
	old, oldBytes, err := from.old()
	if err != nil {
		return err
	}
	made := dst + ".new"
	if err := fetch.Forget(f.disk, made); err != nil { // of an earlier try that was cut
		return err
	}
	out, err := f.disk.OpenFile(made, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = out.Allocate(v.SizeBytes)
	sum := sha256.New()
	files := delta.Files{Old: old, OldBytes: oldBytes, Patch: patch, PatchBytes: p.SizeBytes, NewBytes: v.SizeBytes}
	if err == nil {
		err = delta.Apply(ctx, files, io.MultiWriter(out, sum))
	}
	if err == nil {
		err = checkSum(sum, v)
	}
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	return errors.Join(fetch.Forget(f.disk, dst), f.disk.Rename(made, dst), f.disk.SyncDir(filepath.Dir(dst)))
}

func checkSum(sum hash.Hash, v journal.Version) error {
	if got := hex.EncodeToString(sum.Sum(nil)); got != v.Digest {
		return fmt.Errorf("%w: its sha256 is %s, signed is %s", errMade, got, v.Digest)
	}
	return nil
}

// say tells operators how the bytes of v are come by.
func (f *feed) say(v journal.Version, text string, err error) {
	if f.tell == nil {
		return
	}
	e := updater.Event{At: time.Now(), Kind: "download", Number: v.Number, Text: text}
	if err != nil {
		e.Err = err.Error()
	}
	f.tell(e)
}
