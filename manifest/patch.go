package manifest

import (
	"fmt"
	"strings"
)

// Kinds of patches. A launcher reads a document with another kind no more than one with an unknown key.
const (
	PatchPlain = "bsdiff40" // the form of the classic bsdiff
	PatchGo    = "go1"      // for Go executables: the classic form against the old file with its references moved
)

// PatchPacked starts from nothing: it is the artifact itself, compressed by zstd with a window of at most 4 MiB.
const PatchPacked = "zstd"

// MaxPatches bounds the patches of one artifact.
const MaxPatches = 8

// Patch makes an artifact out of an older one of the same product and platform. Its bytes are at
// HashPath(SHA256). It saves a download and vouches for nothing: what it makes has to be the artifact.
type Patch struct {
	From      string `json:"from"` // sha256 of the older artifact, "" for PatchPacked
	Kind      string `json:"kind"`
	SizeBytes int64  `json:"size_bytes"`
	SHA256    string `json:"sha256"`
}

// checkPatches reports what is wrong with the patches of an artifact: they are ordered by what they start from,
// one for each, and smaller than what they save.
func (a Artifact) checkPatches() error {
	if len(a.Patches) > MaxPatches || a.Patches != nil && len(a.Patches) == 0 {
		return fmt.Errorf("%w: %d patches, at most %d allowed, none is left out", ErrDocument, len(a.Patches), MaxPatches)
	}
	for i, p := range a.Patches {
		if err := p.check(a); err != nil {
			return fmt.Errorf("patch %d: %w", i, err)
		}
		if i > 0 && strings.Compare(a.Patches[i-1].From, p.From) >= 0 {
			return fmt.Errorf("patch %d: %w: patches must be ordered by from, one for each", i, ErrDocument)
		}
	}
	return nil
}

func (p Patch) check(a Artifact) error {
	packed := p.Kind == PatchPacked && p.From == ""
	switch {
	case !packed && !digestRule.MatchString(p.From) || !digestRule.MatchString(p.SHA256):
		return fmt.Errorf("%w: from %q and sha256 %q must be 64 lower-case hex digits", ErrDocument, p.From, p.SHA256)
	case p.From == a.SHA256:
		return fmt.Errorf("%w: it starts from the artifact itself", ErrDocument)
	case !packed && p.Kind != PatchPlain && p.Kind != PatchGo:
		return fmt.Errorf("%w: kind %q; a newer launcher may be needed", ErrDocument, p.Kind)
	case p.SizeBytes < 1 || p.SizeBytes >= a.SizeBytes:
		return fmt.Errorf("%w: size of %d bytes, 1 to %d allowed", ErrDocument, p.SizeBytes, a.SizeBytes-1)
	}
	return nil
}
