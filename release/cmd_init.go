package main

import (
	"context"
	"fmt"
	"io"
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

func (a *app) initCommand() *cobra.Command {
	var channels []string
	var encrypt bool
	cmd := &cobra.Command{
		Use:   "init PRODUCT",
		Short: "Make a product: its file, its keys and an empty signed repository",
		Long: "Make a product in the folder --dir: product.toml, keys/ (2 of 3 for root and targets), RECOVERY.txt and\n" +
			"an empty signed repository in repo/. With --encrypt a passphrase protects each key file; it comes from\n" +
			"--passphrase-file, $RELEASE_PASSPHRASE_KEY (for instance $RELEASE_PASSPHRASE_ROOT_1), $RELEASE_PASSPHRASE,\n" +
			"or the terminal. 'release keys encrypt' does it later, key by key.\n\n" + exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codePreflight),
		Args: cobra.ExactArgs(1),
		RunE: a.runE(func(ctx context.Context, args []string) (answer, error) {
			w := a.workspace()
			w.product = newProduct(args[0], channels)
			return w.initialise(ctx, encrypt)
		}),
	}
	cmd.Flags().StringArrayVar(&channels, "channel", []string{"stable"}, "a channel; may be given several times, the first is the default of add")
	cmd.Flags().BoolVar(&encrypt, "encrypt", false, "protect every key file with a passphrase")
	return cmd
}

// made is the answer of init.
type made struct {
	Product  string   `json:"product"`
	Channels []string `json:"channels"`
	Dir      string   `json:"dir"`
	Root     string   `json:"root"` // the trust anchor that launchers are born with
	Sheet    string   `json:"recovery_sheet"`
	Keys     []string `json:"keys"`
}

func (m made) text(w io.Writer) {
	line(w, "product", "%s in %s", m.Product, m.Dir)
	line(w, "keys", "%d in %s (root and targets: 2 of 3 must sign)", len(m.Keys), filepath.Join(m.Dir, "keys"))
	line(w, "channels", "%s", strings.Join(m.Channels, ", "))
	line(w, "root", "%s: give it to every launcher", m.Root)
	line(w, "next", "print %s, and move the root and targets keys off this machine", m.Sheet)
}

// initialise writes the product file last: without it the folder holds no product.
func (w *workspace) initialise(ctx context.Context, encrypt bool) (answer, error) {
	if err := w.product.check(); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(w.disk, w.path, 0o755); err != nil {
		return nil, fmt.Errorf("make the product's folder: %w", err)
	}
	if err := w.hold(); err != nil {
		return nil, err
	}
	defer w.close()
	if err := checkFresh(w, w.product.Name); err != nil {
		return nil, err
	}
	answer, err := w.create(ctx, encrypt)
	if err != nil {
		_ = w.disk.Remove(w.keys()) // without a key in it, it would only stand in the way of the next try; else it stays
		return nil, err
	}
	return answer, w.product.save(w.disk, w.path)
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
func (w *workspace) create(ctx context.Context, encrypt bool) (answer, error) {
	m := made{Product: w.product.Name, Channels: w.product.Channels, Dir: absolute(w.path), Sheet: absolute(w.sheetFile()),
		Root: filepath.Join(absolute(w.path), "repo", "metadata", "1.root.json")}
	if err := w.disk.Mkdir(w.keys(), 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the keys: %w", err)
	}
	lifetimes, err := w.product.lifetimes()
	if err != nil {
		return nil, err
	}
	plan := manifest.Plan{Product: w.product.Name, Roles: map[string]manifest.RoleKeys{}, Lifetime: lifetimes}
	signers := map[string][]manifest.Key{}
	for _, role := range w.product.roles() {
		if plan.Roles[role], signers[role], err = w.newRole(role, encrypt); err != nil {
			return nil, err
		}
	}
	artifact, err := w.newArtifactKey(artifactRole, encrypt)
	if err != nil {
		return nil, err
	}
	for _, e := range w.product.Keys {
		m.Keys = append(m.Keys, e.Name)
	}
	return m, w.firstSet(ctx, plan, signers, artifact)
}

// newRole makes the first keys of a role.
func (w *workspace) newRole(role string, encrypt bool) (keys manifest.RoleKeys, signers []manifest.Key, err error) {
	n := 1
	if keys.Threshold = 1; offline(role) {
		n, keys.Threshold = offlineKeys, offlineThreshold
	}
	for range n {
		key, err := w.newKey(w.nextName(role), encrypt)
		if err != nil {
			return keys, nil, err
		}
		keys.Keys, signers = append(keys.Keys, key.Public()), append(signers, key)
	}
	return keys, signers, nil
}

// newKey makes a key file and gives it its name in the product.
func (w *workspace) newKey(name string, encrypt bool) (manifest.Key, error) {
	key, err := manifest.NewKey()
	if err != nil {
		return key, err
	}
	data := key.Bytes()
	if encrypt {
		passphrase, err := w.pass.fresh(name)
		if err != nil {
			return key, err
		}
		if data, err = key.Encrypt(passphrase); err != nil {
			return key, err
		}
	}
	w.product.Keys = append(w.product.Keys, keyEntry{Name: name, Public: key.Public().String()})
	return key, writeKey(w.disk, w.keyFile(name), data)
}

func (w *workspace) newArtifactKey(name string, encrypt bool) (manifest.ArtifactKey, error) {
	key, err := manifest.NewArtifactKey()
	if err != nil {
		return key, err
	}
	data := key.Bytes()
	if encrypt {
		passphrase, err := w.pass.fresh(name)
		if err != nil {
			return key, err
		}
		if data, err = key.Encrypt(string(passphrase)); err != nil {
			return key, err
		}
	}
	w.product.Keys = append(w.product.Keys, keyEntry{Name: name, Public: key.Public()})
	if err := durable.WriteFile(w.disk, filepath.Join(w.path, name+".pub"), key.PublicFile(), 0o644); err != nil {
		return key, err
	}
	return key, writeKey(w.disk, w.keyFile(name), data)
}

func (w *workspace) firstSet(ctx context.Context, plan manifest.Plan, signers map[string][]manifest.Key, artifact manifest.ArtifactKey) error {
	set, err := manifest.NewSet(plan, time.Now())
	if err != nil {
		return err
	}
	trust := manifest.Trust{Schema: manifest.Schema, Product: w.product.Name, Minisign: []string{artifact.Public()}}
	if err := set.SetTarget(manifest.RoleTargets, trustPath, trust.Bytes()); err != nil {
		return err
	}
	for _, name := range w.product.Channels {
		if err := saveChannel(set, manifest.Channel{Schema: manifest.Schema, Product: w.product.Name, Name: name}); err != nil {
			return err
		}
	}
	for _, role := range set.Roles() {
		for _, key := range signers[role] {
			if err := set.Sign(role, key); err != nil {
				return err
			}
		}
	}
	_, err = w.commit(ctx, set)
	return err
}
