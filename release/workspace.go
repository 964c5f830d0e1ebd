package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/release/repo"
)

// fileLimit bounds one file of signed metadata in the product's own folder.
const fileLimit = 4 << 20

// workspace is the folder of one product, held by one invocation.
type workspace struct {
	path    string
	product product
	disk    durable.Disk
	tree    repo.Store // repo/: complete and signed
	draft   repo.Store // draft/: the next repo/, while signatures are missing
	lock    *durable.LockFile
}

// open reads the product and locks the folder until close.
func (a *app) open() (*workspace, error) {
	w := newWorkspace(a.dir)
	p, err := loadProduct(w.disk, w.path)
	if err != nil {
		return nil, err
	}
	w.product = p
	return w, w.hold()
}

func newWorkspace(path string) *workspace {
	disk := durable.OS()
	return &workspace{path: path, disk: disk,
		tree:  repo.Dir(disk, filepath.Join(path, "repo")),
		draft: repo.Dir(disk, filepath.Join(path, "draft"))}
}

func (w *workspace) hold() error {
	lock, err := durable.Lock(filepath.Join(w.path, ".lock"))
	if errors.Is(err, durable.ErrLocked) {
		return refuse("%s is in use by another release command: wait for it and run this one again", absolute(w.path))
	}
	w.lock = lock
	return err
}

func (w *workspace) close() { _ = w.lock.Close() } // the kernel drops the lock with the process anyway

func (w *workspace) keys() string { return filepath.Join(w.path, "keys") }

func (w *workspace) drafted() bool { return exists(filepath.Join(w.path, "draft")) }

// load returns the set to be changed: the draft if there is one, else what repo/ holds.
func (w *workspace) load(ctx context.Context) (*manifest.Set, error) {
	set, err := w.read(ctx, w.tree)
	if err != nil || !w.drafted() {
		return set, err
	}
	draft, err := w.read(ctx, overlay{w.draft, w.tree})
	if err != nil {
		return nil, fmt.Errorf("%w (drop the draft with 'release sign --discard')", err)
	}
	return w.catchUp(ctx, draft, set)
}

func (w *workspace) read(ctx context.Context, source manifest.Source) (*manifest.Set, error) {
	set, err := manifest.LoadSet(ctx, source)
	if err != nil {
		return nil, fmt.Errorf("load the metadata in %s: %w", absolute(w.path), err)
	}
	if signed := set.Channels(); set.Product() != w.product.Name || !slices.Equal(signed, slices.Sorted(slices.Values(w.product.Channels))) {
		return nil, usage("%s says product %s with channels %s, but the signed metadata has %s with %s: put the signed ones back, channels are made by init alone",
			productFile, w.product.Name, strings.Join(w.product.Channels, ", "), set.Product(), strings.Join(signed, ", "))
	}
	return set, nil
}

// catchUp renews the draft until its timestamp is above the one in repo/, which publish may have renewed
// while the draft waited. A set moves on by one version at a time, and only from a signed one.
func (w *workspace) catchUp(ctx context.Context, draft, committed *manifest.Set) (*manifest.Set, error) {
	for draft.Version(manifest.RoleTimestamp) <= committed.Version(manifest.RoleTimestamp) ||
		draft.Version(manifest.RoleSnapshot) <= committed.Version(manifest.RoleSnapshot) {
		before := draft.Version(manifest.RoleTimestamp)
		if err := w.renew(draft, manifest.RoleSnapshot); err != nil {
			return nil, err
		}
		if draft.Version(manifest.RoleTimestamp) == before {
			return nil, refuse("the draft is older than repo/ and the keys of snapshot and timestamp are not here: " +
				"bring them, or drop the draft with 'release sign --discard'")
		}
		next, err := manifest.LoadSet(ctx, memory(draft.Files()))
		if err != nil {
			return nil, fmt.Errorf("renew the draft: %w", err)
		}
		draft = next
	}
	return draft, nil
}

// memory is a source of files that are not on disk yet.
type memory []manifest.File

func (m memory) Get(_ context.Context, name string, maxBytes int64) ([]byte, error) {
	for _, f := range m {
		if f.Name == name && int64(len(f.Data)) <= maxBytes {
			return f.Data, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

// overlay reads from the first source that has a file.
type overlay struct{ over, under manifest.Source }

func (o overlay) Get(ctx context.Context, name string, maxBytes int64) ([]byte, error) {
	data, err := o.over.Get(ctx, name, maxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return o.under.Get(ctx, name, maxBytes)
	}
	return data, err
}

// renew gives roles, and the roles that name their versions, a new version and signs what the keys here can sign.
func (w *workspace) renew(set *manifest.Set, roles ...string) error {
	if err := w.bump(set, roles); err != nil {
		return err
	}
	for _, role := range dependents(w.product, roles) {
		if err := w.sign(set, role); err != nil {
			return err
		}
	}
	return nil
}

// bump gives roles, and those that name their versions, a new version and no signature yet.
func (w *workspace) bump(set *manifest.Set, roles []string) error {
	lifetimes, err := w.product.lifetimes()
	if err != nil {
		return err
	}
	for _, role := range dependents(w.product, roles) {
		if err := set.Bump(role, time.Now(), lifetimes[role]); err != nil {
			return fmt.Errorf("renew %s: %w", role, err)
		}
	}
	return nil
}

// dependents completes roles by those that name their versions: snapshot names all but the root, and
// timestamp names snapshot.
func dependents(p product, roles []string) []string {
	all := map[string]bool{}
	for _, role := range roles {
		all[role] = true
		if role != manifest.RoleRoot && role != manifest.RoleTimestamp {
			all[manifest.RoleSnapshot] = true
		}
	}
	if all[manifest.RoleSnapshot] {
		all[manifest.RoleTimestamp] = true
	}
	return slices.DeleteFunc(p.roles(), func(role string) bool { return !all[role] })
}

// sign adds the signatures of the role's keys that are in this folder. Keys that are elsewhere are not an error.
func (w *workspace) sign(set *manifest.Set, role string) error {
	files, err := keyFiles(w.disk, w.keys(), role)
	if err != nil {
		return err
	}
	for _, file := range files {
		key, err := w.readKey(file)
		if err != nil {
			return err
		}
		if !allowed(set, role, key) {
			return refuse("key file %s is no key of role %s: move it away", file, role)
		}
		if err := set.Sign(role, key); err != nil {
			return fmt.Errorf("sign %s with %s: %w", role, file, err)
		}
	}
	return nil
}

func (w *workspace) readKey(file string) (manifest.Key, error) {
	data, err := readKey(w.disk, file)
	if err != nil {
		return manifest.Key{}, err
	}
	key, err := manifest.ParseKey(data)
	if err != nil {
		return key, refuse("key file %s: %w: bring back the file that 'release init' wrote", file, err)
	}
	return key, nil
}

func allowed(set *manifest.Set, role string, key manifest.Key) bool {
	keys, known := set.Keys(role)
	return known && slices.Contains(keys.Keys, key.Public())
}

// commit makes set the product's repository, or its draft while signatures are missing, which it returns
// by role. Readers of repo/ see the old set or the new one, whatever interrupts it.
func (w *workspace) commit(ctx context.Context, set *manifest.Set) (map[string]int, error) {
	if missing := set.Missing(); len(missing) > 0 {
		return missing, w.write(ctx, w.draft, set.Files())
	}
	if err := w.replace(ctx, set); err != nil {
		return nil, err
	}
	return nil, w.discard()
}

// replace makes a complete set the one in repo/.
func (w *workspace) replace(ctx context.Context, set *manifest.Set) error {
	if err := w.keepCommitted(ctx, set.Files()); err != nil {
		return err
	}
	return w.write(ctx, w.tree, set.Files())
}

// keepCommitted checks that nothing that repo/ points to would change. What repo/ does not point to is
// left from a command that was interrupted: nobody has seen it, and it may be replaced.
func (w *workspace) keepCommitted(ctx context.Context, files []manifest.File) error {
	old, err := w.read(ctx, w.tree)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	committed := map[string][]byte{}
	for _, f := range old.Files() {
		committed[f.Name] = f.Data
	}
	for _, f := range files {
		if was, there := committed[f.Name]; there && f.Immutable && !bytes.Equal(was, f.Data) {
			return fmt.Errorf("keep %s: %w", f.Name, repo.ErrConflict)
		}
	}
	return nil
}

// write puts the files that differ, in their order, which ends with the pointer.
func (w *workspace) write(ctx context.Context, to repo.Store, files []manifest.File) error {
	for _, f := range files {
		was, err := to.Get(ctx, f.Name, fileLimit)
		if err == nil && bytes.Equal(was, f.Data) {
			continue
		}
		if err := to.Put(ctx, repo.Bytes(f.Name, f.Data)); err != nil {
			return fmt.Errorf("write %s: %w", f.Name, err)
		}
	}
	return nil
}

func (w *workspace) discard() error {
	if !w.drafted() {
		return nil
	}
	if err := durable.RemoveAll(w.disk, filepath.Join(w.path, "draft")); err != nil {
		return fmt.Errorf("remove the draft: %w", err)
	}
	return nil
}

// pending is what a command says about signatures that are still missing.
type pending struct {
	Missing map[string]int `json:"missing_signatures,omitempty"` // by role
}

// next prints what to do now: to bring keys, or then.
func (p pending) next(w io.Writer, then string) {
	if len(p.Missing) == 0 {
		line(w, "next", "%s", then)
		return
	}
	var parts []string
	for _, role := range slices.Sorted(maps.Keys(p.Missing)) {
		parts = append(parts, count(p.Missing[role], "signature")+" of "+role)
	}
	line(w, "waiting", "in draft/ for %s: run 'release sign --key FILE' where the keys are", strings.Join(parts, ", "))
}
