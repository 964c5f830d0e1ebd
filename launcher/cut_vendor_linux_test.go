package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/updater/journal"
)

const cutProduct = "acme-agent"

// edition is a release: its number, the name of its file, which says how it behaves, and whether it is offered.
type edition struct {
	number, file string
	offered      bool
}

// publish makes a signed repository in a folder, with an epoch more for each edition. It returns the root to trust, and
// the versions as a host of the channel stable knows them.
func publish(t *testing.T, dir string, editions ...edition) (root []byte, list []journal.Version) {
	t.Helper()
	plan, keys := manifest.Plan{Product: cutProduct, Roles: map[string]manifest.RoleKeys{}}, map[string]manifest.Key{}
	for _, role := range []string{manifest.RoleRoot, manifest.RoleTargets, manifest.RoleSnapshot, manifest.RoleTimestamp, "stable"} {
		keys[role] = certain(manifest.NewKey())(t)
		plan.Roles[role] = manifest.RoleKeys{Keys: []manifest.PublicKey{keys[role].Public()}, Threshold: 1}
	}
	set := certain(manifest.NewSet(plan, time.Now()))(t)
	signer := certain(manifest.NewArtifactKey())(t)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, data []byte) {
		t.Helper()
		path := filepath.Join(dir, filepath.FromSlash(name))
		ok(os.MkdirAll(filepath.Dir(path), 0o755))
		ok(os.WriteFile(path, data, 0o644))
	}
	channel := manifest.Channel{Schema: manifest.Schema, Product: cutProduct, Name: "stable", SignedAt: time.Now().UTC().Truncate(time.Second)}
	for i, e := range editions {
		data := bytes.Repeat([]byte(e.number+" "+e.file+"\n"), 50) // more than a sector
		a := manifest.Artifact{OS: runtime.GOOS, Arch: runtime.GOARCH, Name: e.file, SizeBytes: int64(len(data)), SHA256: digestHex(data)}
		a.Minisig = certain(manifest.SignArtifact(signer, cutProduct, e.number, a, bytes.NewReader(data)))(t)
		epoch := uint64(i + 1)
		list = append(list, journal.Version{Number: e.number, Digest: a.SHA256, Epoch: epoch, File: a.Name, SizeBytes: a.SizeBytes, Minisig: a.Minisig})
		write(manifest.HashPath(a.SHA256), data)
		if !e.offered {
			continue
		}
		r := manifest.Release{Schema: manifest.Schema, Product: cutProduct, Version: e.number, Epoch: epoch,
			Protocol: manifest.Protocol{Min: wire.Protocol, Max: wire.Protocol}, Artifacts: []manifest.Artifact{a}}
		ok(set.SetTarget("stable", "stable/"+e.number+".json", r.Bytes()))
		channel.Offers = append([]manifest.Offer{{Version: e.number, Epoch: epoch, Share: manifest.AllHosts}}, channel.Offers...)
	}
	ok(set.SetTarget(manifest.RoleTargets, "trust.json", manifest.Trust{Schema: manifest.Schema, Product: cutProduct, Minisign: []string{signer.Public()}}.Bytes()))
	ok(set.SetTarget("stable", "stable/channel.json", channel.Bytes()))
	for _, role := range set.Roles() {
		ok(set.Sign(role, keys[role]))
	}
	for _, f := range set.Files() {
		write(f.Name, f.Data)
	}
	return set.Root(), list
}

// certain is for what cannot fail in a test.
func certain[T any](x T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
}
