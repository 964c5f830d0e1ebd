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
	ctx     context.Context // of this invocation: commands that sign end with it
	pass    *passphrases
	loaded  []*manifest.Set // what is in repo/, and the draft if there is one
}

// open reads the product and locks the folder until close.
func (a *app) open() (*workspace, error) {
	w := a.workspace()
	p, err := loadProduct(w.disk, w.path)
	if err != nil {
		return nil, err
	}
	w.product = p
	return w, w.hold()
}

// held does work with the product, whose folder is locked meanwhile.
func (a *app) held(do func(*workspace) (answer, error)) (answer, error) {
	w, err := a.open()
	if err != nil {
		return nil, err
	}
	defer w.close()
	return do(w)
}

func (a *app) workspace() *workspace {
	disk, path := durable.OS(), a.dir
	ctx := a.ctx
	if ctx == nil {
		ctx = context.Background()
	}
	return &workspace{path: path, disk: disk, ctx: ctx, pass: a.passphrases(),
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
	if err != nil {
		return nil, err
	}
	w.loaded = []*manifest.Set{set}
	if w.drafted() {
		draft, err := w.readDraft(ctx)
		if err != nil {
			return nil, err
		}
		w.loaded = append(w.loaded, draft)
		if set, err = w.catchUp(ctx, draft, set); err != nil {
			return nil, err
		}
	}
	return set, w.checkChannels(set)
}

// readDraft reads the draft as it was left; publish may have renewed repo/ since.
func (w *workspace) readDraft(ctx context.Context) (*manifest.Set, error) {
	draft, err := w.read(ctx, overlay{w.draft, w.tree})
	if err != nil {
		return nil, fmt.Errorf("%w (drop the draft with 'release sign --discard')", err)
	}
	return draft, nil
}

// checkChannels refuses a product file that names a channel which nobody has signed.
func (w *workspace) checkChannels(set *manifest.Set) error {
	for _, name := range w.product.Channels {
		if !slices.Contains(set.Channels(), name) {
			return usage("%s says product %s with channel %s, but the signed metadata has %s with %s: take the channel out and run 'release channel add %s'",
				productFile, w.product.Name, name, set.Product(), strings.Join(set.Channels(), ", "), name)
		}
	}
	return nil
}

func (w *workspace) read(ctx context.Context, source manifest.Source) (*manifest.Set, error) {
	set, err := manifest.LoadSet(ctx, source)
	if err != nil {
		return nil, fmt.Errorf("load the metadata in %s: %w", absolute(w.path), err)
	}
	if set.Product() != w.product.Name {
		return nil, usage("%s says product %s, but the signed metadata is of %s: put the signed name back", productFile, w.product.Name, set.Product())
	}
	// What is signed counts; the file gives the channels their order, and may lag behind by an interruption.
	for _, name := range set.Channels() {
		if !slices.Contains(w.product.Channels, name) {
			w.product.Channels = append(w.product.Channels, name)
		}
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

// commit makes set the product's repository, or its draft while signatures are missing, which it returns
// by role. Readers of repo/ see the old set or the new one, whatever interrupts it.
func (w *workspace) commit(ctx context.Context, set *manifest.Set) (map[string]int, error) {
	if missing := set.Missing(); len(missing) > 0 {
		return missing, w.write(ctx, w.draft, set.Files())
	}
	if err := w.replace(ctx, set); err != nil {
		return nil, err
	}
	if err := w.discard(); err != nil {
		return nil, err
	}
	return nil, w.note(set)
}

// note writes down for people what a committed set has made true: which keys there are, and the sheet to print.
func (w *workspace) note(set *manifest.Set) error {
	if err := w.prune(set); err != nil {
		return err
	}
	return w.writeSheet(set)
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
	line(w, "waiting", "in draft/ for %s: run 'release sign --key FILE' where the keys are", lacking(p.Missing))
}

// lacking says which signatures are missing, by role.
func lacking(missing map[string]int) string {
	var parts []string
	for _, role := range slices.Sorted(maps.Keys(missing)) {
		parts = append(parts, count(missing[role], "signature")+" of "+role)
	}
	return strings.Join(parts, ", ")
}
