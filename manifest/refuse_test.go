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

// attack is something that must be refused, with its twin, which must be accepted. Both start where the host has
// accepted what newVendor published.
type attack struct {
	name string
	want error
	pair
}

// pair is one change of what is published, with the value that is attacked and with a legal one.
type pair struct{ evil, twin func(*vendor) }

// by is the only maker of pairs, so that an attack and its twin differ in one value alone.
func by[T any](change func(*vendor, T), evil, twin T) pair {
	return pair{func(v *vendor) { change(v, evil) }, func(v *vendor) { change(v, twin) }}
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
		refresh(t, c, src)
		v.seen = func() { refresh(t, c, src) }
		change(v)
		view, err := c.Refresh(t.Context(), src)
		if err == nil && len(view.Channel.Offers) > 0 {
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
	if strings.HasPrefix(a.name, "release ") {
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

// lived signs a role as if at another time, for an hour.
func lived(role string, evil, twin time.Duration) pair {
	return by(func(v *vendor, ago time.Duration) { v.bump(role, ago); v.publish() }, evil, twin)
}

// bump signs a role as if at another time, for one hour.
func (v *vendor) bump(role string, ago time.Duration) {
	v.t.Helper()
	if err := v.set.Bump(role, time.Now().Add(ago), time.Hour); err != nil {
		v.t.Fatal(err)
	}
}

// signedBy publishes 1.1.0 with a role signed by other keys than its own; the numbers and digests around it fit.
func signedBy(role, evil string) pair {
	return by(func(v *vendor, signer string) {
		v.keys["stranger"] = []Key{v.newKey()}
		v.next("1.1.0", 2)
		v.bump(role, 0)
		v.sign()
		v.forge(role, v.keys[signer])
	}, evil, role)
}

// rewritten publishes 1.1.0 and writes one of its files once more, with a text in it replaced.
func rewritten(name func(*vendor) string, signed, evil, twin string) pair {
	return by(func(v *vendor, text string) {
		v.next("1.1.0", 2)
		v.bump(RoleRoot, 0)
		v.publish()
		v.tamper(name(v), signed, text)
	}, evil, twin)
}

func named(name string) func(*vendor) string { return func(*vendor) string { return name } }

func documentOf(path string) func(*vendor) string {
	return func(v *vendor) string { return v.targetName("stable", path) }
}

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

// listed changes what a role signs and publishes it with all that is above it as it is.
func listed[T any](role string, change func(*Set, T), evil, twin T) pair {
	return by(func(v *vendor, x T) {
		v.bump(role, 0)
		change(v.set, x)
		v.signAsIs(role)
	}, evil, twin)
}

// delegates changes the delegations of targets and publishes.
func delegates[T any](change func(*metadata.TargetsType, T), evil, twin T) pair {
	return by(func(v *vendor, x T) {
		v.set.change(RoleTargets)
		change(&v.set.targets.Signed, x)
		v.set.settle()
		v.publish()
	}, evil, twin)
}

// scope is which targets the first of the delegated roles, beta, may sign.
type scope struct{ paths, prefixes []string }

func scoped(evil scope) pair {
	return delegates(func(t *metadata.TargetsType, s scope) {
		t.Delegations.Roles[0].Paths, t.Delegations.Roles[0].PathHashPrefixes = s.paths, s.prefixes
	}, evil, scope{paths: []string{"beta/*"}})
}

// place is where a role signs a document.
type place struct{ role, path string }

// placed publishes a document that SetTarget would not have let through.
func placed(evil, twin place) pair {
	return by(func(v *vendor, x place) { v.force(x.role, x.path, []byte("anything\n")); v.publish() }, evil, twin)
}

// channeled publishes another channel document, forced past the checks of SetTarget.
func channeled[T any](change func(*Channel, T), evil, twin T) pair {
	return by(func(v *vendor, x T) {
		c := v.channel("stable", Offer{Version: "1.0.0", Epoch: 1, Share: AllHosts})
		change(&c, x)
		v.force("stable", "stable/channel.json", c.Bytes())
		v.publish()
	}, evil, twin)
}

// released publishes 1.1.0 with a release document of one's own making.
func released[T any](change func(*Release, T), evil, twin T) pair {
	return by(func(v *vendor, x T) {
		r := v.makeRelease("1.1.0", 2)
		change(&r, x)
		v.force("stable", "stable/1.1.0.json", r.Bytes())
		v.offer(v.channel("stable", Offer{Version: "1.1.0", Epoch: 2, Share: AllHosts}))
		v.publish()
	}, evil, twin)
}

var attacks = []attack{
	{"timestamp by a stranger", ErrSignature, signedBy(RoleTimestamp, "stranger")},
	{"snapshot by a stranger", ErrSignature, signedBy(RoleSnapshot, "stranger")},
	{"targets by a stranger", ErrSignature, signedBy(RoleTargets, "stranger")},
	{"channel by a stranger", ErrSignature, signedBy("stable", "stranger")},
	{"channel by another channel's key", ErrSignature, signedBy("stable", "beta")},

	{"expired timestamp", ErrExpired, lived(RoleTimestamp, -2*time.Hour, 0)},
	{"expired snapshot", ErrExpired, lived(RoleSnapshot, -2*time.Hour, 0)},
	{"expired targets", ErrExpired, lived(RoleTargets, -2*time.Hour, 0)},
	{"expired channel", ErrExpired, lived("stable", -2*time.Hour, 0)},
	{"expired root", ErrExpired, lived(RoleRoot, -2*time.Hour, 0)},
	{"another channel's expiry is not ours", ErrExpired,
		by(func(v *vendor, role string) { v.bump(role, -2*time.Hour); v.publish() }, "stable", "beta")},

	{"tampered document", ErrMismatch, rewritten(documentOf("stable/channel.json"), "10000", "10001", "10000")},
	{"release that was tampered with", ErrMismatch, rewritten(documentOf("stable/1.1.0.json"), "notes", "Notes", "notes")},
	{"tampered channel metadata", ErrMismatch,
		rewritten(named("metadata/2.stable.json"), "stable/1.0.0.json", "stable/1.0.1.json", "stable/1.0.0.json")},
	// Space outside of strings is not signed: TUF signs the canonical form.
	{"tampered timestamp", ErrSignature, rewritten(named(timestampName), `"version": 2`, `"version": 3`, `"version":  2`)},
	{"not JSON", ErrDocument, rewritten(named(timestampName), "{", "<{", " {")},
	{"next root is not JSON", ErrDocument, rewritten(named("metadata/2.root.json"), "{", "<{", " {")},

	{"older timestamp", ErrRollback, by(replay, 0, 1)},
	{"timestamp key names an older snapshot", ErrRollback, listed(RoleTimestamp, func(s *Set, version int64) {
		s.timestamp.Signed.Meta["snapshot.json"].Version = version
	}, 0, 1)},
	{"snapshot listed as endless", ErrDocument, listed(RoleTimestamp, func(s *Set, more int64) {
		s.timestamp.Signed.Meta["snapshot.json"].Length += more
	}, maxTargetsBytes, 0)},
	{"targets listed as endless", ErrDocument, listed(RoleSnapshot, func(s *Set, more int64) {
		s.snapshot.Signed.Meta["targets.json"].Length += more
	}, maxTargetsBytes, 0)},
	{"snapshot key drops a role", ErrDocument, listed(RoleSnapshot, func(s *Set, name string) {
		delete(s.snapshot.Signed.Meta, name)
	}, "beta.json", "none.json")},
	{"snapshot key lowers a role", ErrRollback, listed(RoleSnapshot, func(s *Set, version int64) {
		s.snapshot.Signed.Meta["beta.json"].Version = version // not ours to fetch
	}, 0, 2)},
	// go-tuf panics here.
	{"timestamp without a snapshot", ErrDocument, listed(RoleTimestamp, func(s *Set, name string) {
		delete(s.timestamp.Signed.Meta, name)
	}, "snapshot.json", "none.json")},

	{"channel of another product", ErrWrongProduct, channeled(func(c *Channel, name string) { c.Product = name }, "other", "demo")},
	{"trust of another product", ErrWrongProduct, by(func(v *vendor, name string) {
		v.force(RoleTargets, "trust.json", Trust{Schema, name, []string{v.artifact.Public()}}.Bytes())
		v.publish()
	}, "other", "demo")},
	{"release of another product", ErrWrongProduct, released(func(r *Release, name string) { r.Product = name }, "other", "demo")},
	{"document of another channel", ErrWrongChannel, channeled(func(c *Channel, name string) { c.Name = name }, "beta", "stable")},
	{"release of another version", ErrWrongVersion, released(func(r *Release, version string) { r.Version = version }, "1.0.0", "1.1.0")},
	{"release of another epoch than offered", ErrWrongVersion, released(func(r *Release, epoch uint64) { r.Epoch = epoch }, 3, 2)},
	{"release for other platforms", ErrWrongPlatform, released(func(r *Release, arch string) { r.Artifacts[0].Arch = arch }, "arm64", "amd64")},
	{"document with an unknown key", ErrDocument, by(func(v *vendor, text string) {
		c := v.channel("stable", Offer{Version: "1.0.0", Epoch: 1, Share: AllHosts})
		v.force("stable", "stable/channel.json", bytes.Replace(c.Bytes(), []byte(`"schema"`), []byte(text), 1))
		v.publish()
	}, `"also": 1, "schema"`, `"schema"`)},
	{"channel signed in the future", ErrClock, channeled(func(c *Channel, ahead time.Duration) {
		c.SignedAt = c.SignedAt.Add(ahead)
	}, 80*365*24*time.Hour, 24*time.Hour)},
	{"downgrade below min_epoch", ErrDowngrade, channeled(func(c *Channel, floor uint64) { c.MinEpoch = floor }, 2, 1)},
	{"epochs pushed out of reach", ErrLeap, by(func(v *vendor, epoch uint64) {
		v.release("1.1.0", epoch)
		v.force("stable", "stable/channel.json", v.channel("stable", Offer{Version: "1.1.0", Epoch: epoch, Share: AllHosts}).Bytes())
		v.publish()
	}, 1+maxEpochStep+1, 1+maxEpochStep)},
	{"floor pushed out of reach", ErrLeap, channeled(func(c *Channel, floor uint64) { c.Offers, c.MinEpoch = nil, floor }, 1+maxEpochStep+1, 1+maxEpochStep)},
	{"downgrade of min_epoch", ErrFloor, by(func(v *vendor, floor uint64) {
		c := v.channel("stable", Offer{Version: "1.0.0", Epoch: 1, Share: AllHosts})
		c.MinEpoch = 1
		v.offer(c)
		v.publish()
		v.seen()
		c.MinEpoch = floor
		v.force("stable", "stable/channel.json", c.Bytes())
		v.publish()
	}, 0, 1)},

	{"path that climbs", ErrPath, placed(place{"stable", "stable/../x.json"}, place{"stable", "stable/x.json"})},
	{"path with capitals", ErrPath, placed(place{"stable", "stable/X.json"}, place{"stable", "stable/x.json"})},
	{"path with a backslash", ErrPath, placed(place{"stable", `stable\x.json`}, place{"stable", "stable/x.json"})},
	{"path of another channel", ErrPath, placed(place{"stable", "beta/x.json"}, place{"beta", "beta/x.json"})},
	{"path one folder down", ErrPath, placed(place{"stable", "stable/x/x.json"}, place{"stable", "stable/x-x.json"})},
	{"targets signs into a channel", ErrPath, placed(place{RoleTargets, "stable/x.json"}, place{RoleTargets, "x.json"})},
	{"two digests", ErrHash, by(hashed, []string{"sha256", "sha512"}, []string{"sha256"})},
	{"another digest", ErrHash, by(hashed, []string{"sha512"}, []string{"sha256"})},

	{"two delegators by name", ErrDelegation, delegates(func(t *metadata.TargetsType, name string) {
		t.Delegations.Roles = append(t.Delegations.Roles, delegation(name, RoleKeys{Threshold: 1}))
	}, "stable", "stable-2")},
	{"channel delegates", ErrDelegation, by(func(v *vendor, d *metadata.Delegations) {
		v.set.change("stable")
		v.set.channels["stable"].Signed.Delegations = d
		v.set.settle()
		v.publish()
	}, &metadata.Delegations{Keys: map[string]*metadata.Key{}}, nil)},
	{"channel with wider paths", ErrDelegation, scoped(scope{paths: []string{"*/*"}})},
	{"channel by digest prefix", ErrDelegation, scoped(scope{prefixes: []string{"00"}})},
	{"channel that does not end the search", ErrDelegation, delegates(func(t *metadata.TargetsType, ends bool) {
		t.Delegations.Roles[0].Terminating = ends
	}, false, true)},
	{"too many channels", ErrDelegation, delegates(addChannels, maxChannels-1, maxChannels-2)},
}

func addChannels(t *metadata.TargetsType, n int) {
	for i := range n {
		name := "more-" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		t.Delegations.Roles = append(t.Delegations.Roles, delegation(name, RoleKeys{Threshold: 1}))
	}
}

// hashed publishes a target with digests of these kinds.
func hashed(v *vendor, kinds []string) {
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

// replay lets the host see a newer timestamp and then serves the older or the newer of the two.
func replay(v *vendor, which int) {
	older := v.readFile(timestampName)
	v.bump(RoleTimestamp, 0)
	v.publish()
	v.seen()
	v.writeFile(timestampName, [][]byte{older, v.readFile(timestampName)}[which])
}
