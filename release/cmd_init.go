package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
)

// The offline roles have three keys, of which two must sign, so that one may be lost or stolen.
const (
	offlineKeys      = 3
	offlineThreshold = 2
)

const recoveryText = `The keys of %[1]s

root-1, root-2, root-3           2 of 3 say who may sign what. Needed once or twice a year.
targets-1, targets-2, targets-3  2 of 3 name the channels and the key that signs programs. As rarely.
one key per channel              signs which versions the channel offers.
snapshot, timestamp              say what is current. They belong where 'release publish' runs.
artifact                         signs every program file (minisign). Keep it away from the channel keys.

Now:
 1. Move root-1 and targets-1 to one place, root-2 and targets-2 to a second, root-3 and targets-3 to a
    third (safes, encrypted sticks). Remove them from keys/. No place may hold two of a kind.
 2. Give every launcher the file repo/metadata/1.root.json (its configuration: repository.root). It is
    public, and it is what a launcher trusts for ever.
 3. Run 'release publish' at least once a day: it renews what is about to expire.

When a root or targets key is lost, the other two still sign: 'release sign --role root --key FILE'.
Whoever steals channel, snapshot and timestamp keys can offer only programs that the artifact key signed.
Whoever steals the artifact key can do nothing without those. Whoever steals two root keys, or two targets
keys and the online ones, can do everything: launchers must then be given a new root by other means.
`

func (a *app) initCommand() *cobra.Command {
	var channels []string
	cmd := &cobra.Command{
		Use:   "init PRODUCT",
		Short: "Make a product: its file, its keys and an empty signed repository",
		Long: "Make a product in the folder --dir: product.toml, keys/ (2 of 3 for root and targets), RECOVERY.txt and\n" +
			"an empty signed repository in repo/.\n\n" + exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codePreflight),
		Args: cobra.ExactArgs(1),
		RunE: a.runE(func(ctx context.Context, args []string) (answer, error) {
			return initialise(ctx, a.dir, newProduct(args[0], channels))
		}),
	}
	cmd.Flags().StringArrayVar(&channels, "channel", []string{"stable"}, "a channel; may be given several times, the first is the default of add")
	return cmd
}

// made is the answer of init.
type made struct {
	Product  string   `json:"product"`
	Channels []string `json:"channels"`
	Dir      string   `json:"dir"`
	Root     string   `json:"root"` // the trust anchor that launchers are born with
	Keys     []string `json:"keys"`
}

func (m made) text(w io.Writer) {
	line(w, "product", "%s in %s", m.Product, m.Dir)
	line(w, "keys", "%d in %s (root and targets: 2 of 3 must sign)", len(m.Keys), filepath.Join(m.Dir, "keys"))
	line(w, "channels", "%s", strings.Join(m.Channels, ", "))
	line(w, "root", "%s: give it to every launcher", m.Root)
	line(w, "next", "print %s, and move the root and targets keys off this machine", filepath.Join(m.Dir, "RECOVERY.txt"))
}

// initialise writes the product file last: without it the folder holds no product.
func initialise(ctx context.Context, dir string, p product) (answer, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	w := newWorkspace(dir)
	w.product = p
	if err := durable.MkdirAll(w.disk, dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the product's folder: %w", err)
	}
	if err := w.hold(); err != nil {
		return nil, err
	}
	defer w.close()
	if err := checkFresh(w, p.Name); err != nil {
		return nil, err
	}
	answer, err := w.create(ctx)
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(w.disk, filepath.Join(dir, "RECOVERY.txt"), fmt.Appendf(nil, recoveryText, p.Name), 0o644); err != nil {
		return nil, err
	}
	return answer, p.save(w.disk, dir)
}

func checkFresh(w *workspace, name string) error {
	if exists(filepath.Join(w.path, productFile)) {
		old, err := loadProduct(w.disk, w.path)
		if err != nil {
			return err
		}
		if old.Name == name {
			return nothing("%s holds product %s already", absolute(w.path), name)
		}
		return refuse("%s holds product %s: give another --dir", absolute(w.path), old.Name)
	}
	for _, part := range []string{w.keys(), filepath.Join(w.path, "repo")} {
		if exists(part) {
			return refuse("%s is there from an init that did not end: remove it and run init again", absolute(part))
		}
	}
	return nil
}

// create makes all keys, then the signed repository.
func (w *workspace) create(ctx context.Context) (answer, error) {
	m := made{Product: w.product.Name, Channels: w.product.Channels, Dir: absolute(w.path),
		Root: filepath.Join(absolute(w.path), "repo", "metadata", "1.root.json")}
	if err := w.disk.Mkdir(w.keys(), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the keys: %w", err)
	}
	lifetimes, err := w.product.lifetimes()
	if err != nil {
		return nil, err
	}
	plan := manifest.Plan{Product: w.product.Name, Roles: map[string]manifest.RoleKeys{}, Lifetime: lifetimes}
	for _, role := range w.product.roles() {
		keys, files, err := w.newKeys(role)
		if err != nil {
			return nil, err
		}
		plan.Roles[role] = keys
		m.Keys = append(m.Keys, files...)
	}
	artifact, err := w.newArtifactKey()
	if err != nil {
		return nil, err
	}
	m.Keys = append(m.Keys, artifactRole)
	return m, w.firstSet(ctx, plan, artifact)
}

// newKeys makes the key files of a role and returns their names without ".key".
func (w *workspace) newKeys(role string) (manifest.RoleKeys, []string, error) {
	names, threshold := []string{role}, 1
	if role == manifest.RoleRoot || role == manifest.RoleTargets {
		names, threshold = nil, offlineThreshold
		for i := range offlineKeys {
			names = append(names, fmt.Sprintf("%s-%d", role, i+1))
		}
	}
	keys := manifest.RoleKeys{Threshold: threshold}
	for _, name := range names {
		key, err := manifest.NewKey()
		if err != nil {
			return keys, nil, err
		}
		if err := writeKey(w.disk, filepath.Join(w.keys(), name+".key"), key.Bytes()); err != nil {
			return keys, nil, err
		}
		keys.Keys = append(keys.Keys, key.Public())
	}
	return keys, names, nil
}

func (w *workspace) newArtifactKey() (manifest.ArtifactKey, error) {
	key, err := manifest.NewArtifactKey()
	if err != nil {
		return key, err
	}
	if err := durable.WriteFile(w.disk, filepath.Join(w.path, "artifact.pub"), key.PublicFile(), 0o644); err != nil {
		return key, err
	}
	return key, writeKey(w.disk, w.artifactFile(), key.Bytes())
}

func (w *workspace) artifactFile() string { return filepath.Join(w.keys(), artifactRole+".key") }

// artifactKey reads the minisign key. One that minisign protected with a password takes it from the environment.
func (w *workspace) artifactKey() (manifest.ArtifactKey, error) {
	data, err := readKey(w.disk, w.artifactFile())
	if err != nil {
		return manifest.ArtifactKey{}, err
	}
	key, err := manifest.ParseArtifactKey(data, os.Getenv("RELEASE_ARTIFACT_PASSWORD"))
	if err != nil {
		return key, refuse("key file %s: %w: a minisign key with a password needs it in $RELEASE_ARTIFACT_PASSWORD", w.artifactFile(), err)
	}
	return key, nil
}

func (w *workspace) firstSet(ctx context.Context, plan manifest.Plan, artifact manifest.ArtifactKey) error {
	set, err := manifest.NewSet(plan, time.Now())
	if err != nil {
		return err
	}
	trust := manifest.Trust{Schema: manifest.Schema, Product: w.product.Name, Minisign: []string{artifact.Public()}}
	if err := set.SetTarget(manifest.RoleTargets, "trust.json", trust.Bytes()); err != nil {
		return err
	}
	for _, name := range w.product.Channels {
		if err := saveChannel(set, manifest.Channel{Schema: manifest.Schema, Product: w.product.Name, Name: name}); err != nil {
			return err
		}
	}
	for _, role := range set.Roles() {
		if err := w.sign(set, role); err != nil {
			return err
		}
	}
	_, err = w.commit(ctx, set)
	return err
}
