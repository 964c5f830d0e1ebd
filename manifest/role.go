package manifest

import (
	"cmp"
	"slices"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// role is the metadata file of one role while a set is being made, whatever its type.
type role struct {
	meta       any // *metadata.Metadata of one of the four types
	version    *int64
	expires    *time.Time
	signatures *[]metadata.Signature
	sign       func(signature.Signer) (*metadata.Signature, error)
	print      func(pretty bool) ([]byte, error)

	raw       []byte // as loaded; nil after a change
	published int64  // the version that was complete when loaded, 0 for none: it never changes again
}

func newRole[T metadata.Roles](m *metadata.Metadata[T], version *int64, expires *time.Time) *role {
	return &role{
		meta: m, version: version, expires: expires, signatures: &m.Signatures,
		sign: m.Sign, print: m.ToBytes,
	}
}

// bytes returns the file. What was loaded and not changed is returned as it was, since another tool may
// have spaced it otherwise and its digest stands in the snapshot.
func (r *role) bytes() []byte {
	if r.raw != nil {
		return r.raw
	}
	data, err := r.print(true)
	if err != nil {
		panic("manifest: internal error: " + err.Error()) // times are checked by wholeSeconds
	}
	return append(data, '\n')
}

// change must precede every change: it moves on from a published version and drops the signatures.
func (r *role) change() {
	if *r.version == r.published {
		*r.version++
	}
	r.raw = nil
	*r.signatures = []metadata.Signature{}
}

// signedBy reports whether a key has a valid signature on the file. go-tuf answers only whether a role's
// threshold is met, so it is asked about a role with this key alone.
func (r *role) signedBy(key *metadata.Key) bool {
	judge := metadata.Root()
	if err := judge.Signed.AddKey(key, RoleRoot); err != nil {
		return false
	}
	return judge.VerifyDelegate(RoleRoot, r.meta) == nil
}

// missing counts the signatures that keys still owe up to threshold.
func (r *role) missing(keys []*metadata.Key, threshold int) int {
	for _, key := range keys {
		if r.signedBy(key) {
			threshold--
		}
	}
	return max(threshold, 0)
}

// add signs with k, replacing what the same key may have signed before.
func (r *role) add(k Signer) error {
	signer := &tufSigner{signer: k}
	id := k.Public().ID()
	before := slices.Clone(*r.signatures)
	*r.signatures = slices.DeleteFunc(*r.signatures, func(s metadata.Signature) bool { return s.KeyID == id })
	if _, err := r.sign(signer); err != nil {
		*r.signatures = before
		return cmp.Or(signer.err, err)
	}
	r.raw = nil
	return nil
}

// wholeSeconds truncates an expiry: go-tuf would print the fraction, and other TUF clients refuse it.
func wholeSeconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
