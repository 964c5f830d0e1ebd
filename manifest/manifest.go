// Package manifest holds the signed documents that say which version a host should run, and the trust
// that opens them.
//
// A repository is a tree of static files. TUF metadata (The Update Framework 1.0) signs three kinds of
// document: one Trust for the product, one Channel for each channel and one Release for each version.
// A Client turns such a tree into a View, and nothing of a View has been used before it was verified
// from the root that the client was born with. A Set is the other side: it makes and signs the metadata.
// docs/MANIFEST.md specifies the formats, the layout and the order of the checks.
//
// The invariants:
//
//   - A document is accepted in one spelling only: Parse followed by Bytes gives back the same bytes.
//   - What the trust folder holds has been verified whole, and its timestamp.json is written last, so a
//     power cut at any line leaves the old set or the new one.
//   - A client that has seen a newer root, a newer version of any file or a later signed time never
//     accepts older ones again.
//   - Every refusal satisfies errors.Is(err, ErrVerify); an error of the network or the disk does not.
//
// The package opens no connection and reads no artifact from the network: bytes come from a Source and
// from the caller's reader. It does not decide what is run; updater/policy does, with the epochs and
// shares it reads here.
package manifest

import (
	"context"
	"time"
)

// Source is where repository files come from: a web server, a folder, a bundle. Get returns a whole
// file or an error, never a part; it returns an error for a file of more than maxBytes, and one that
// satisfies errors.Is(err, fs.ErrNotExist) for a file that is not there. updater/fetch implements it.
type Source interface {
	Get(ctx context.Context, name string, maxBytes int64) ([]byte, error)
}

// Host is who asks: documents for another product, channel or platform are refused. An empty OS accepts
// a release without an artifact for this platform, which is what the release tool wants.
type Host struct {
	Product string
	Channel string
	OS      string // as GOOS
	Arch    string // as GOARCH

	// MaxStaleness is how long after its expiry metadata is still taken, for hosts that are far from their vendor.
	// It lengthens for that long what a freeze can hide, and allows nothing older than what was seen before.
	MaxStaleness time.Duration
}

// View is a verified state of the repository as one host sees it.
type View struct {
	Channel Channel
	Trust   Trust

	// Expires is when the first of the metadata files behind this view expires for this host: what
	// Host.MaxStaleness allows is added. Expired says that this moment had passed when the view was
	// made, which only Client.Cached allows: an expired view may be shown and served from, but nothing
	// may be newly chosen from it.
	Expires time.Time
	Expired bool
	Ends    map[string]time.Time // when the metadata of each role expires that this view stands on, for this host

	RootVersion      int64
	TimestampVersion int64

	releases map[string]target // by version
}

// ExpiredAt says whether the view has expired by now, which is the wall clock: if the channel was signed later
// than that, the signed time counts, so that a clock which is set back brings nothing back to life.
func (v *View) ExpiredAt(now time.Time) bool {
	if v.Channel.SignedAt.After(now) {
		now = v.Channel.SignedAt
	}
	return v.Expired || now.After(v.Expires)
}

// Versions returns every version that the channel's role signs, offered or not, in no order.
func (v *View) Versions() []string {
	list := make([]string, 0, len(v.releases))
	for version := range v.releases {
		list = append(list, version)
	}
	return list
}
