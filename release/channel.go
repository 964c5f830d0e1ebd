package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/Masterminds/semver/v3"

	"github.com/turnstone-go/turnstone/manifest"
)

// keepOffers is how many versions a channel names; the oldest leave it when a new one comes.
const keepOffers = 200

// trustPath is the document that names the artifact keys.
const trustPath = "trust.json"

func channelPath(channel string) string          { return channel + "/channel.json" }
func releasePath(channel, version string) string { return channel + "/" + version + ".json" }

// loadChannel returns a channel's document, an empty one if it has none yet.
func loadChannel(set *manifest.Set, product, name string) (manifest.Channel, error) {
	data, there := set.Target(name, channelPath(name))
	if !there {
		return manifest.Channel{Schema: manifest.Schema, Product: product, Name: name}, nil
	}
	return manifest.ParseChannel(data)
}

// saveChannel puts a changed channel document into the set. Its signed time never goes back, because
// hosts take it for a lower bound of the time.
func saveChannel(set *manifest.Set, c manifest.Channel) error {
	if now := time.Now().UTC().Truncate(time.Second); now.After(c.SignedAt) {
		c.SignedAt = now
	}
	if err := set.SetTarget(c.Name, channelPath(c.Name), c.Bytes()); err != nil {
		return fmt.Errorf("change channel %s: %w", c.Name, err)
	}
	return nil
}

// loadRelease returns a version's document in a channel, as it was signed.
func loadRelease(set *manifest.Set, channel, version string) (doc manifest.Release, data []byte, there bool, err error) {
	data, there = set.Target(channel, releasePath(channel, version))
	if !there {
		return doc, nil, false, nil
	}
	doc, err = manifest.ParseRelease(data)
	return doc, data, true, err
}

// offer puts a release into a channel for a share of its hosts.
func offer(set *manifest.Set, channel string, release manifest.Release, data []byte, share int) error {
	if err := set.SetTarget(channel, releasePath(channel, release.Version), data); err != nil {
		return fmt.Errorf("add %s to channel %s: %w", release.Version, channel, err)
	}
	c, err := loadChannel(set, set.Product(), channel)
	if err != nil {
		return err
	}
	c.Offers = append(c.Offers, manifest.Offer{Version: release.Version, Epoch: release.Epoch, Share: share})
	slices.SortFunc(c.Offers, func(a, b manifest.Offer) int { return cmp.Compare(b.Epoch, a.Epoch) })
	for ; len(c.Offers) > keepOffers; c.Offers = c.Offers[:len(c.Offers)-1] {
		oldest := c.Offers[len(c.Offers)-1].Version
		if err := set.RemoveTarget(channel, releasePath(channel, oldest)); err != nil {
			return fmt.Errorf("drop %s from channel %s: %w", oldest, channel, err)
		}
	}
	return saveChannel(set, c)
}

// greaterNumber returns the version on offer in a channel with the greatest number above that of version, "" if there is
// none. Epochs order and numbers are for people, so this may be meant, for instance in a channel of its own.
func greaterNumber(set *manifest.Set, channel, version string) (string, error) {
	c, err := loadChannel(set, set.Product(), channel)
	if err != nil {
		return "", err
	}
	top, err := semver.StrictNewVersion(version)
	if err != nil {
		return "", err
	}
	found := ""
	for _, o := range c.Offers {
		if v, err := semver.StrictNewVersion(o.Version); err == nil && o.Yanked == "" && v.GreaterThan(top) {
			top, found = v, o.Version
		}
	}
	return found, nil
}

// nextEpoch is one more than any channel has seen.
func nextEpoch(set *manifest.Set, p product) (uint64, error) {
	var highest uint64
	for _, name := range p.Channels {
		c, err := loadChannel(set, p.Name, name)
		if err != nil {
			return 0, err
		}
		highest = max(highest, c.MinEpoch)
		for _, o := range c.Offers {
			highest = max(highest, o.Epoch)
		}
	}
	return highest + 1, nil
}

// releases returns the documents of all versions that any channel names, those that were taken back too.
func releases(set *manifest.Set, p product) ([]manifest.Release, error) {
	var all []manifest.Release
	for _, name := range p.Channels {
		c, err := loadChannel(set, p.Name, name)
		if err != nil {
			return nil, err
		}
		for _, o := range c.Offers {
			doc, _, _, err := loadRelease(set, name, o.Version)
			if err != nil {
				return nil, err
			}
			all = append(all, doc)
		}
	}
	return all, nil
}

// sameBytes returns the first of several versions that brings the platform of a the same bytes, "" if none does. Hosts
// tell versions apart by their bytes, so this may be meant, for instance where only another platform changes.
func sameBytes(others []manifest.Release, a manifest.Artifact) string {
	for _, r := range others {
		if other, there := r.Artifact(a.OS, a.Arch); there && other.SHA256 == a.SHA256 {
			return r.Version
		}
	}
	return ""
}

// find returns a version's document from any channel that has it.
func find(set *manifest.Set, p product, version string) (manifest.Release, []string, error) {
	var found manifest.Release
	var in []string
	for _, name := range p.Channels {
		doc, _, there, err := loadRelease(set, name, version)
		if err != nil {
			return found, nil, err
		}
		if there {
			found, in = doc, append(in, name)
		}
	}
	return found, in, nil
}
