package manifest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// signRoot signs the root by some of its keys only.
func (v *vendor) signRoot(keys ...Key) {
	v.t.Helper()
	for _, k := range keys {
		if err := v.set.Sign(RoleRoot, k); err != nil {
			v.t.Fatal(err)
		}
	}
}

func TestRootThreshold(t *testing.T) {
	v := newVendor(t)
	c := v.host()
	v.bump(RoleRoot, 0)
	v.signRoot(v.keys[RoleRoot][0])
	if n := v.set.Missing()[RoleRoot]; n != 1 {
		t.Errorf("%d signatures missing", n)
	}
	v.write()
	_, err := c.Refresh(t.Context(), v.folder())
	refused(t, err, ErrSignature)

	v.set.roles[RoleRoot].published = 0 // it was never really published: sign on
	v.signRoot(v.keys[RoleRoot][2])
	v.write()
	if view := refresh(t, c, v.folder()); view.RootVersion != 2 {
		t.Errorf("root %d", view.RootVersion)
	}
}

// rotate replaces the timestamp's key in a new root and publishes.
func (v *vendor) rotate() (old Key) {
	v.t.Helper()
	old = v.keys[RoleTimestamp][0]
	v.keys[RoleTimestamp] = []Key{v.newKey()}
	if err := v.set.SetKeys(RoleTimestamp, RoleKeys{publics(v.keys[RoleTimestamp]), 1}); err != nil {
		v.t.Fatal(err)
	}
	v.publish()
	return old
}

// replaceRoot replaces all root keys; both generations sign.
func (v *vendor) replaceRoot() {
	v.t.Helper()
	old := v.keys[RoleRoot]
	v.keys[RoleRoot] = []Key{v.newKey(), v.newKey(), v.newKey()}
	if err := v.set.SetKeys(RoleRoot, RoleKeys{publics(v.keys[RoleRoot]), 2}); err != nil {
		v.t.Fatal(err)
	}
	v.signRoot(v.keys[RoleRoot]...)
	if n := v.set.Missing()[RoleRoot]; n != 2 {
		v.t.Errorf("%d signatures of the old root missing", n)
	}
	v.signRoot(old[0], old[1])
	v.publish()
}

// A host that was born with root 1 walks to root 4, whoever signs by then.
func TestRootWalk(t *testing.T) {
	v := newVendor(t)
	v.replaceRoot()
	v.rotate()
	v.replaceRoot()
	c := v.host()
	if view := refresh(t, c, v.web()); view.RootVersion != 4 {
		t.Errorf("root %d", view.RootVersion)
	}
	if view := must(c.Cached())(t); view.RootVersion != 4 {
		t.Errorf("cached root %d", view.RootVersion)
	}
}

// A new root that the old keys did not sign is refused, however well it signs itself.
func TestRootBySelf(t *testing.T) {
	v := newVendor(t)
	c := v.host()
	old := v.keys[RoleRoot]
	v.keys[RoleRoot] = []Key{v.newKey(), v.newKey(), v.newKey()}
	if err := v.set.SetKeys(RoleRoot, RoleKeys{publics(v.keys[RoleRoot]), 2}); err != nil {
		t.Fatal(err)
	}
	v.signRoot(v.keys[RoleRoot]...)
	v.write()
	_, err := c.Refresh(t.Context(), v.folder())
	refused(t, err, ErrSignature)

	v.set.roles[RoleRoot].published = 0 // it was never really published: sign on
	v.signRoot(old[0], old[1])
	v.write()
	if view := refresh(t, c, v.folder()); view.RootVersion != 2 {
		t.Errorf("the twin: root %d", view.RootVersion)
	}
}

// The thief of a revoked key runs a mirror that hides the root that revoked it. A host that has seen
// this root goes on refusing, after a restart with the root it was born with as well; one that has not
// seen it has no way to know.
func TestHiddenRoot(t *testing.T) {
	v, dir := newVendor(t), t.TempDir()
	refresh(t, v.hostAt(dir, here), v.folder())
	stolen := v.rotate()
	refresh(t, v.hostAt(dir, here), v.folder())

	v.hide("metadata/2.root.json")
	v.bump(RoleTimestamp, 0)
	v.bump(RoleTimestamp, 0)
	if err := v.set.roles[RoleTimestamp].add(stolen); err != nil {
		t.Fatal(err)
	}
	v.writeFile(timestampName, v.set.roles[RoleTimestamp].bytes())

	_, err := v.hostAt(dir, here).Refresh(t.Context(), v.folder())
	refused(t, err, ErrSignature)
	if view := must(v.hostAt(dir, here).Cached())(t); view.RootVersion != 2 {
		t.Errorf("root %d is in force", view.RootVersion)
	}
	refresh(t, v.host(), v.folder())
}

// A launcher that comes with a newer root leaves it in the folder for an older launcher.
func TestInstalledRootIsKept(t *testing.T) {
	v, dir := newVendor(t), t.TempDir()
	v.rotate()
	c := must(Open(durable.OS(), dir, v.readFile("metadata/2.root.json"), here))(t)
	refresh(t, c, v.folder())
	v.hide("metadata/2.root.json")
	if view := refresh(t, v.hostAt(dir, here), v.folder()); view.RootVersion != 2 {
		t.Errorf("root %d is in force", view.RootVersion)
	}
}

func TestDamagedRoot(t *testing.T) {
	v, dir := newVendor(t), t.TempDir()
	v.rotate()
	refresh(t, v.hostAt(dir, here), v.folder())
	kept := filepath.Join(dir, "metadata", "2.root.json")
	damage := func() {
		if err := os.WriteFile(kept, []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	damage()
	refresh(t, v.hostAt(dir, here), v.folder()) // the source has it
	if view := must(v.hostAt(dir, here).Cached())(t); view.RootVersion != 2 {
		t.Errorf("root %d is in force", view.RootVersion)
	}

	damage()
	_, err := v.hostAt(dir, here).Cached()
	refused(t, err, ErrDamaged)
	_, err = v.hostAt(dir, here).Refresh(t.Context(), nowhere{})
	if !errors.Is(err, errNowhere) || errors.Is(err, ErrVerify) {
		t.Errorf("without the network: %v", err)
	}
	v.hide("metadata/2.root.json")
	_, err = v.hostAt(dir, here).Refresh(t.Context(), v.folder())
	refused(t, err, ErrDamaged)
}

// One refresh follows 64 new roots; the next goes on from there.
func TestTooManyRoots(t *testing.T) {
	v := newVendor(t)
	for range maxNewRoots {
		v.bump(RoleRoot, 0)
		v.sign()
		v.set.roles[RoleRoot].published = v.set.Version(RoleRoot)
	}
	v.write()
	if view := refresh(t, v.host(), v.folder()); view.RootVersion != 1+maxNewRoots {
		t.Errorf("root %d", view.RootVersion)
	}
	v.bump(RoleRoot, 0)
	v.publish()
	c := v.host()
	_, err := c.Refresh(t.Context(), v.folder())
	refused(t, err, ErrRoots)
	if view := refresh(t, c, v.folder()); view.RootVersion != 2+maxNewRoots {
		t.Errorf("root %d", view.RootVersion)
	}
}
