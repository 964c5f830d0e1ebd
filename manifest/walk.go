package manifest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
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

// walk is the client workflow of the TUF specification, section 5, from the installed root to the
// documents. trustedmetadata makes every decision; walk brings it the bytes in the right order. It is
// used instead of go-tuf's updater, which trusts exactly the root it is handed, writes without syncing
// and opens files by itself.
//
// Each file is taken from the trust folder when it is there and still right, else from the source, so a
// walk over the trust folder alone is the same walk.
type walk struct {
	ctx    context.Context
	src    Source
	cache  Source
	anchor []byte
	host   Host
	at     time.Time // the time that expiries are held against

	saveRoot func(File) error // a root is kept as soon as it is verified

	set         *trustedmetadata.TrustedMetadata
	oldSnapshot int64           // the version that the cached timestamp names, 0 for none
	fresh       []File          // verified and not yet in the trust folder, timestamp first
	used        map[string]bool // names of all files of this set
	view        View
}

func (w *walk) run() error {
	for _, step := range []func() error{w.roots, w.timestamp, w.snapshot, w.targets, w.channel, w.finish} {
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
func (w *walk) roots() error {
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
	w.view.RootVersion = w.set.Root.Signed.Version
	return nil
}

// keepAnchor puts the installed root among the kept ones, so that a launcher that is set back to an older
// installed root still finds the whole chain.
func (w *walk) keepAnchor() error {
	name := metadataName(RoleRoot, w.set.Root.Signed.Version)
	if _, err := w.cache.Get(w.ctx, name, maxRootBytes); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return w.saveRoot(File{Name: name, Data: w.anchor})
}

// nextRoot takes one step. A kept root that no longer verifies must be replaced by the source: going on
// without it would be forgetting it.
func (w *walk) nextRoot() (found, news bool, err error) {
	name := metadataName(RoleRoot, w.set.Root.Signed.Version+1)
	data, err := w.cache.Get(w.ctx, name, maxRootBytes)
	kept := err == nil
	if kept {
		if _, err := w.set.UpdateRoot(data); err == nil {
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
		if _, err = w.set.UpdateRoot(data); err == nil {
			return true, true, w.saveRoot(File{Name: name, Data: data})
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

// timestamp loads the kept one for its version numbers, below which nothing is accepted, and then the
// source's. A kept one that does not verify any more is no error: its keys may have been replaced, which
// is also how a vendor recovers from a version number set too high.
func (w *walk) timestamp() error {
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
	if err != nil && !errors.Is(err, &metadata.ErrEqualVersionNumber{}) {
		return fromTUF(timestampName, err)
	}
	if err == nil {
		w.fresh = append(w.fresh, File{Name: timestampName, Data: data})
	}
	w.used[timestampName] = true
	w.view.TimestampVersion = w.set.Timestamp.Signed.Version
	return nil
}

// snapshot loads the kept one too, so that the new one can drop or lower nothing that it lists.
func (w *walk) snapshot() error {
	file := w.set.Timestamp.Signed.Meta["snapshot.json"]
	if w.oldSnapshot > 0 && w.oldSnapshot != file.Version {
		if data, err := w.cache.Get(w.ctx, metadataName(RoleSnapshot, w.oldSnapshot), maxTargetsBytes); err == nil {
			_, _ = w.set.UpdateSnapshot(data, true) // it is not the one the timestamp names, so this is an error
		}
	}
	return w.load(RoleSnapshot, file, func(data []byte) error {
		_, err := w.set.UpdateSnapshot(data, false)
		return err
	})
}

func (w *walk) targets() error {
	err := w.load(RoleTargets, w.set.Snapshot.Signed.Meta["targets.json"], func(data []byte) error {
		_, err := w.set.UpdateTargets(data)
		return err
	})
	if err != nil {
		return err
	}
	signed := &w.set.Targets[RoleTargets].Signed
	if err := checkDelegations(signed); err != nil {
		return err
	}
	data, err := w.signedDocument(signed, trustPath)
	if err != nil {
		return err
	}
	w.view.Trust, err = openTrust(data, w.host.Product)
	return err
}

func (w *walk) channel() error {
	name := w.host.Channel
	roles := w.set.Targets[RoleTargets].Signed.Delegations.Roles
	if !slices.ContainsFunc(roles, func(r metadata.DelegatedRole) bool { return r.Name == name }) {
		return fmt.Errorf("%w: the repository has no channel %s", ErrWrongChannel, name)
	}
	err := w.load(name, w.set.Snapshot.Signed.Meta[name+".json"], func(data []byte) error {
		_, err := w.set.UpdateDelegatedTargets(data, name, RoleTargets)
		return err
	})
	if err != nil {
		return err
	}
	signed := &w.set.Targets[name].Signed
	if err := checkChannelTargets(name, signed); err != nil {
		return err
	}
	data, err := w.signedDocument(signed, channelPath(name))
	if err != nil {
		return err
	}
	if w.view.Channel, err = openChannel(data, w.host.Product, name); err != nil {
		return err
	}
	w.view.releases, err = releases(name, signed)
	return err
}

func releases(channel string, t *metadata.TargetsType) (map[string]target, error) {
	list := map[string]target{}
	for path, f := range t.Targets {
		if version := versionOf(channel, path); version != "" {
			t, err := newTarget(path, f)
			if err != nil {
				return nil, err
			}
			list[version] = t
		}
	}
	return list, nil
}

// finish computes when the first of the files expires.
func (w *walk) finish() error {
	w.view.Expires = w.set.Root.Signed.Expires
	for _, t := range []time.Time{
		w.set.Timestamp.Signed.Expires, w.set.Snapshot.Signed.Expires,
		w.set.Targets[RoleTargets].Signed.Expires, w.set.Targets[w.host.Channel].Signed.Expires,
	} {
		if t.Before(w.view.Expires) {
			w.view.Expires = t
		}
	}
	return nil
}

// checkClock refuses a channel that was signed later than its metadata expires. It would push this
// host's clock beyond everything that is valid, and the channel's key alone is enough to sign one.
func (w *walk) checkClock() error {
	if signed := w.view.Channel.SignedAt; signed.After(w.view.Expires) {
		return fmt.Errorf("channel %s: %w: signed %s, expires %s", w.host.Channel, ErrClock,
			signed.Format(time.RFC3339), w.view.Expires.Format(time.RFC3339))
	}
	return nil
}

// load brings one numbered metadata file to update, which verifies it.
func (w *walk) load(role string, file *metadata.MetaFiles, update func([]byte) error) error {
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
	w.fresh = append(w.fresh, File{Name: name, Data: data})
	return nil
}

func (w *walk) signedDocument(t *metadata.TargetsType, path string) ([]byte, error) {
	signed, err := newTarget(path, t.Targets[path])
	if err != nil {
		return nil, err
	}
	return w.document(signed)
}

// document brings the bytes of a signed target, checked against its length and digest.
func (w *walk) document(t target) ([]byte, error) {
	w.used[t.name()] = true
	if data, err := w.cache.Get(w.ctx, t.name(), t.sizeBytes); err == nil && t.check(data) == nil {
		return data, nil
	}
	data, err := w.src.Get(w.ctx, t.name(), t.sizeBytes)
	if err != nil {
		return nil, err
	}
	if err := t.check(data); err != nil {
		return nil, err
	}
	w.fresh = append(w.fresh, File{Name: t.name(), Data: data})
	return data, nil
}
