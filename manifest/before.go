package manifest

import (
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// before returns the channel documents that this host has kept, as far as the keys that sign the channel in the new set
// have signed them too; mostly that is one. What they say is the mark that the new one is held to: since none is
// accepted that lowers the floor, the last one has the highest. New keys make a host forget it, which is how a vendor
// recovers from a thief who has set it very high. It does not matter whether the rest of the kept set still verifies,
// so other keys for the timestamp, or a cut in the middle of keeping a set, take nothing away.
func (c *Client) before(w *walk) []Channel {
	entries, err := c.disk.ReadDir(c.trust.path("metadata"))
	if err != nil {
		return nil // nothing is kept yet
	}
	var list []Channel
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), "."+c.host.Channel+".json") {
			continue
		}
		if kept, ok := c.kept(w, "metadata/"+e.Name()); ok {
			list = append(list, kept)
		}
	}
	return list
}

// kept opens the channel document that one kept metadata file signs. What does not hold any more is not there.
func (c *Client) kept(w *walk, name string) (Channel, bool) {
	data, err := c.trust.Get(w.ctx, name, maxTargetsBytes)
	if err != nil {
		return Channel{}, false
	}
	m, err := metadata.Targets().FromBytes(data)
	if err != nil || w.set.Targets[RoleTargets].VerifyDelegate(c.host.Channel, m) != nil {
		return Channel{}, false
	}
	path := channelPath(c.host.Channel)
	signed, err := newTarget(path, m.Signed.Targets[path])
	if err != nil {
		return Channel{}, false
	}
	data, err = c.trust.Get(w.ctx, signed.name(), signed.sizeBytes)
	if err != nil || signed.check(data) != nil {
		return Channel{}, false
	}
	kept, err := openChannel(data, c.host.Product, c.host.Channel)
	return kept, err == nil
}
