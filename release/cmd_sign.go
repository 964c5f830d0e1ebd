package main

import (
	"context"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/manifest"
)

// signing is the command line of sign.
type signing struct {
	roles, keys []string
	discard     bool
}

func (a *app) signCommand() *cobra.Command {
	var s signing
	cmd := &cobra.Command{
		Use:   "sign [--role ROLE] [--key FILE]",
		Short: "Renew a role, or add a signature that a draft still lacks",
		Long: "Renew a role (a new version and expiry), or add signatures to what waits in draft/. Keys in keys/ are used\n" +
			"by themselves; --key gives one that is elsewhere, for instance on a stick. Two people can sign one after\n" +
			"the other, on different machines, by carrying the product's folder without keys/. When nothing is missing\n" +
			"any more the draft becomes repo/, for 'release publish'.\n\n" +
			exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codePreflight),
		Example: "  release sign --role root --key /media/a/root-1.key\n  release sign --key /media/b/root-2.key",
		Args:    cobra.NoArgs,
		RunE: a.runE(func(ctx context.Context, _ []string) (answer, error) {
			w, err := a.open()
			if err != nil {
				return nil, err
			}
			defer w.close()
			if s.discard {
				return w.dropDraft()
			}
			return w.signDraft(ctx, s)
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

func (w *workspace) dropDraft() (answer, error) {
	if !w.drafted() {
		return nil, nothing("there is no draft")
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
	if err := w.signAll(set, s.keys); err != nil {
		return nil, err
	}
	if maps.Equal(before, set.Missing()) {
		return nil, refuse("no key here can add a signature: give one with --key FILE (missing: %v)", before)
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
	if len(s.roles) == 0 && len(set.Missing()) == 0 {
		return nothing("no draft waits for a signature; give --role to renew one")
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
		if err := w.sign(set, role); err != nil {
			return err
		}
		for _, file := range given {
			if !allowed(set, role, keys[file]) {
				continue
			}
			used[file] = true
			if err := set.Sign(role, keys[file]); err != nil {
				return err
			}
		}
	}
	for _, file := range given {
		if !used[file] {
			return refuse("key file %s is no key of a role that lacks a signature (%s)", filepath.Base(file), strings.Join(slices.Sorted(maps.Keys(set.Missing())), ", "))
		}
	}
	return nil
}
