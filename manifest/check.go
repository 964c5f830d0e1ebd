package manifest

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/Masterminds/semver/v3"

	"github.com/turnstone-go/turnstone/internal/archive"
)

// Bounds of the documents. They are far above what a product needs and far below what would hurt a host.
const (
	maxDocumentBytes = 256 << 10
	maxOffers        = 256
	maxArtifacts     = 64
	maxNotesBytes    = 16 << 10
	maxYankedBytes   = 1 << 10
	maxMinisigBytes  = 2 << 10
	maxNameBytes     = 100 // of a version or a file: a host's store takes no more
	maxPathBytes     = 256
	maxArtifactBytes = 16 << 30
	maxProtocol      = 1 << 20
	maxEpoch         = 1<<53 - 1 // what every JSON reader represents exactly
	maxTrustKeys     = 2

	// No vendor makes so many releases between two looks of a host. From 0 to maxEpoch it takes two million of such steps.
	maxEpochStep = 1 << 32
)

var (
	nameRule     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$`)
	platformRule = regexp.MustCompile(`^[a-z0-9]{1,32}$`)
	fileRule     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?$`)
	digestRule   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	pathRule     = regexp.MustCompile(`^[a-z0-9][a-z0-9._/-]*$`)
)

// CheckName reports whether a product or channel name is allowed: lower-case letters, digits and inner
// hyphens, at most 64. The names of the four top-level TUF roles are not.
func CheckName(name string) error {
	if !nameRule.MatchString(name) {
		return fmt.Errorf("%w: name %q: use lower-case letters, digits and inner hyphens, at most 64", ErrDocument, name)
	}
	if isTopLevel(name) {
		return fmt.Errorf("%w: name %q is taken by a TUF role", ErrDocument, name)
	}
	return nil
}

// CheckVersion reports whether a version number is allowed: semver in its strict form (1.2.3, not v1.2),
// without build metadata, since semver calls two builds of one version equal, and with lower-case
// prerelease identifiers, since it orders them as ASCII.
func CheckVersion(version string) error {
	v, err := semver.StrictNewVersion(version)
	switch {
	case err != nil:
		return fmt.Errorf("%w: version %q: %v; write it as 1.2.3 or 1.2.3-rc.1", ErrDocument, version, err)
	case v.Metadata() != "":
		return fmt.Errorf("%w: version %q: build metadata after + is not allowed", ErrDocument, version)
	case version != strings.ToLower(version):
		return fmt.Errorf("%w: version %q: the prerelease must be lower case", ErrDocument, version)
	case len(version) > maxNameBytes:
		return fmt.Errorf("%w: version of %d bytes, at most %d allowed", ErrDocument, len(version), maxNameBytes)
	}
	return nil
}

// checkPath reports whether a target path is allowed.
func checkPath(path string) error {
	if len(path) > maxPathBytes || !pathRule.MatchString(path) || strings.Contains(path, "..") ||
		strings.Contains(path, "//") || strings.HasSuffix(path, "/") {
		return fmt.Errorf("%w: %q", ErrPath, path)
	}
	return nil
}

// Check reports what is wrong with a channel document.
func (c Channel) Check() error {
	if err := checkHead(c.Schema, c.Product); err != nil {
		return err
	}
	if err := CheckName(c.Name); err != nil {
		return err
	}
	if c.MinEpoch > maxEpoch {
		return fmt.Errorf("%w: min_epoch %d is too large", ErrDocument, c.MinEpoch)
	}
	if !wholeSecond(c.SignedAt) {
		return fmt.Errorf("%w: signed_at must be in UTC and whole seconds", ErrDocument)
	}
	if len(c.Offers) > maxOffers {
		return fmt.Errorf("%w: %d offers, at most %d allowed", ErrDocument, len(c.Offers), maxOffers)
	}
	seen := make(map[string]bool, len(c.Offers))
	for i, o := range c.Offers {
		if err := o.check(); err != nil {
			return fmt.Errorf("offer %d: %w", i, err)
		}
		if seen[o.Version] {
			return fmt.Errorf("offer %d: %w: version %s is offered twice", i, ErrDocument, o.Version)
		}
		seen[o.Version] = true
		if i > 0 && o.Epoch >= c.Offers[i-1].Epoch {
			return fmt.Errorf("offer %d: %w: offers must be ordered by epoch, newest first", i, ErrDocument)
		}
	}
	return c.checkOffersFloor()
}

// checkOffersFloor wants the newest offer at the floor or above, even if it was yanked: a yank must always reach the
// hosts, also one of the last release that they might have chosen.
func (c Channel) checkOffersFloor() error {
	if len(c.Offers) > 0 && c.Offers[0].Epoch < c.MinEpoch {
		return fmt.Errorf("%w: the newest has epoch %d, min_epoch is %d", ErrDowngrade, c.Offers[0].Epoch, c.MinEpoch)
	}
	return nil
}

// newest is the highest epoch that a channel speaks of.
func (c Channel) newest() uint64 {
	if len(c.Offers) > 0 {
		return c.Offers[0].Epoch
	}
	return c.MinEpoch
}

// checkAfter refuses a channel document that cannot follow the one before: it lowers the floor, or raises the epochs so
// far that nothing could follow it. A host that has committed the highest of all epochs would never update again.
func (c Channel) checkAfter(before Channel) error {
	switch {
	case c.MinEpoch < before.MinEpoch:
		return fmt.Errorf("channel %s: %w: min_epoch %d, it was %d before", c.Name, ErrFloor, c.MinEpoch, before.MinEpoch)
	case c.newest() > before.newest() && c.newest()-before.newest() > maxEpochStep:
		return fmt.Errorf("channel %s: %w: epoch %d, it was %d before", c.Name, ErrLeap, c.newest(), before.newest())
	}
	return nil
}

func (o Offer) check() error {
	if err := CheckVersion(o.Version); err != nil {
		return err
	}
	switch {
	case o.Epoch < 1 || o.Epoch > maxEpoch:
		return fmt.Errorf("%w: epoch %d must be between 1 and %d", ErrDocument, o.Epoch, uint64(maxEpoch))
	case o.Share < 0 || o.Share > AllHosts:
		return fmt.Errorf("%w: share %d must be between 0 and %d", ErrDocument, o.Share, AllHosts)
	case len(o.Yanked) > maxYankedBytes:
		return fmt.Errorf("%w: reason of %d bytes, at most %d allowed", ErrDocument, len(o.Yanked), maxYankedBytes)
	}
	return checkText("reason", o.Yanked)
}

// Check reports what is wrong with a release document.
func (r Release) Check() error {
	if err := checkHead(r.Schema, r.Product); err != nil {
		return err
	}
	if err := CheckVersion(r.Version); err != nil {
		return err
	}
	switch {
	case r.Epoch < 1 || r.Epoch > maxEpoch:
		return fmt.Errorf("%w: epoch %d must be between 1 and %d", ErrDocument, r.Epoch, uint64(maxEpoch))
	case len(r.Notes) > maxNotesBytes:
		return fmt.Errorf("%w: notes of %d bytes, at most %d allowed", ErrDocument, len(r.Notes), maxNotesBytes)
	case r.Protocol.Min < 1 || r.Protocol.Max < r.Protocol.Min || r.Protocol.Max > maxProtocol:
		return fmt.Errorf("%w: protocol range %d to %d: from 1 to %d, the lower one first", ErrDocument, r.Protocol.Min, r.Protocol.Max, maxProtocol)
	case len(r.Artifacts) < 1 || len(r.Artifacts) > maxArtifacts:
		return fmt.Errorf("%w: %d artifacts, 1 to %d allowed", ErrDocument, len(r.Artifacts), maxArtifacts)
	}
	// Notes have lines; every other text is one.
	if err := checkText("notes", strings.ReplaceAll(r.Notes, "\n", "")); err != nil {
		return err
	}
	for i, a := range r.Artifacts {
		if err := a.check(); err != nil {
			return fmt.Errorf("artifact %d: %w", i, err)
		}
		if i > 0 && comparePlatforms(r.Artifacts[i-1], a) >= 0 {
			return fmt.Errorf("artifact %d: %w: artifacts must be ordered by os and arch, one for each platform", i, ErrDocument)
		}
	}
	return nil
}

// SortArtifacts brings the artifacts into the order that the document demands.
func (r *Release) SortArtifacts() { slices.SortFunc(r.Artifacts, comparePlatforms) }

func comparePlatforms(a, b Artifact) int {
	return cmp.Or(strings.Compare(a.OS, b.OS), strings.Compare(a.Arch, b.Arch))
}

func (a Artifact) check() error {
	switch {
	case !platformRule.MatchString(a.OS) || !platformRule.MatchString(a.Arch):
		return fmt.Errorf("%w: platform %q/%q: use lower-case letters and digits, at most 32 of each", ErrDocument, a.OS, a.Arch)
	case len(a.Name) > maxNameBytes || !fileRule.MatchString(a.Name) || archive.CheckPath(a.Name) != nil:
		return fmt.Errorf("%w: file name %q: use letters, digits and inner dots, hyphens and underscores, at most %d, and no name of a device", ErrDocument, a.Name, maxNameBytes)
	case a.SizeBytes < 1 || a.SizeBytes > maxArtifactBytes:
		return fmt.Errorf("%w: size of %d bytes, 1 to %d allowed", ErrDocument, a.SizeBytes, int64(maxArtifactBytes))
	case !digestRule.MatchString(a.SHA256):
		return fmt.Errorf("%w: sha256 %q must be 64 lower-case hex digits", ErrDocument, a.SHA256)
	}
	if err := a.checkArchive(); err != nil {
		return err
	}
	if _, err := parseSignature(a.Minisig); err != nil {
		return err
	}
	return a.checkPatches()
}

func (a Artifact) checkArchive() error {
	switch {
	case a.Format == "":
		if a.Main != "" || a.UnpackedBytes != 0 {
			return fmt.Errorf("%w: main and unpacked_bytes are for an archive, and there is no format", ErrDocument)
		}
	case !archive.Format(a.Format).Known():
		return fmt.Errorf("%w: format %q of an archive", ErrDocument, a.Format)
	case archive.CheckPath(a.Main) != nil:
		return fmt.Errorf("%w: main %q is not the path of a file in an archive", ErrDocument, a.Main)
	case a.UnpackedBytes < 1 || a.UnpackedBytes > maxArtifactBytes:
		return fmt.Errorf("%w: %d unpacked bytes, 1 to %d allowed", ErrDocument, a.UnpackedBytes, int64(maxArtifactBytes))
	}
	return nil
}

// Check reports what is wrong with a trust document.
func (t Trust) Check() error {
	if err := checkHead(t.Schema, t.Product); err != nil {
		return err
	}
	if len(t.Minisign) < 1 || len(t.Minisign) > maxTrustKeys {
		return fmt.Errorf("%w: %d minisign keys, 1 to %d allowed", ErrDocument, len(t.Minisign), maxTrustKeys)
	}
	for i, text := range t.Minisign {
		if _, err := parseArtifactPublicKey(text); err != nil {
			return fmt.Errorf("minisign key %d: %w", i, err)
		}
		if slices.Contains(t.Minisign[:i], text) {
			return fmt.Errorf("minisign key %d: %w: named twice", i, ErrDocument)
		}
	}
	return nil
}

func checkHead(schema int, product string) error {
	if schema != Schema {
		return fmt.Errorf("%w: schema %d, but this program reads schema %d; a newer launcher may be needed", ErrDocument, schema, Schema)
	}
	return CheckName(product)
}

// checkText refuses what JSON cannot carry unchanged and what would act on the terminal it is shown on.
func checkText(what, text string) error {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return fmt.Errorf("%w: %s must be UTF-8 without control characters", ErrDocument, what)
	}
	return nil
}

func wholeSecond(t time.Time) bool {
	_, offset := t.Zone()
	return offset == 0 && t.Nanosecond() == 0 && t.Year() >= 1970 && t.Year() <= 9999
}
