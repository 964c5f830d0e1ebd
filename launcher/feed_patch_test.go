package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/updater/delta"
	"github.com/turnstone-go/turnstone/updater/fetch"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// patchRig is a repository folder with one patch, and the old file.
type patchRig struct {
	*feed
	dir, dst   string
	old, fresh []byte
	v          journal.Version
	patch      []byte // as it is served; signed is p
	p          manifest.Patch
}

func newPatchRig(t *testing.T) *patchRig {
	t.Helper()
	r := &patchRig{dir: t.TempDir(), dst: filepath.Join(t.TempDir(), "part")}
	r.old = make([]byte, 200_000)
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range r.old {
		r.old[i] = byte(rnd.Uint32())
	}
	r.fresh = append(bytes.Clone(r.old[:100_000]), r.old[90_000:]...)
	r.fresh[7]++
	r.v = journal.Version{Number: "1.1.0", Digest: digestHex(r.fresh), SizeBytes: int64(len(r.fresh)), File: "app"}
	r.sign(t, r.made(t, r.old, r.fresh))
	source, err := fetch.Open(r.dir, fetch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.feed = &feed{disk: durable.OS(), source: supply{Repository: source}}
	return r
}

func (r *patchRig) made(t *testing.T, old, fresh []byte) []byte {
	t.Helper()
	patch, err := delta.Make(t.Context(), old, fresh)
	if err != nil {
		t.Fatal(err)
	}
	return patch
}

// sign makes patch the one that is signed, and serves it.
func (r *patchRig) sign(t *testing.T, patch []byte) {
	t.Helper()
	r.patch = patch
	r.p = manifest.Patch{From: digestHex(r.old), Kind: delta.Plain, SizeBytes: int64(len(patch)), SHA256: digestHex(patch)}
	name := filepath.Join(r.dir, filepath.FromSlash(manifest.HashPath(r.p.SHA256)))
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, patch, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func digestHex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (r *patchRig) try(t *testing.T, ctx context.Context, old []byte) error {
	t.Helper()
	name := filepath.Join(t.TempDir(), "old")
	if err := os.WriteFile(name, old, 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := r.disk.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	return r.feed.patch(ctx, r.v, r.p, base{file}, r.dst, nil)
}

// patchAttack is one change of a patch or of the old file, with the value that is attacked and with a legal one.
// What it returns is the old file.
type patchAttack struct {
	name       string
	want       error
	evil, twin func(*testing.T, *patchRig) []byte
}

func patchedBy[T any](name string, want error, change func(*testing.T, *patchRig, T) []byte, evil, twin T) patchAttack {
	return patchAttack{
		name, want, func(t *testing.T, r *patchRig) []byte { return change(t, r, evil) },
		func(t *testing.T, r *patchRig) []byte { return change(t, r, twin) },
	}
}

var patchAttacks = []patchAttack{
	patchedBy("tampered on its way", fetch.ErrDigest, func(t *testing.T, r *patchRig, mask byte) []byte {
		bad := bytes.Clone(r.patch)
		bad[len(bad)/2] ^= mask
		if err := os.WriteFile(filepath.Join(r.dir, filepath.FromSlash(manifest.HashPath(r.p.SHA256))), bad, 0o644); err != nil {
			t.Fatal(err)
		}
		return r.old
	}, 1, 0),
	patchedBy("tampered and signed", delta.ErrPatch, func(t *testing.T, r *patchRig, mask byte) []byte {
		bad := bytes.Clone(r.patch)
		bad[40] ^= mask
		r.sign(t, bad)
		return r.old
	}, 1, 0),
	patchedBy("makes more than is signed", delta.ErrPatch, func(t *testing.T, r *patchRig, more string) []byte {
		r.sign(t, r.made(t, r.old, append(bytes.Clone(r.fresh), more...)))
		return r.old
	}, "x", ""),
	patchedBy("makes another file of that size", errMade, func(t *testing.T, r *patchRig, off byte) []byte {
		other := bytes.Clone(r.fresh)
		other[len(other)-1] += off
		r.sign(t, r.made(t, r.old, other))
		return r.old
	}, 1, 0),
	patchedBy("is for another old file", errMade, func(_ *testing.T, r *patchRig, off byte) []byte {
		old := bytes.Clone(r.old)
		old[len(old)/2] += off
		return old
	}, 1, 0),
}

func TestPatchRefuses(t *testing.T) {
	for _, a := range patchAttacks {
		t.Run(a.name, func(t *testing.T) {
			tried(t, a.evil, a.want)
			tried(t, a.twin, nil)
		})
	}
	t.Run("a packed file", func(t *testing.T) {
		tried(t, func(t *testing.T, r *patchRig) []byte {
			packed, err := delta.Pack(r.fresh)
			if err != nil {
				t.Fatal(err)
			}
			r.sign(t, packed)
			return nil
		}, nil)
	})
}

// tried applies what change makes of a good patch. What is refused leaves nothing.
func tried(t *testing.T, change func(*testing.T, *patchRig) []byte, want error) {
	t.Helper()
	r := newPatchRig(t)
	if err := r.try(t, t.Context(), change(t, r)); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	got, err := os.ReadFile(r.dst)
	if want == nil && (err != nil || !bytes.Equal(got, r.fresh)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if want != nil && !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left %d bytes for the download of the file to go on from, %v", len(got), err)
	}
	alone(t, r.dst)
}

// alone demands that nothing lies beside dst.
func alone(t *testing.T, dst string) {
	t.Helper()
	left, err := os.ReadDir(filepath.Dir(dst))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range left {
		if e.Name() != filepath.Base(dst) {
			t.Errorf("left %s", e.Name())
		}
	}
}

// What an earlier patch had begun when it was cut is neither gone on from nor taken for a download.
func TestPatchAfterACut(t *testing.T) {
	r := newPatchRig(t)
	for name, data := range map[string][]byte{r.dst: r.fresh[:1000], r.dst + ".etag": []byte(`"x"`), r.dst + ".new": r.old[:5000], r.dst + ".patch": r.patch[:50]} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.try(t, t.Context(), r.old); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(r.dst); err != nil || !bytes.Equal(got, r.fresh) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	alone(t, r.dst)
}

// A download of the file that lacks less than the patch has goes on.
func TestPatchIsNotWorthIt(t *testing.T) {
	r := newPatchRig(t)
	old := bytes.Clone(r.fresh[:len(r.fresh)-10])
	if err := os.WriteFile(r.dst, old, 0o600); err != nil {
		t.Fatal(err)
	}
	if r.worth(r.v, r.p, r.dst) {
		t.Error("fetches a patch for the last 10 bytes")
	}
	if err := os.WriteFile(r.dst, old[:1000], 0o600); err != nil {
		t.Fatal(err)
	}
	if !r.worth(r.v, r.p, r.dst) {
		t.Error("fetches the file")
	}
}
