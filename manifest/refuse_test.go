package manifest

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

func metadataTarget(data []byte) *metadata.TargetFiles {
	return &metadata.TargetFiles{Length: int64(len(data)), Hashes: hashes(data)}
}

// attack is something that must be refused, with its twin: the nearest thing that must be accepted.
// Both start where the host has accepted what newVendor published.
type attack struct {
	name  string
	want  error
	evil  func(*vendor)
	twin  func(*vendor)
	fresh bool // a host that has seen nothing yet
}

func TestRefusals(t *testing.T) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			for _, kind := range []string{"web", "folder"} {
				t.Run(kind, func(t *testing.T) { a.run(t, kind) })
			}
		})
	}
}

func (a attack) run(t *testing.T, kind string) {
	try := func(change func(*vendor)) (*Client, *View, error) {
		v := newVendor(t)
		src := v.folder()
		if kind == "web" {
			src = v.web()
		}
		c := must(Open(durabletest.New(), "trust", v.readFile("metadata/1.root.json"), here))(t)
		if !a.fresh {
			refresh(t, c, src)
		}
		v.seen = func() { refresh(t, c, src) }
		change(v)
		view, err := c.Refresh(t.Context(), src)
		if err == nil {
			_, err = c.Release(t.Context(), src, view.Channel.Offers[0].Version)
		}
		return c, view, err
	}
	if _, _, err := try(a.twin); err != nil {
		t.Fatalf("the twin is refused: %v", err)
	}
	c, _, err := try(a.evil)
	refused(t, err, a.want)
	if is, should := errors.Is(err, ErrOlder), a.name == "older timestamp"; is != should {
		t.Errorf("called older: %v, want %v", is, should)
	}
	if a.fresh || strings.HasPrefix(a.name, "release ") {
		return
	}
	// What the host had before is still in force; a release is refused after its channel was accepted.
	view, err := c.Cached()
	if err != nil {
		t.Fatalf("after the refusal: %v", err)
	}
	if view.Channel.Offers[0].Version != "1.0.0" {
		t.Errorf("after the refusal the host has %+v", view.Channel)
	}
}

// expire gives a role a lifetime that ended an hour ago.
func expire(role string) func(*vendor) {
	return func(v *vendor) { v.bump(role, -2*time.Hour); v.publish() }
}

func renew(role string) func(*vendor) {
	return func(v *vendor) { v.bump(role, 0); v.publish() }
}

// bump signs a role as if at another time, for one hour.
func (v *vendor) bump(role string, ago time.Duration) {
	v.t.Helper()
	if err := v.set.Bump(role, time.Now().Add(ago), time.Hour); err != nil {
		v.t.Fatal(err)
	}
}

// strange replaces the signatures of a role by a stranger's; the numbers and digests around it fit.
func strange(role string) func(*vendor) {
	return func(v *vendor) {
		v.next("1.1.0", 2)
		v.bump(role, 0)
		v.sign()
		*v.set.roles[role].signatures = nil
		if err := v.set.roles[role].add(v.newKey()); err != nil {
			v.t.Fatal(err)
		}
		v.set.settle()
		for _, above := range []string{RoleSnapshot, RoleTimestamp} {
			if above != role && len(*v.set.roles[above].signatures) == 0 {
				if err := v.set.Sign(above, v.keys[above][0]); err != nil {
					v.t.Fatal(err)
				}
			}
		}
		v.write()
	}
}

func honest(v *vendor) { v.next("1.1.0", 2); v.publish() }

// tamper changes one byte of a published file.
func (v *vendor) tamper(name, old, new string) {
	data := v.readFile(name)
	if !bytes.Contains(data, []byte(old)) {
		v.t.Fatalf("%s has no %q", name, old)
	}
	v.writeFile(name, bytes.Replace(data, []byte(old), []byte(new), 1))
}

func (v *vendor) targetName(role, path string) string {
	return targetName(path, digestOf(v.set.documents[path]))
}

// delegate changes the delegations of targets and publishes.
func delegate(change func(*metadata.TargetsType)) func(*vendor) {
	return func(v *vendor) {
		v.set.change(RoleTargets)
		change(&v.set.targets.Signed)
		v.set.settle()
		v.publish()
	}
}

// forced publishes a document that SetTarget would not have let through.
func forced(role, path string, data func(*vendor) []byte) func(*vendor) {
	return func(v *vendor) { v.force(role, path, data(v)); v.publish() }
}

func channelOf(change func(*Channel)) func(*vendor) []byte {
	return func(v *vendor) []byte {
		c := v.channel("stable", Offer{Version: "1.0.0", Epoch: 1, Share: AllHosts})
		change(&c)
		return c.Bytes()
	}
}

// released publishes 1.1.0 with a release document of one's own making.
func released(change func(*vendor, *Release)) func(*vendor) {
	return func(v *vendor) {
		r := v.makeRelease("1.1.0", 2)
		change(v, &r)
		v.force("stable", "stable/1.1.0.json", r.Bytes())
		v.offer(v.channel("stable", Offer{Version: "1.1.0", Epoch: 2, Share: AllHosts}))
		v.publish()
	}
}

func anything(*vendor) []byte { return []byte("anything\n") }

var attacks = []attack{
	{name: "timestamp by a stranger", want: ErrSignature, evil: strange(RoleTimestamp), twin: honest},
	{name: "snapshot by a stranger", want: ErrSignature, evil: strange(RoleSnapshot), twin: honest},
	{name: "targets by a stranger", want: ErrSignature, evil: strange(RoleTargets), twin: honest},
	{name: "channel by a stranger", want: ErrSignature, evil: strange("stable"), twin: honest},
	{name: "channel by another channel's key", want: ErrSignature, twin: honest, evil: func(v *vendor) {
		v.next("1.1.0", 2)
		v.set.roles["stable"].change()
		if err := v.set.roles["stable"].add(v.keys["beta"][0]); err != nil {
			v.t.Fatal(err)
		}
		v.set.settle()
		for _, role := range []string{RoleSnapshot, RoleTimestamp} {
			if err := v.set.Sign(role, v.keys[role][0]); err != nil {
				v.t.Fatal(err)
			}
		}
		v.write()
	}},

	{name: "expired timestamp", want: ErrExpired, evil: expire(RoleTimestamp), twin: renew(RoleTimestamp)},
	{name: "expired snapshot", want: ErrExpired, evil: expire(RoleSnapshot), twin: renew(RoleSnapshot)},
	{name: "expired targets", want: ErrExpired, evil: expire(RoleTargets), twin: renew(RoleTargets)},
	{name: "expired channel", want: ErrExpired, evil: expire("stable"), twin: renew("stable")},
	{name: "expired root", want: ErrExpired, evil: expire(RoleRoot), twin: renew(RoleRoot)},
	{name: "another channel's expiry is not ours", want: ErrExpired, evil: expire("stable"), twin: expire("beta")},

	{name: "tampered document", want: ErrMismatch, fresh: true,
		evil: func(v *vendor) { v.tamper(v.targetName("stable", "stable/channel.json"), "10000", "10001") },
		twin: func(v *vendor) { v.tamper(v.targetName("beta", "beta/channel.json"), "beta", "BETA") }},
	{name: "tampered release", want: ErrMismatch, fresh: true,
		evil: func(v *vendor) { v.tamper(v.targetName("stable", "stable/1.0.0.json"), "notes", "Notes") },
		twin: func(*vendor) {}},
	{name: "tampered channel metadata", want: ErrMismatch, fresh: true,
		evil: func(v *vendor) { v.tamper("metadata/1.stable.json", "stable/1.0.0.json", "stable/1.0.1.json") },
		twin: func(v *vendor) { v.tamper("metadata/1.beta.json", "beta/channel.json", "beta/channeL.json") }},
	{name: "tampered timestamp", want: ErrSignature, fresh: true,
		evil: func(v *vendor) { v.tamper(timestampName, `"version": 1`, `"version": 2`) },
		// Space outside of strings is not signed: TUF signs the canonical form.
		twin: func(v *vendor) { v.tamper(timestampName, `"version": 1`, `"version":  1`) }},
	{name: "not JSON", want: ErrDocument, fresh: true, twin: func(*vendor) {},
		evil: func(v *vendor) { v.writeFile(timestampName, []byte("<html>")) }},
	{name: "next root is not JSON", want: ErrDocument, twin: renew(RoleRoot),
		evil: func(v *vendor) { v.writeFile("metadata/2.root.json", []byte("<html>")) }},

	{name: "older timestamp", want: ErrRollback,
		evil: replay(func(older, _ []byte) []byte { return older }),
		twin: replay(func(_, newer []byte) []byte { return newer })},
	{name: "timestamp key names an older snapshot", want: ErrRollback, twin: honest, evil: func(v *vendor) {
		v.bump(RoleTimestamp, 0)
		v.set.timestamp.Signed.Meta["snapshot.json"].Version = 0
		v.signAsIs(RoleTimestamp)
	}},
	{name: "snapshot key drops a role", want: ErrDocument, evil: func(v *vendor) {
		v.bump(RoleSnapshot, 0)
		delete(v.set.snapshot.Signed.Meta, "beta.json")
		v.signAsIs(RoleSnapshot)
	}, twin: func(v *vendor) { v.bump(RoleSnapshot, 0); v.signAsIs(RoleSnapshot) }},
	{name: "snapshot key lowers a role", want: ErrRollback, evil: func(v *vendor) {
		v.bump(RoleSnapshot, 0)
		v.set.snapshot.Signed.Meta["beta.json"].Version = 0
		v.signAsIs(RoleSnapshot)
	}, twin: func(v *vendor) {
		v.bump(RoleSnapshot, 0)
		v.set.snapshot.Signed.Meta["beta.json"].Version = 2 // not ours to fetch
		v.signAsIs(RoleSnapshot)
	}},
	{name: "timestamp without a snapshot", want: ErrDocument, evil: func(v *vendor) {
		v.bump(RoleTimestamp, 0)
		delete(v.set.timestamp.Signed.Meta, "snapshot.json") // go-tuf panics here
		v.signAsIs(RoleTimestamp)
	}, twin: func(v *vendor) { v.bump(RoleTimestamp, 0); v.signAsIs(RoleTimestamp) }},

	{name: "channel of another product", want: ErrWrongProduct,
		evil: forced("stable", "stable/channel.json", channelOf(func(c *Channel) { c.Product = "other" })),
		twin: forced("stable", "stable/channel.json", channelOf(func(c *Channel) { c.MinEpoch = 1 }))},
	{name: "trust of another product", want: ErrWrongProduct,
		evil: forced(RoleTargets, "trust.json", func(v *vendor) []byte {
			return Trust{Schema, "other", []string{v.artifact.Public()}}.Bytes()
		}),
		twin: forced(RoleTargets, "trust.json", func(v *vendor) []byte {
			return Trust{Schema, "demo", []string{must(NewArtifactKey())(v.t).Public()}}.Bytes()
		})},
	{name: "release of another product", want: ErrWrongProduct, twin: released(func(*vendor, *Release) {}),
		evil: released(func(_ *vendor, r *Release) { r.Product = "other" })},
	{name: "document of another channel", want: ErrWrongChannel,
		evil: forced("stable", "stable/channel.json", channelOf(func(c *Channel) { c.Name = "beta" })),
		twin: forced("stable", "stable/channel.json", channelOf(func(c *Channel) {}))},
	{name: "release of another version", want: ErrWrongVersion, twin: released(func(*vendor, *Release) {}),
		evil: released(func(v *vendor, r *Release) { r.Version = "1.0.0" })},
	{name: "release of another epoch than offered", want: ErrWrongVersion, twin: released(func(*vendor, *Release) {}),
		evil: released(func(v *vendor, r *Release) { r.Epoch = 3 })},
	{name: "release for other platforms", want: ErrWrongPlatform, twin: released(func(*vendor, *Release) {}),
		evil: released(func(v *vendor, r *Release) { r.Artifacts[0].Arch = "arm64" })},
	{name: "document with an unknown key", want: ErrDocument, twin: honest,
		evil: forced("stable", "stable/channel.json", func(v *vendor) []byte {
			return bytes.Replace(v.channel("stable").Bytes(), []byte(`"schema"`), []byte(`"also": 1, "schema"`), 1)
		})},
	{name: "channel signed in the future", want: ErrClock,
		evil: forced("stable", "stable/channel.json", channelOf(func(c *Channel) { c.SignedAt = c.SignedAt.Add(80 * 365 * 24 * time.Hour) })),
		twin: forced("stable", "stable/channel.json", channelOf(func(c *Channel) { c.SignedAt = c.SignedAt.Add(24 * time.Hour) }))},

	{name: "path that climbs", want: ErrPath, evil: forced("stable", "stable/../x.json", anything), twin: forced("stable", "stable/x.json", anything)},
	{name: "path with capitals", want: ErrPath, evil: forced("stable", "stable/X.json", anything), twin: forced("stable", "stable/x.json", anything)},
	{name: "path with a backslash", want: ErrPath, evil: forced("stable", `stable\x.json`, anything), twin: forced("stable", "stable/x.json", anything)},
	{name: "path of another channel", want: ErrPath, evil: forced("stable", "beta/x.json", anything), twin: forced("beta", "beta/x.json", anything)},
	{name: "path one folder down", want: ErrPath, evil: forced("stable", "stable/x/x.json", anything), twin: forced("stable", "stable/x-x.json", anything)},
	{name: "targets signs into a channel", want: ErrPath, evil: forced(RoleTargets, "stable/x.json", anything), twin: forced(RoleTargets, "x.json", anything)},
	{name: "two digests", want: ErrHash,
		evil: forcedHashes("sha256", "sha512"), twin: forcedHashes("sha256")},
	{name: "another digest", want: ErrHash, evil: forcedHashes("sha512"), twin: forcedHashes("sha256")},

	{name: "two delegators by name", want: ErrDelegation, twin: honest, evil: delegate(func(t *metadata.TargetsType) {
		t.Delegations.Roles = append(t.Delegations.Roles, t.Delegations.Roles[0])
	})},
	{name: "channel delegates", want: ErrDelegation, twin: honest, evil: func(v *vendor) {
		v.set.change("stable")
		v.set.channels["stable"].Signed.Delegations = &metadata.Delegations{Keys: map[string]*metadata.Key{}}
		v.set.settle()
		v.publish()
	}},
	{name: "channel with wider paths", want: ErrDelegation, twin: delegate(func(*metadata.TargetsType) {}),
		evil: delegate(func(t *metadata.TargetsType) { t.Delegations.Roles[0].Paths = []string{"*/*"} })},
	{name: "channel by digest prefix", want: ErrDelegation, twin: delegate(func(*metadata.TargetsType) {}),
		evil: delegate(func(t *metadata.TargetsType) {
			t.Delegations.Roles[0].Paths, t.Delegations.Roles[0].PathHashPrefixes = nil, []string{"00"}
		})},
	{name: "channel that does not end the search", want: ErrDelegation, twin: delegate(func(*metadata.TargetsType) {}),
		evil: delegate(func(t *metadata.TargetsType) { t.Delegations.Roles[0].Terminating = false })},
	{name: "too many channels", want: ErrDelegation,
		evil: delegate(func(t *metadata.TargetsType) { addChannels(t, maxChannels-1) }),
		twin: delegate(func(t *metadata.TargetsType) { addChannels(t, maxChannels-2) })},
}

func addChannels(t *metadata.TargetsType, n int) {
	for i := range n {
		name := "more-" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		t.Delegations.Roles = append(t.Delegations.Roles, delegation(name, RoleKeys{Threshold: 1}))
	}
}

func forcedHashes(kinds ...string) func(*vendor) {
	return func(v *vendor) {
		data := []byte("anything\n")
		v.force("stable", "stable/x.json", data)
		long := sha512.Sum512(data)
		all := metadata.Hashes{"sha256": hexDigest(digestOf(data)), "sha512": long[:]}
		f := v.set.targetsOf("stable")["stable/x.json"]
		f.Hashes = metadata.Hashes{}
		for _, k := range kinds {
			f.Hashes[k] = all[k]
		}
		v.set.settle()
		v.publish()
	}
}

// signAsIs signs a role and what is above it without settling what they list, and publishes.
func (v *vendor) signAsIs(role string) {
	v.t.Helper()
	if err := v.set.roles[role].add(v.keys[role][0]); err != nil {
		v.t.Fatal(err)
	}
	if role == RoleSnapshot {
		v.set.timestamp.Signed.Meta["snapshot.json"] = metaFile(v.set.roles[RoleSnapshot])
		v.signAsIs(RoleTimestamp)
		return
	}
	v.write()
}

// replay lets the host see a newer timestamp and then serves what change makes of the two.
func replay(pick func(older, newer []byte) []byte) func(*vendor) {
	return func(v *vendor) {
		older := v.readFile(timestampName)
		v.bump(RoleTimestamp, 0)
		v.publish()
		v.seen()
		v.writeFile(timestampName, pick(older, v.readFile(timestampName)))
	}
}
