package manifest

import (
	"fmt"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// walk goes from the installed root to the documents of one product: core, and the rules of a product's
// repository on top. It keeps nothing but roots before the whole set is verified.
type walk struct {
	core
	host Host

	saveRoot func(File) error // a root is kept as soon as it is verified

	fresh []File // verified and not yet in the trust folder, timestamp first
	view  View
}

func (w *walk) run() error {
	w.core.verified = w.keep
	for _, step := range []func() error{w.top, w.product, w.channel, w.finish} {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) keep(role string, f File) error {
	if role == RoleRoot {
		return w.saveRoot(f)
	}
	w.fresh = append(w.fresh, f)
	return nil
}

// product holds the top-level targets to the layout, and opens what they sign.
func (w *walk) product() error {
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
	signed, err := w.role(name, RoleTargets)
	if err != nil {
		return err
	}
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

// finish notes when each of the files expires, and the first of them.
func (w *walk) finish() error {
	w.view.RootVersion = w.set.Root.Signed.Version
	w.view.TimestampVersion = w.set.Timestamp.Signed.Version
	w.view.Ends = map[string]time.Time{
		RoleRoot: w.set.Root.Signed.Expires, RoleTimestamp: w.set.Timestamp.Signed.Expires, RoleSnapshot: w.set.Snapshot.Signed.Expires,
		RoleTargets: w.set.Targets[RoleTargets].Signed.Expires, w.host.Channel: w.set.Targets[w.host.Channel].Signed.Expires,
	}
	for role, t := range w.view.Ends {
		w.view.Ends[role] = t.Add(w.host.MaxStaleness)
	}
	w.view.Expires = w.view.Ends[RoleRoot]
	for _, t := range w.view.Ends {
		if t.Before(w.view.Expires) {
			w.view.Expires = t
		}
	}
	return nil
}

// checkClock refuses a channel that was signed later than its metadata expires. It would push this
// host's clock beyond everything that is valid, and the channel's key alone is enough to sign one.
func (w *walk) checkClock() error {
	expires := w.view.Expires.Add(-w.host.MaxStaleness)
	if signed := w.view.Channel.SignedAt; signed.After(expires) {
		return fmt.Errorf("channel %s: %w: signed %s, expires %s", w.host.Channel, ErrClock,
			signed.Format(time.RFC3339), expires.Format(time.RFC3339))
	}
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
