package manifest

import (
	"errors"
	"testing"
	"time"
)

// floored is a channel document with a floor.
func (v *vendor) floored(floor uint64, offers ...Offer) Channel {
	c := v.channel("stable", offers...)
	c.MinEpoch = floor
	return c
}

// What a vendor may well say once there is a floor is accepted, and the floor still holds after it.
func TestFloor(t *testing.T) {
	newest, middle, oldest := Offer{Version: "1.2.0", Epoch: 3}, Offer{Version: "1.1.0", Epoch: 2}, Offer{Version: "1.0.0", Epoch: 1}
	taken := newest
	taken.Yanked = "loses data"
	for name, offers := range map[string][]Offer{
		"older ones are listed too":                 {newest, middle, oldest},
		"the newest was yanked, one is left":        {taken, middle, oldest},
		"all at or above the floor was yanked":      {taken, oldest},
		"nothing is on offer":                       {},
		"the one on offer is the floor itself":      {middle},
		"the floor stays while something is raised": {{Version: "2.0.0", Epoch: 9}, oldest},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVendor(t)
			c := v.host()
			for _, list := range [][]Offer{{newest, middle}, offers} {
				v.offer(v.floored(2, list...))
				v.publish()
				refresh(t, c, v.folder())
			}
			v.lower(1, offers...)
			_, err := c.Refresh(t.Context(), v.folder())
			refused(t, err, ErrFloor)
			v.lower(2, offers...)
			refresh(t, c, v.folder())
		})
	}
}

// lower publishes a channel document that SetTarget would not have let through.
func (v *vendor) lower(floor uint64, offers ...Offer) {
	v.t.Helper()
	v.force("stable", channelPath("stable"), v.floored(floor, offers...).Bytes())
	v.publish()
}

// What the last channel document said is in force for as long as the keys that signed it are: neither another
// timestamp key, which makes a host forget version numbers, nor a refresh that broke off after its root, nor a restart
// takes it away. Another key for the channel does: so a vendor comes back from a thief who has set floor and epochs as
// high as they go, and may go beyond what the thief has reached.
func TestFloorAndKeys(t *testing.T) {
	v, dir := newVendor(t), t.TempDir()
	const top = 1 + maxEpochStep
	v.offer(v.floored(top, Offer{Version: "1.0.0", Epoch: top}))
	v.publish()
	refresh(t, v.hostAt(dir, here), v.folder())

	v.rotate()
	v.lower(1, Offer{Version: "1.0.0", Epoch: 1})
	timestamp := v.readFile(timestampName)
	v.hide(timestampName)
	if _, err := v.hostAt(dir, here).Refresh(t.Context(), v.folder()); err == nil || errors.Is(err, ErrVerify) {
		t.Fatalf("without a timestamp: %v", err)
	}
	v.writeFile(timestampName, timestamp)
	_, err := v.hostAt(dir, here).Refresh(t.Context(), v.folder())
	refused(t, err, ErrFloor)

	v.lower(top, Offer{Version: "1.0.0", Epoch: maxEpoch})
	_, err = v.hostAt(dir, here).Refresh(t.Context(), v.folder())
	refused(t, err, ErrLeap)

	v.replaceKeys("stable")
	v.lower(1, Offer{Version: "1.1.0", Epoch: maxEpoch})
	view := refresh(t, v.hostAt(dir, here), v.folder())
	if view.Channel.MinEpoch != 1 || view.RootVersion != 2 {
		t.Errorf("min_epoch %d, root %d", view.Channel.MinEpoch, view.RootVersion)
	}
}

// What hosts would refuse is not signed.
func TestFloorIsNotLoweredBySigning(t *testing.T) {
	v := newVendor(t)
	offer := Offer{Version: "1.0.0", Epoch: 2}
	v.offer(v.floored(2, offer))
	err := v.set.SetTarget("stable", channelPath("stable"), v.floored(1, offer).Bytes())
	refused(t, err, ErrFloor)
	err = v.set.SetTarget("stable", channelPath("stable"), v.floored(3, offer).Bytes())
	refused(t, err, ErrDowngrade)
	high := Offer{Version: "1.0.0", Epoch: 3 + maxEpochStep}
	err = v.set.SetTarget("stable", channelPath("stable"), v.floored(2, high).Bytes())
	refused(t, err, ErrLeap)
	offer.Epoch = 3
	v.offer(v.floored(3, offer))
}

// A thief of a pipeline can push a host's clock as far as the metadata goes that he cannot sign, and what the vendor
// signs for the usual time has expired there until then. It is taken when it is signed for longer.
func TestClockPushedByAThief(t *testing.T) {
	v := newVendor(t)
	c := v.host()
	refresh(t, c, v.folder())
	pipeline := []string{"stable", RoleSnapshot, RoleTimestamp}
	sign := func(lifetime time.Duration) {
		t.Helper()
		for _, role := range pipeline {
			if err := v.set.Bump(role, time.Now(), lifetime); err != nil {
				t.Fatal(err)
			}
		}
		v.publish()
	}
	pushed := v.channel("stable", Offer{Version: "1.0.0", Epoch: 1, Share: AllHosts})
	for ahead, want := range map[time.Duration]error{200 * day: ErrClock, 170 * day: nil} { // targets last for 180 days
		pushed.SignedAt = wholeSeconds(time.Now().Add(ahead))
		v.force("stable", channelPath("stable"), pushed.Bytes())
		sign(365 * day)
		if _, err := c.Refresh(t.Context(), v.folder()); !errors.Is(err, want) {
			t.Fatalf("%v ahead: %v, want %v", ahead, err, want)
		}
	}
	for _, role := range pipeline {
		v.replaceKeys(role)
	}
	v.offer(v.channel("stable", Offer{Version: "1.0.0", Epoch: 1, Share: AllHosts})) // the vendor never had that document
	sign(0)
	_, err := c.Refresh(t.Context(), v.folder())
	refused(t, err, ErrExpired)
	sign(175 * day)
	refresh(t, c, v.folder())
}
