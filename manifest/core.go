package manifest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
)

// Bounds of one refresh. Root and timestamp are the only files that are parsed before a digest is known.
const (
	maxNewRoots       = 64
	maxRootBytes      = 512 << 10
	maxTimestampBytes = 16 << 10
	maxTargetsBytes   = 4 << 20
)

// core is the client workflow of the TUF specification, section 5, for any repository. trustedmetadata
// makes every decision; core brings it the bytes in the right order. It is used instead of go-tuf's
// updater, which trusts exactly the root it is handed, writes without syncing and opens files by itself.
//
// Each file is taken from the cache when it is there and still right, else from the source, so a walk over
// the cache alone is the same walk. What a product's repository must look like is walk's affair.
type core struct {
	ctx    context.Context
	src    Source
	cache  Source
	anchor []byte
	at     time.Time // the time that expiries are held against

	// verified is told of every file that did not come from the cache, as soon as it is verified.
	verified func(role string, f File) error

	set         *trustedmetadata.TrustedMetadata
	oldSnapshot int64           // the version that the cached timestamp names, 0 for none
	used        map[string]bool // names of all files of this set
}

// top brings in the four top-level roles.
func (w *core) top() error {
	for _, step := range []func() error{w.roots, w.timestamp, w.snapshot, w.targets} {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// roots goes from the installed root to the newest, one version at a time, each signed by the one
// before. The kept ones come first: from the installed root alone, a mirror that hides the newer ones
// could bring back a key that they revoke.
func (w *core) roots() error {
	set, err := trustedmetadata.New(w.anchor)
	if err != nil {
		return fromTUF("installed root", err)
	}
	w.set = set
	if err := w.keepAnchor(); err != nil {
		return err
	}
	for count := 0; ; {
		found, news, err := w.nextRoot()
		if err != nil {
			return err
		}
		if !found {
			break
		}
		if news {
			count++
		}
		if count > maxNewRoots {
			return fmt.Errorf("%w: more than %d; refresh again to go on", ErrRoots, maxNewRoots)
		}
	}
	w.set.RefTime = w.at
	return nil
}

// keepAnchor puts the installed root among the kept ones, so that a launcher that is set back to an older
// installed root still finds the whole chain.
func (w *core) keepAnchor() error {
	name := metadataName(RoleRoot, w.set.Root.Signed.Version)
	if _, err := w.cache.Get(w.ctx, name, maxRootBytes); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return w.verified(RoleRoot, File{Name: name, Data: w.anchor})
}

// nextRoot takes one step. A kept root that no longer verifies must be replaced by the source: going on
// without it would be forgetting it.
func (w *core) nextRoot() (found, news bool, err error) {
	name := metadataName(RoleRoot, w.set.Root.Signed.Version+1)
	data, err := w.cache.Get(w.ctx, name, maxRootBytes)
	kept := err == nil
	if kept {
		if err := w.updateRoot(data); err == nil {
			return true, false, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, false, err
	}
	data, err = w.src.Get(w.ctx, name, maxRootBytes)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !kept:
		return false, false, nil
	case err == nil:
		if err = w.updateRoot(data); err == nil {
			return true, true, w.verified(RoleRoot, File{Name: name, Data: data})
		}
		err = fromTUF(name, err)
	case !errors.Is(err, fs.ErrNotExist):
		return false, false, err
	}
	if kept {
		err = fmt.Errorf("%s: %w (%v); delete the folder only if the installed root was replaced on purpose", name, ErrDamaged, err)
	}
	return false, false, err
}

// updateRoot refuses a root that lacks one of the top-level roles, which go-tuf accepts: once kept, such a root
// would be in force until the next one, and every refresh would fail.
func (w *core) updateRoot(data []byte) error {
	root, err := metadata.Root().FromBytes(data)
	if err != nil {
		return err
	}
	for _, role := range []string{RoleRoot, RoleTargets, RoleSnapshot, RoleTimestamp} {
		if r := root.Signed.Roles[role]; r == nil || r.Threshold < 1 {
			return fmt.Errorf("the role %s is missing or needs no signature", role)
		}
	}
	_, err = w.set.UpdateRoot(data)
	return err
}

// timestamp loads the kept one for its version numbers, below which nothing is accepted, and then the
// source's. A kept one that does not verify any more is no error: its keys may have been replaced, which
// is also how a vendor recovers from a version number set too high.
func (w *core) timestamp() error {
	if data, err := w.cache.Get(w.ctx, timestampName, maxTimestampBytes); err == nil {
		_, _ = w.set.UpdateTimestamp(data) // an expired one is loaded all the same
		if w.set.Timestamp != nil {
			w.oldSnapshot = w.set.Timestamp.Signed.Meta["snapshot.json"].Version
		}
	}
	data, err := w.src.Get(w.ctx, timestampName, maxTimestampBytes)
	if err != nil {
		return err
	}
	_, err = w.set.UpdateTimestamp(data)
	if errors.Is(err, &metadata.ErrBadVersionNumber{}) && w.older(data) {
		return fmt.Errorf("%s: %w (%v)", timestampName, ErrOlder, err)
	}
	if err != nil && !errors.Is(err, &metadata.ErrEqualVersionNumber{}) {
		return fromTUF(timestampName, err)
	}
	w.used[timestampName] = true
	if err != nil {
		return nil
	}
	return w.verified(RoleTimestamp, File{Name: timestampName, Data: data})
}

// older says whether a timestamp that was refused for a version number, and whose signatures hold therefore, is
// itself the older one. The other reason would be what it says about the snapshot.
func (w *core) older(data []byte) bool {
	m, err := (&metadata.Metadata[metadata.TimestampType]{}).FromBytes(data)
	return err == nil && w.set.Timestamp != nil && m.Signed.Version < w.set.Timestamp.Signed.Version
}

// snapshot loads the kept one first, so that the new one can drop or lower nothing that it lists. What it
// may be by now does not matter: only load decides which one holds.
func (w *core) snapshot() error {
	if w.oldSnapshot > 0 {
		if data, err := w.cache.Get(w.ctx, metadataName(RoleSnapshot, w.oldSnapshot), maxTargetsBytes); err == nil {
			_, _ = w.set.UpdateSnapshot(data, true)
		}
	}
	return w.load(RoleSnapshot, w.set.Timestamp.Signed.Meta["snapshot.json"], func(data []byte) error {
		_, err := w.set.UpdateSnapshot(data, false)
		return err
	})
}

func (w *core) targets() error {
	_, err := w.role(RoleTargets, RoleRoot)
	return err
}

// role brings in the targets metadata of a role, by the keys that its delegator names.
func (w *core) role(name, delegator string) (*metadata.TargetsType, error) {
	err := w.load(name, w.set.Snapshot.Signed.Meta[name+".json"], func(data []byte) error {
		_, err := w.set.UpdateDelegatedTargets(data, name, delegator)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &w.set.Targets[name].Signed, nil
}

// load brings one numbered metadata file to update, which verifies it.
func (w *core) load(role string, file *metadata.MetaFiles, update func([]byte) error) error {
	if file == nil || file.Version < 1 || file.Length > maxTargetsBytes {
		return fmt.Errorf("%w: metadata of %s is not listed, or not as it should be", ErrDocument, role)
	}
	name := metadataName(role, file.Version)
	w.used[name] = true
	if data, err := w.cache.Get(w.ctx, name, maxTargetsBytes); err == nil && update(data) == nil {
		return nil
	}
	limit := file.Length
	if limit < 1 {
		limit = maxTargetsBytes
	}
	data, err := w.src.Get(w.ctx, name, limit)
	if err != nil {
		return err
	}
	if err := update(data); err != nil {
		return fromTUF(name, err)
	}
	return w.verified(role, File{Name: name, Data: data})
}
