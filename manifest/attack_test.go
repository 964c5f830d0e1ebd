package manifest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Files of two sets do not fit together, whichever is the older one.
func TestMixAndMatch(t *testing.T) {
	for _, role := range []string{RoleSnapshot, RoleTargets, "stable"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			v := newVendor(t)
			older := v.readFile(metadataName(role, 1))
			if role == RoleTargets {
				v.put(RoleTargets, trustPath, Trust{Schema, "demo", []string{must(NewArtifactKey())(t).Public()}}.Bytes())
			}
			v.next("1.1.0", 2)
			v.publish()
			name := metadataName(role, 2)
			newer := v.readFile(name)
			v.writeFile(name, older)
			_, err := v.host().Refresh(t.Context(), v.folder())
			refused(t, err, ErrMismatch)
			v.writeFile(name, newer)
			refresh(t, v.host(), v.folder())
		})
	}
}

// A channel that two must sign is not moved by one.
func TestChannelOfTwo(t *testing.T) {
	v := newVendor(t)
	c := v.host()
	refresh(t, c, v.folder())
	v.keys["stable"] = append(v.keys["stable"], v.newKey())
	if err := v.set.SetKeys("stable", RoleKeys{publics(v.keys["stable"]), 2}); err != nil {
		t.Fatal(err)
	}
	v.publish()
	refresh(t, c, v.folder())

	v.next("1.1.0", 2)
	both := v.keys["stable"]
	v.keys["stable"] = both[:1]
	for _, role := range []string{"stable", RoleSnapshot, RoleTimestamp} {
		if err := v.set.Sign(role, v.keys[role][0]); err != nil {
			t.Fatal(err)
		}
	}
	v.write()
	_, err := c.Refresh(t.Context(), v.folder())
	refused(t, err, ErrSignature)
	if view := must(c.Cached())(t); view.Channel.Offers[0].Version != "1.0.0" {
		t.Errorf("in force: %+v", view.Channel.Offers)
	}
	v.set.roles["stable"].published = 0 // it was never really published: sign on
	v.keys["stable"] = both
	v.publish()
	if view := refresh(t, c, v.folder()); view.Channel.Offers[0].Version != "1.1.0" {
		t.Errorf("in force: %+v", view.Channel.Offers)
	}
}

// A root that lacks a role would be kept and stand in the way of all that follows, so it is not kept.
func TestRootWithoutARole(t *testing.T) {
	for name, spoil := range map[string]func(map[string]*metadata.Role){
		"missing":        func(roles map[string]*metadata.Role) { delete(roles, RoleSnapshot) },
		"no signature":   func(roles map[string]*metadata.Role) { roles[RoleTimestamp].Threshold = 0 },
		"nothing at all": func(roles map[string]*metadata.Role) { roles[RoleTargets] = nil },
	} {
		t.Run(name, func(t *testing.T) {
			v := newVendor(t)
			c := v.host()
			good := v.set.root.Signed.Roles
			v.set.roles[RoleRoot].change()
			v.set.root.Signed.Roles = map[string]*metadata.Role{}
			for role, r := range good {
				copied := *r
				v.set.root.Signed.Roles[role] = &copied
			}
			spoil(v.set.root.Signed.Roles)
			write := func() {
				v.set.roles[RoleRoot].change()
				for _, k := range v.keys[RoleRoot] {
					if err := v.set.roles[RoleRoot].add(k); err != nil {
						t.Fatal(err)
					}
				}
				v.writeFile("metadata/2.root.json", v.set.roles[RoleRoot].bytes())
			}
			write()
			_, err := c.Refresh(t.Context(), v.folder())
			refused(t, err, ErrDocument)
			v.set.root.Signed.Roles = good
			write()
			if view := refresh(t, c, v.folder()); view.RootVersion != 2 {
				t.Errorf("root %d", view.RootVersion)
			}
		})
	}
}

// The thief of the timestamp's key has pushed its number up as far as it goes. Honest numbers are refused from then
// on, until a new root gives the role another key.
func TestFastForward(t *testing.T) {
	v := newVendor(t)
	c := v.host()
	honest := v.set.Version(RoleTimestamp)
	v.bump(RoleTimestamp, 0)
	*v.set.roles[RoleTimestamp].version = 1<<31 - 1
	v.signAsIs(RoleTimestamp)
	if view := refresh(t, c, v.folder()); view.TimestampVersion != 1<<31-1 {
		t.Fatalf("timestamp %d", view.TimestampVersion)
	}

	back := func() {
		v.bump(RoleTimestamp, 0)
		*v.set.roles[RoleTimestamp].version = honest + 1
		v.publish()
	}
	back()
	_, err := c.Refresh(t.Context(), v.folder())
	refused(t, err, ErrRollback)
	v.rotate()
	back()
	if view := refresh(t, c, v.folder()); view.TimestampVersion != honest+1 || view.RootVersion != 2 {
		t.Errorf("timestamp %d, root %d", view.TimestampVersion, view.RootVersion)
	}
}

// A host's clock may be off by ten years. Ahead, everything has expired, nothing is lost, and all is well when the
// clock is set right. Behind, what the vendor publishes is accepted, and what it published before is not from then on.
// Inside a bubble the clock starts at the same moment each time.
func TestClockOffByTenYears(t *testing.T) {
	const decade = 10 * 365 * 24 * time.Hour
	dir, tree := t.TempDir(), t.TempDir()
	var v *vendor
	synctest.Test(t, func(t *testing.T) {
		v = newVendorIn(t, tree)
		refresh(t, v.hostAt(dir, here), v.folder())
		time.Sleep(decade)
		_, err := v.hostAt(dir, here).Refresh(t.Context(), v.folder())
		refused(t, err, ErrExpired)
		if view := must(v.hostAt(dir, here).Cached())(t); !view.Expired || view.Channel.Offers[0].Version != "1.0.0" {
			t.Errorf("ahead by ten years: %+v", view)
		}
	})
	late, behind := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		v.t = t
		refresh(t, v.hostAt(dir, here), v.folder()) // the clock is right again
		time.Sleep(decade)
		v = newVendorIn(t, late)
	})
	synctest.Test(t, func(t *testing.T) { // ten years behind the vendor
		v.t = t
		if view := refresh(t, v.hostAt(behind, here), v.folder()); view.Expired {
			t.Error("what is valid ten years later is marked as expired")
		}
		v.bump(RoleTimestamp, 0) // for an hour, which has not ended by the wall clock
		v.publish()
		_, err := v.hostAt(behind, here).Refresh(t.Context(), v.folder())
		refused(t, err, ErrExpired)
		v.bump(RoleTimestamp, decade)
		v.publish()
		refresh(t, v.hostAt(behind, here), v.folder())
	})
}
