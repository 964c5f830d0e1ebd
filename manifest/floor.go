package manifest

import (
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// floor is the highest min_epoch that this host has verified, 0 for none. The kept channel document is the mark:
// since none that lowers the floor is accepted, the last one has the highest. It is opened by the keys that sign the
// channel in the new set: new keys make a host forget it, which is how a vendor recovers from a thief who has set it
// very high. It does not matter whether the rest of the kept set still verifies, so that other keys for the timestamp
// or a cut in the middle of keeping a set take nothing away.
func (c *Client) floor(w *walk) uint64 {
	entries, err := c.disk.ReadDir(c.trust.path("metadata"))
	if err != nil {
		return 0 // nothing is kept yet
	}
	var floor uint64
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), "."+c.host.Channel+".json") {
			floor = max(floor, c.keptFloor(w, "metadata/"+e.Name()))
		}
	}
	return floor
}

// keptFloor is the floor of the channel document that one kept metadata file signs, 0 if that does not hold any more.
func (c *Client) keptFloor(w *walk, name string) uint64 {
	data, err := c.trust.Get(w.ctx, name, maxTargetsBytes)
	if err != nil {
		return 0
	}
	m, err := metadata.Targets().FromBytes(data)
	if err != nil || w.set.Targets[RoleTargets].VerifyDelegate(c.host.Channel, m) != nil {
		return 0
	}
	path := channelPath(c.host.Channel)
	signed, err := newTarget(path, m.Signed.Targets[path])
	if err != nil {
		return 0
	}
	data, err = c.trust.Get(w.ctx, signed.name(), signed.sizeBytes)
	if err != nil || signed.check(data) != nil {
		return 0
	}
	kept, err := openChannel(data, c.host.Product, c.host.Channel)
	if err != nil {
		return 0
	}
	return kept.MinEpoch
}
