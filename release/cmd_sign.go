package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
)

// signing is the command line of sign.
type signing struct {
	roles, keys, files []string
	discard            bool
}

func (a *app) signCommand() *cobra.Command {
	var s signing
	cmd := &cobra.Command{
		Use:   "sign [--role ROLE] [--key FILE] [FILE...]",
		Short: "Renew a role, add a signature that a draft lacks, or sign a file that travels",
		Long: "Renew a role (a new version and expiry), or add signatures to what waits in draft/. Keys in keys/ are used\n" +
			"by themselves; --key gives one that is elsewhere, for instance on a stick. When nothing is missing any more\n" +
			"the draft becomes repo/, for 'release publish'.\n\n" +
			"Where a key never comes to the product, one metadata file goes to the key: copy draft/metadata/N.ROLE.json to\n" +
			"the other machine; there 'release sign --role ROLE FILE' shows what it says and adds a signature, and needs\n" +
			"no product; back here 'release sign FILE' takes the signature into the draft. A file that says anything else\n" +
			"than the draft is refused (exit 11).\n\n" +
			exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codeVerify, codePreflight),
		Example: "  release sign --role root --key /media/a/root-1.key\n  release sign --key /media/b/root-2.key\n" +
			"  release sign --role root --key root-2.key 2.root.json   # on a machine without the product\n  release sign 2.root.json",
		RunE: a.runE(func(ctx context.Context, args []string) (answer, error) {
			if s.files = args; len(s.files) > 0 && len(s.roles) > 0 {
				return a.signFiles(s)
			}
			return a.held(func(w *workspace) (answer, error) {
				if s.discard {
					return w.dropDraft(ctx)
				}
				return w.signDraft(ctx, s)
			})
		}),
	}
	cmd.Flags().StringArrayVar(&s.roles, "role", nil, "role to renew: root, targets, snapshot, timestamp or a channel; may be given several times")
	cmd.Flags().StringArrayVar(&s.keys, "key", nil, "key file to sign with; may be given several times")
	cmd.Flags().BoolVar(&s.discard, "discard", false, "drop the draft and what was changed in it")
	return cmd
}

// signatures is the answer of sign.
type signatures struct {
	Renewed   []string `json:"renewed"`
	Completed []string `json:"completed"` // roles that lack nothing any more
	Discarded bool     `json:"discarded,omitempty"`
	pending
}

func (s signatures) text(w io.Writer) {
	if s.Discarded {
		line(w, "sign", "the draft is dropped; repo/ is as it was")
		return
	}
	if len(s.Renewed) > 0 {
		line(w, "renew", "%s", strings.Join(s.Renewed, ", "))
	}
	if len(s.Completed) > 0 {
		line(w, "complete", "%s", strings.Join(s.Completed, ", "))
	}
	s.next(w, "release publish --to dir:PATH")
}

// dropDraft forgets the channels and keys that only the draft has, and then the draft.
func (w *workspace) dropDraft(ctx context.Context) (answer, error) {
	if !w.drafted() {
		return nil, nothing("there is no draft")
	}
	set, err := w.read(ctx, w.tree)
	if err != nil {
		return nil, err
	}
	w.product.Channels = slices.DeleteFunc(w.product.Channels, func(c string) bool { return !slices.Contains(set.Channels(), c) })
	if err := w.prune(set); err != nil {
		return nil, err
	}
	return signatures{Renewed: []string{}, Completed: []string{}, Discarded: true}, w.discard()
}

func (w *workspace) signDraft(ctx context.Context, s signing) (answer, error) {
	set, err := w.load(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.checkSigning(set, s); err != nil {
		return nil, err
	}
	before := set.Missing()
	result := signatures{Renewed: []string{}, Completed: []string{}}
	for _, role := range s.roles {
		if before[role] == 0 {
			result.Renewed = append(result.Renewed, role)
		}
	}
	if err := w.bump(set, result.Renewed); err != nil {
		return nil, err
	}
	before = set.Missing()
	if err := merge(set, s.files); err != nil {
		return nil, err
	}
	if err := w.signAll(set, s.keys); err != nil {
		return nil, err
	}
	if maps.Equal(before, set.Missing()) {
		if len(s.files) > 0 {
			return nil, nothing("the signatures of %s are in the draft already", strings.Join(s.files, ", "))
		}
		return nil, refuse("no key here can add a signature: give one with --key FILE (%s to come)", lacking(before))
	}
	if result.Missing, err = w.commit(ctx, set); err != nil {
		return nil, err
	}
	for role := range before {
		if result.Missing[role] == 0 {
			result.Completed = append(result.Completed, role)
		}
	}
	slices.Sort(result.Completed)
	return result, nil
}

func (w *workspace) checkSigning(set *manifest.Set, s signing) error {
	for _, role := range s.roles {
		if !slices.Contains(set.Roles(), role) {
			return usage("no role %q: there are %s", role, strings.Join(set.Roles(), ", "))
		}
	}
	for _, file := range s.files { // before it is said that no draft waits for them
		if !exists(file) {
			return usage("%s: no such file: give the one that was signed elsewhere", file)
		}
	}
	if len(s.roles) == 0 && len(set.Missing()) == 0 {
		return nothing("no draft waits for a signature; give --role to renew one")
	}
	return nil
}

// merge takes the signatures of files that come back.
func merge(set *manifest.Set, files []string) error {
	for _, file := range files {
		data, err := durable.ReadFile(durable.OS(), file, fileLimit)
		if err != nil {
			return usage("%w", err)
		}
		_, _, err = set.Merge(data)
		if errors.Is(err, manifest.ErrNotAKey) {
			return refuse("%s: %w", file, err)
		}
		if err != nil {
			return fmt.Errorf("%s does not say what the draft says: %w: copy the draft's file out again, and look at who changed this one", file, err)
		}
	}
	return nil
}

// signAll signs all that is not complete, with the keys here and those given.
func (w *workspace) signAll(set *manifest.Set, given []string) error {
	keys := map[string]manifest.Key{}
	for _, file := range given {
		key, err := w.readKey(file)
		if err != nil {
			return err
		}
		keys[file] = key
	}
	used := map[string]bool{}
	for _, role := range set.Roles() {
		if set.Missing()[role] == 0 {
			continue
		}
		for _, file := range given {
			if !set.MaySign(role, keys[file].Public()) {
				continue
			}
			used[file] = true
			if err := set.Sign(role, keys[file]); err != nil {
				return err
			}
		}
		if err := w.sign(set, role); err != nil {
			return err
		}
	}
	for _, file := range given {
		if !used[file] {
			return refuse("key file %s is no key of a role that lacks a signature (%s)", filepath.Base(file), strings.Join(slices.Sorted(maps.Keys(set.Missing())), ", "))
		}
	}
	return nil
}
