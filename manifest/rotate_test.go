package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

const day = 24 * time.Hour

// replaceKeys gives a role as many new keys as it had, with the same threshold, and returns the old ones. The
// root is signed by both generations.
func (v *vendor) replaceKeys(role string) (old []Key) {
	v.t.Helper()
	old = v.keys[role]
	rk, _ := v.set.Keys(role)
	v.keys[role] = nil
	for range old {
		v.keys[role] = append(v.keys[role], v.newKey())
	}
	if err := v.set.SetKeys(role, RoleKeys{publics(v.keys[role]), rk.Threshold}); err != nil {
		v.t.Fatal(err)
	}
	if role == RoleRoot {
		v.signRoot(old...)
	}
	return old
}

// trustArtifactKeys makes these the artifact keys; the last one signs from now on.
func (v *vendor) trustArtifactKeys(keys ...ArtifactKey) {
	v.t.Helper()
	trust := Trust{Schema: Schema, Product: "demo"}
	for _, k := range keys {
		trust.Minisign = append(trust.Minisign, k.Public())
	}
	v.put(RoleTargets, trustPath, trust.Bytes())
	v.artifact = keys[len(keys)-1]
}

// live gives every role its usual life from now on.
func (v *vendor) live() {
	v.t.Helper()
	for _, role := range v.set.Roles() {
		if err := v.set.Bump(role, time.Now(), 0); err != nil {
			v.t.Fatal(err)
		}
	}
}

// A host is off for a year, in which every key of every role is replaced five times. It comes back with the
// root it was born with and metadata that has all expired, and is up to date after one refresh. A root in the
// middle that the one before did not sign stops it there, and nowhere else.
func TestYearOff(t *testing.T) {
	tree, dir := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		v := newVendorIn(t, tree)
		refresh(t, v.hostAt(dir, here), v.folder())
		var bySelf []byte // root 4 without the signatures of root 3's keys
		for round := 1; round <= 5; round++ {
			time.Sleep(73 * day)
			for _, role := range []string{RoleTargets, RoleSnapshot, RoleTimestamp, "stable", "beta"} {
				v.replaceKeys(role)
			}
			v.live()
			old := v.replaceKeys(RoleRoot)
			v.trustArtifactKeys(must(NewArtifactKey())(t))
			v.next(fmt.Sprintf("1.%d.0", round), uint64(round+1))
			v.publish()
			if round == 3 {
				bySelf = v.without(RoleRoot, old)
			}
		}
		time.Sleep(day)
		c := v.hostAt(dir, here)
		if view := must(c.Cached())(t); !view.Expired || view.RootVersion != 1 {
			t.Errorf("what the host had is root %d, expired %v", view.RootVersion, view.Expired)
		}

		good := v.readFile("metadata/4.root.json")
		v.writeFile("metadata/4.root.json", bySelf)
		_, err := c.Refresh(t.Context(), v.folder())
		refused(t, err, ErrSignature)
		v.writeFile("metadata/4.root.json", good)

		view := refresh(t, c, v.folder())
		if o := view.Channel.Offers; view.RootVersion != 6 || view.Expired || len(o) != 1 || o[0].Version != "1.5.0" {
			t.Errorf("root %d, expired %v, offers %+v", view.RootVersion, view.Expired, o)
		}
		r := must(c.Release(t.Context(), v.folder(), "1.5.0"))(t)
		if err := view.Trust.VerifyArtifact("demo", "1.5.0", r.Artifacts[0], bytes.NewReader(program("1.5.0"))); err != nil {
			t.Error(err)
		}
	})
}

// without returns a role's file with the signatures of some keys taken out.
func (v *vendor) without(role string, keys []Key) []byte {
	v.t.Helper()
	r, _, err := readFile(v.set.file(role, true).Data)
	if err != nil {
		v.t.Fatal(err)
	}
	kept := *r.signatures
	*r.signatures = nil
	for _, s := range kept {
		if !slices.ContainsFunc(keys, func(k Key) bool { return k.ID() == s.KeyID }) {
			*r.signatures = append(*r.signatures, s)
		}
	}
	return r.bytes()
}

// After a host has seen that a role has other keys, what the old ones sign is refused, and the same file with
// the new ones' signatures is accepted.
func TestRevokedKey(t *testing.T) {
	for _, role := range []string{RoleRoot, RoleTargets, "stable", RoleSnapshot, RoleTimestamp} {
		t.Run(role, func(t *testing.T) {
			v := newVendor(t)
			c := v.host()
			refresh(t, c, v.folder())
			old := v.replaceKeys(role)
			v.publish()
			before := refresh(t, c, v.folder())

			v.bump(role, 0)
			v.forge(role, old)
			_, err := c.Refresh(t.Context(), v.folder())
			refused(t, err, ErrSignature)
			if view := must(c.Cached())(t); view.TimestampVersion != before.TimestampVersion || view.RootVersion != before.RootVersion {
				t.Errorf("after the refusal the host has timestamp %d, root %d", view.TimestampVersion, view.RootVersion)
			}

			forged := v.set.Version(role)
			v.forge(role, v.keys[role])
			refresh(t, c, v.folder())
			if v.set.Version(role) != forged {
				t.Errorf("the twin is version %d, not %d", v.set.Version(role), forged)
			}
		})
	}
}

// forge publishes the set with a role signed by keys that need not be its own, and all else as it should be.
func (v *vendor) forge(role string, keys []Key) {
	v.t.Helper()
	r := v.set.roles[role]
	r.published = 0 // it is the same version again
	r.change()
	for _, k := range keys {
		if err := r.add(k); err != nil {
			v.t.Fatal(err)
		}
	}
	v.set.settle()
	for _, above := range []string{RoleSnapshot, RoleTimestamp} {
		if above == role {
			continue
		}
		if err := v.set.Sign(above, v.keys[above][0]); err != nil {
			v.t.Fatal(err)
		}
	}
	v.write()
}

// Two artifact keys count while one is being replaced; after that the old one's signatures open nothing.
func TestRevokedArtifactKey(t *testing.T) {
	v := newVendor(t)
	c := v.host()
	old, next := v.artifact, must(NewArtifactKey())(t)
	verify := func(key ArtifactKey) error {
		t.Helper()
		v.artifact = key
		r := v.makeRelease("1.1.0", 2)
		return must(c.Refresh(t.Context(), v.folder()))(t).Trust.VerifyArtifact("demo", "1.1.0", r.Artifacts[0], bytes.NewReader(program("1.1.0")))
	}
	refused(t, verify(next), ErrSignature)
	v.trustArtifactKeys(old, next)
	v.publish()
	for _, k := range []ArtifactKey{old, next} {
		if err := verify(k); err != nil {
			t.Errorf("during the rotation: %v", err)
		}
	}
	v.trustArtifactKeys(next)
	v.publish()
	refused(t, verify(old), ErrSignature)
	if err := verify(next); err != nil {
		t.Errorf("the twin: %v", err)
	}
}

// The thief of the online keys runs a mirror that hides the root which revokes them, for a host that has never
// seen that root, and signs timestamp and snapshot anew every day. The host sees no news, and none of the
// thief's making, and stops believing when what the thief cannot sign expires: the channel after 90 days.
func TestHiddenRootOnlyFreezes(t *testing.T) {
	tree, dir, mirror := t.TempDir(), t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		v := newVendorIn(t, tree)
		thief := newVendorIn(t, mirror)
		thief.steal(v, RoleSnapshot, RoleTimestamp)
		c := v.hostAt(dir, here)
		refresh(t, c, v.folder())
		v.replaceKeys(RoleSnapshot)
		v.replaceKeys(RoleTimestamp)
		v.next("1.1.0", 2)
		v.publish()

		begin := time.Now()
		for elapsed := 2 * day; elapsed < 90*day; elapsed += 2 * day {
			time.Sleep(time.Until(begin.Add(elapsed)))
			thief.renewOnline()
			if view := refresh(t, c, thief.folder()); view.RootVersion != 1 || view.Channel.Offers[0].Version != "1.0.0" {
				t.Fatalf("after %v the host has root %d, %+v", elapsed, view.RootVersion, view.Channel.Offers)
			}
		}
		time.Sleep(time.Until(begin.Add(90*day + time.Second)))
		thief.renewOnline()
		_, err := c.Refresh(t.Context(), thief.folder())
		refused(t, err, ErrExpired)
		// An honest mirror ends it, whatever version numbers the thief has got to.
		v.live()
		v.publish()
		if view := refresh(t, c, v.folder()); view.RootVersion != 3 || view.Channel.Offers[0].Version != "1.1.0" {
			t.Errorf("the host has root %d, %+v", view.RootVersion, view.Channel.Offers)
		}
	})
}

// steal copies what is published and the keys of some roles.
func (v *vendor) steal(from *vendor, roles ...string) {
	v.t.Helper()
	v.set = must(LoadSet(v.t.Context(), from.folder()))(v.t)
	v.keys = map[string][]Key{}
	for _, role := range roles {
		v.keys[role] = from.keys[role]
	}
}

// renewOnline signs snapshot and timestamp for another day or more, with whatever keys of theirs are there.
func (v *vendor) renewOnline() {
	v.t.Helper()
	for _, role := range []string{RoleSnapshot, RoleTimestamp} {
		if err := v.set.Bump(role, time.Now(), 0); err != nil {
			v.t.Fatal(err)
		}
		if err := v.set.Sign(role, v.keys[role][0]); err != nil {
			v.t.Fatal(err)
		}
	}
	v.write()
}

// A channel's key signs its own channel. What it signs for another one is refused, even with good snapshot and
// timestamp above it, and so is its reach into the other's folder.
func TestKeyOfAnotherChannel(t *testing.T) {
	v := newVendor(t)
	c := v.host()
	v.next("1.1.0", 2)
	v.forge("stable", v.keys["beta"])
	_, err := c.Refresh(t.Context(), v.folder())
	refused(t, err, ErrSignature)
	v.forge("stable", v.keys["stable"])
	if view := refresh(t, c, v.folder()); view.Channel.Offers[0].Version != "1.1.0" {
		t.Errorf("the twin offers %+v", view.Channel.Offers)
	}
	if err := v.set.Sign("stable", v.keys["beta"][0]); !errors.Is(err, ErrNotAKey) {
		t.Errorf("signing it: %v", err)
	}
}

// A channel may need two: its pipeline's key alone signs nothing that a host takes.
func TestChannelNeedsTwo(t *testing.T) {
	v := newVendor(t)
	c := v.host()
	v.keys["stable"] = append(v.keys["stable"], v.newKey())
	if err := v.set.SetKeys("stable", RoleKeys{publics(v.keys["stable"]), 2}); err != nil {
		t.Fatal(err)
	}
	v.next("1.1.0", 2)
	for i := range 2 {
		v.signTargets()
		v.forge("stable", v.keys["stable"][i:i+1])
		_, err := c.Refresh(t.Context(), v.folder())
		refused(t, err, ErrSignature)
		v.forge("stable", []Key{v.keys["stable"][i], v.keys["stable"][i]})
		_, err = c.Refresh(t.Context(), v.folder())
		refused(t, err, ErrSignature)
	}
	v.forge("stable", v.keys["stable"])
	if view := refresh(t, c, v.folder()); view.Channel.Offers[0].Version != "1.1.0" {
		t.Errorf("the twin offers %+v", view.Channel.Offers)
	}
}

func (v *vendor) signTargets() {
	v.t.Helper()
	for _, k := range v.keys[RoleTargets] {
		if err := v.set.Sign(RoleTargets, k); err != nil {
			v.t.Fatal(err)
		}
	}
}
