package manifest

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

// A published tree that is loaded and written again is the same tree, with nothing left to sign.
func TestLoadSet(t *testing.T) {
	v := newVendor(t)
	v.rotate()
	v.next("1.1.0", 2)
	v.publish()
	for name, src := range map[string]Source{"web": v.web(), "folder": v.folder()} {
		t.Run(name, func(t *testing.T) {
			s := must(LoadSet(t.Context(), src))(t)
			if s.Product() != "demo" || len(s.Missing()) > 0 || strings.Join(s.Roles(), " ") != "root targets beta stable snapshot timestamp" {
				t.Errorf("product %s, roles %v, missing %v", s.Product(), s.Roles(), s.Missing())
			}
			files := s.Files()
			for _, f := range files {
				if !bytes.Equal(f.Data, v.readFile(f.Name)) {
					t.Errorf("%s has changed", f.Name)
				}
				if f.Immutable == (f.Name == timestampName) {
					t.Errorf("%s: immutable %v", f.Name, f.Immutable)
				}
			}
			if last := files[len(files)-1].Name; last != timestampName {
				t.Errorf("the last file is %s", last)
			}
			if want := []string{"stable/1.0.0.json", "stable/1.1.0.json", "stable/channel.json"}; strings.Join(s.Targets("stable"), " ") != strings.Join(want, " ") {
				t.Errorf("targets %v", s.Targets("stable"))
			}
		})
	}
}

// Signatures may come one at a time, from machines that have only a copy of the tree.
func TestWorkingCopyTravels(t *testing.T) {
	v := newVendor(t)
	v.set = must(LoadSet(t.Context(), v.folder()))(t)
	v.bump(RoleRoot, 0)
	travel := func() {
		v.t.Helper()
		for _, f := range v.set.Files() {
			v.writeFile(f.Name, f.Data)
		}
		v.set = must(LoadSet(t.Context(), v.folder()))(t)
	}
	for i, k := range v.keys[RoleRoot] {
		if n, want := v.set.Missing()[RoleRoot], max(2-i, 0); n != want {
			t.Errorf("%d signatures missing, want %d", n, want)
		}
		v.signRoot(k)
		v.signRoot(k) // twice is once
		travel()
	}
	if v.set.Version(RoleRoot) != 2 {
		t.Errorf("root %d", v.set.Version(RoleRoot))
	}
	if view := refresh(t, v.host(), v.folder()); view.RootVersion != 2 {
		t.Errorf("root %d", view.RootVersion)
	}
	// Two of the three signed before the tree was complete; what may be published never changes.
	if n := len(*v.set.roles[RoleRoot].signatures); n != 2 {
		t.Errorf("%d signatures", n)
	}
}

// LoadSet does not build on a tree in which somebody else has written.
func TestLoadSetRefuses(t *testing.T) {
	for _, c := range []struct {
		name, file, old, new string
		want                 error
	}{
		{"signature", "metadata/1.stable.json", `"sig": "`, `"sig": "00`, ErrSignature},
		{"content", "metadata/1.stable.json", "1.0.0", "1.0.1", ErrSignature},
		{"timestamp", timestampName, `"expires": "20`, `"expires": "21`, ErrSignature},
		{"root", "metadata/1.root.json", `"threshold": 2`, `"threshold": 1`, ErrSignature},
		{"version", "metadata/1.root.json", `"version": 1`, `"version": 2`, ErrRollback},
		{"document", "", "10000", "10001", ErrMismatch},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := newVendor(t)
			if c.file == "" {
				c.file = v.targetName("stable", "stable/channel.json")
			}
			must(LoadSet(t.Context(), v.folder()))(t)
			v.tamper(c.file, c.old, c.new)
			_, err := LoadSet(t.Context(), v.folder())
			refused(t, err, c.want)
		})
	}
}

func TestSetTargetRefuses(t *testing.T) {
	v := newVendor(t)
	stable, release := v.channel("stable"), v.makeRelease("1.1.0", 2)
	stranger := release
	stranger.Product = "other"
	for _, c := range []struct {
		role, path string
		data       []byte
		want       error
	}{
		{"stable", "beta/channel.json", stable.Bytes(), ErrPath},
		{"beta", "beta/channel.json", stable.Bytes(), ErrWrongChannel},
		{"stable", "stable/1.1.1.json", release.Bytes(), ErrWrongVersion},
		{"stable", "stable/1.1.0.json", stranger.Bytes(), ErrWrongProduct},
		{"stable", "stable/readme.json", release.Bytes(), ErrPath},
		{"stable", "stable/../x.json", release.Bytes(), ErrPath},
		{"stable", "stable/1.1.0.json", []byte("{}"), ErrDocument},
		{RoleTargets, "stable/1.1.0.json", release.Bytes(), ErrPath},
	} {
		refused(t, v.set.SetTarget(c.role, c.path, c.data), c.want)
	}
	if err := v.set.SetTarget("nightly", "nightly/1.1.0.json", release.Bytes()); !errors.Is(err, ErrNoRole) {
		t.Errorf("role that is not there: %v", err)
	}
	if len(v.set.Missing()) > 0 {
		t.Errorf("what was refused left a mark: %v", v.set.Missing())
	}
	v.put("stable", "stable/1.1.0.json", release.Bytes())
	v.put("stable", "stable/1.1.0.json", release.Bytes())
	release.Notes = "other notes"
	if err := v.set.SetTarget("stable", "stable/1.1.0.json", release.Bytes()); !errors.Is(err, ErrPublished) {
		t.Errorf("same version, other bytes: %v", err)
	}
	v.put("beta", "beta/1.1.0.json", v.makeRelease("1.1.0", 2).Bytes())
}

// Setting what is there changes nothing, so publishing twice is publishing once.
func TestSetTargetSame(t *testing.T) {
	v := newVendor(t)
	data, ok := v.set.Target("stable", "stable/channel.json")
	if !ok {
		t.Fatal("no document")
	}
	v.put("stable", "stable/channel.json", data)
	if len(v.set.Missing()) > 0 || v.set.Version("stable") != 1 {
		t.Errorf("version %d, missing %v", v.set.Version("stable"), v.set.Missing())
	}
}

func TestRemoveTarget(t *testing.T) {
	v := newVendor(t)
	if err := v.set.RemoveTarget("stable", "stable/1.0.0.json"); err != nil {
		t.Fatal(err)
	}
	if _, ok := v.set.Target("stable", "stable/1.0.0.json"); ok {
		t.Error("still there")
	}
	v.offer(v.channel("stable"))
	v.publish()
	c := v.host()
	if view := refresh(t, c, v.folder()); len(view.Versions()) != 0 {
		t.Errorf("versions %v", view.Versions())
	}
	if _, err := c.Release(t.Context(), v.folder(), "1.0.0"); !errors.Is(err, ErrNoRelease) {
		t.Error(err)
	}
}

func TestNewChannel(t *testing.T) {
	v := newVendor(t)
	v.keys["nightly"] = []Key{v.newKey(), v.newKey()}
	if err := v.set.SetKeys("nightly", RoleKeys{publics(v.keys["nightly"]), 2}); err != nil {
		t.Fatal(err)
	}
	v.bump("nightly", 0)
	v.put("nightly", "nightly/channel.json", v.channel("nightly").Bytes())
	v.publish()
	rk, ok := v.set.Keys("nightly")
	if !ok || rk.Threshold != 2 || len(rk.Keys) != 2 || rk.Keys[0] != v.keys["nightly"][0].Public() {
		t.Errorf("keys %+v", rk)
	}
	c := v.hostAt(t.TempDir(), Host{Product: "demo", Channel: "nightly"})
	refresh(t, c, v.folder())
}

func TestPlanRefuses(t *testing.T) {
	v := newVendor(t)
	k := v.newKey()
	for name, rk := range map[string]RoleKeys{
		"none":      {nil, 1},
		"zero":      {publics([]Key{k}), 0},
		"too many":  {publics([]Key{k}), 2},
		"the same":  {publics([]Key{k, k}), 2},
		"no pretty": {publics([]Key{k}), -1},
	} {
		if err := v.set.SetKeys(RoleTargets, rk); !errors.Is(err, ErrPlan) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewSet(Plan{Product: "demo"}, time.Now()); !errors.Is(err, ErrPlan) {
		t.Errorf("no roles: %v", err)
	}
	if err := v.set.Sign("stable", k); !errors.Is(err, ErrNotAKey) {
		t.Errorf("stranger: %v", err)
	}
	if err := v.set.Sign("nightly", k); !errors.Is(err, ErrNoRole) {
		t.Errorf("no role: %v", err)
	}
	if err := v.set.Bump("nightly", time.Now(), 0); !errors.Is(err, ErrNoRole) {
		t.Errorf("no role: %v", err)
	}
}

// Other TUF clients cannot read an expiry with a fraction of a second, and go-tuf prints what it is given.
func TestExpiresInWholeSeconds(t *testing.T) {
	v := newVendor(t)
	for _, role := range v.set.Roles() {
		if err := v.set.Bump(role, time.Unix(2000000000, 123456789), time.Hour+time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if e := v.set.Expires(role); e.Nanosecond() != 0 || e.Location() != time.UTC {
			t.Errorf("%s expires %v", role, e)
		}
		if !bytes.Contains(v.set.roles[role].bytes(), []byte(`"expires": "2033-05-18T04:33:20Z"`)) {
			t.Errorf("%s: %s", role, v.set.roles[role].bytes())
		}
	}
}
