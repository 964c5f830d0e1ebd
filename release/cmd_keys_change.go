package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/manifest"
)

const keysHelp = "Who may sign is itself signed: keys of root, targets, snapshot and timestamp by root, those of channels and\n" +
	"artifacts by targets. What lacks a signature waits in draft/ ('release sign'). Hosts follow at their next\n" +
	"look, also those that were off for years.\n\n"

// origin says where a new key comes from: it is made here, or its public half is given.
type origin struct {
	public, signer string
	encrypt        bool
}

func (o *origin) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.public, "public", "", "public half of a key that was made elsewhere: 64 hex digits or a file (default: make one in keys/)")
	cmd.Flags().StringVar(&o.signer, "signer", "", "exec:COMMAND ARGS that signs with it: standard input to base64 (needs --public)")
	cmd.Flags().BoolVar(&o.encrypt, "encrypt", false, "protect the new key file with a passphrase")
}

func (o origin) check() error {
	switch {
	case o.signer != "" && o.public == "":
		return usage("--signer needs --public: the signatures of the command are checked with it")
	case o.encrypt && o.public != "":
		return usage("--encrypt is for a key that is made here, not for one whose public half is given")
	case o.signer != "":
		_, err := parseExec(o.signer)
		return err
	}
	return nil
}

// alteration is the command line of keys add, remove, replace and threshold.
type alteration struct {
	role, key string // key "" for none
	origin    origin
	threshold int // 0 to leave it
	yank      bool
}

func (a *app) alter(alt *alteration, do func(w *workspace, ctx context.Context, set *manifest.Set, alt alteration) (answer, error)) func(*cobra.Command, []string) error {
	return a.runE(func(ctx context.Context, args []string) (answer, error) {
		if err := alt.origin.check(); err != nil {
			return nil, err
		}
		return a.held(func(w *workspace) (answer, error) {
			set, err := w.load(ctx)
			if err != nil {
				return nil, err
			}
			if err := alt.resolve(w.product, args[0]); err != nil {
				return nil, err
			}
			return do(w, ctx, set, *alt)
		})
	})
}

// resolve reads ROLE, ROLE/KEY, or the name of a key, which says its role.
func (alt *alteration) resolve(p product, text string) error {
	role, key, both := strings.Cut(text, "/")
	if !both {
		role, key = text, ""
		if of, known := p.roleOf(text); known {
			role, key = of, text
		}
	}
	if !slices.Contains(append(p.roles(), artifactRole), role) {
		return usage("no role %q: there are %s, %s", role, strings.Join(p.roles(), ", "), artifactRole)
	}
	alt.role, alt.key = role, key
	return nil
}

func (a *app) keysAddCommand() *cobra.Command {
	alt := &alteration{}
	cmd := &cobra.Command{
		Use:   "add ROLE",
		Short: "Give a role one more key",
		Long: "Give a role one more key, made in keys/ or elsewhere. Of artifact keys two count while one takes the place\n" +
			"of the other. " + keysHelp + exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codePreflight),
		Example: "  release keys add stable --threshold 2 --public manager.pem\n  release keys add artifact",
		Args:    cobra.ExactArgs(1),
		RunE:    a.alter(alt, (*workspace).addKey),
	}
	alt.origin.flags(cmd)
	cmd.Flags().IntVar(&alt.threshold, "threshold", 0, "how many of the role's keys must sign from now on")
	return cmd
}

func (a *app) keysReplaceCommand() *cobra.Command {
	alt := &alteration{}
	cmd := &cobra.Command{
		Use:   "replace ROLE/KEY",
		Short: "Put a new key in the place of a lost or stolen one",
		Long: "Put a new key in the place of one that was lost or stolen. KEY is its name, or the beginning of its\n" +
			"fingerprint ('release keys' and RECOVERY.txt have both). A replaced root key that is still there signs the\n" +
			"change too, but need not: two others are enough.\n" + keysHelp + exitHelp(codeOK, codeFailed, codeUsage, codePreflight),
		Example: "  release keys replace root/root-2\n  release keys replace timestamp --public ts.pem --signer 'exec:/opt/kms/sign ts'",
		Args:    cobra.ExactArgs(1),
		RunE:    a.alter(alt, (*workspace).replaceKey),
	}
	alt.origin.flags(cmd)
	return cmd
}

func (a *app) keysRemoveCommand() *cobra.Command {
	alt := &alteration{}
	cmd := &cobra.Command{
		Use:   "remove ROLE/KEY",
		Short: "Take a key away from a role",
		Long: "Take a key away from a role. What only an artifact key has signed cannot be installed without it: versions\n" +
			"that are offered and signed by it are named, and --yank takes them back.\n" +
			keysHelp + exitHelp(codeOK, codeFailed, codeUsage, codePreflight),
		Args: cobra.ExactArgs(1),
		RunE: a.alter(alt, (*workspace).removeKey),
	}
	cmd.Flags().IntVar(&alt.threshold, "threshold", 0, "how many of the role's keys must sign from now on")
	cmd.Flags().BoolVar(&alt.yank, "yank", false, "take back the versions that only this artifact key has signed")
	return cmd
}

func (a *app) keysThresholdCommand() *cobra.Command {
	alt := &alteration{}
	cmd := &cobra.Command{
		Use:   "threshold ROLE N",
		Short: "Say how many keys of a role must sign",
		Long:  "Say how many keys of a role must sign. " + keysHelp + exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codePreflight),
		Args:  cobra.ExactArgs(2),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if _, err := fmt.Sscanf(args[1], "%d", &alt.threshold); err != nil || fmt.Sprint(alt.threshold) != args[1] {
			return fmt.Errorf("threshold %q: write a number", args[1])
		}
		return a.alter(alt, (*workspace).setThreshold)(cmd, args)
	}
	return cmd
}

// altered is the answer of keys add, remove, replace and threshold.
type altered struct {
	Role      string    `json:"role"`
	Threshold int       `json:"threshold"`
	Keys      int       `json:"keys"` // how many the role has
	Added     *keyState `json:"added,omitempty"`
	Removed   *keyState `json:"removed,omitempty"`
	Yanked    []string  `json:"yanked,omitempty"` // versions
	pending
}

func (c altered) text(w io.Writer) {
	if c.Added != nil {
		line(w, "add", "%v", c.Added)
	}
	if c.Removed != nil {
		line(w, "remove", "%s %.16s", c.Removed.Name, c.Removed.ID)
	}
	if len(c.Yanked) > 0 {
		line(w, "yank", "%s", strings.Join(c.Yanked, ", "))
	}
	line(w, c.Role, "%d of %s must sign", c.Threshold, count(c.Keys, "key"))
	if c.Added != nil && c.Added.File != "" && offline(c.Role) {
		line(w, "move", "keys/%s off this machine, to the place that has none of %s", c.Added.File, c.Role)
	}
	c.next(w, "release publish --to dir:PATH, and print RECOVERY.txt anew")
}

func (w *workspace) addKey(ctx context.Context, set *manifest.Set, alt alteration) (answer, error) {
	if alt.role == artifactRole {
		return w.addArtifactKey(ctx, set, alt)
	}
	rk, _ := set.Keys(alt.role)
	if alt.threshold == 0 {
		alt.threshold = rk.Threshold
	}
	if alt.threshold < 1 || alt.threshold > len(rk.Keys)+1 {
		return nil, usage("--threshold %d: %s will have %s", alt.threshold, alt.role, count(len(rk.Keys)+1, "key"))
	}
	public, state, err := w.makeKey(alt.role, alt.origin, rk.Keys)
	if err != nil {
		return nil, err
	}
	rk.Keys, rk.Threshold = append(rk.Keys, public), alt.threshold
	return w.setKeys(ctx, set, altered{Role: alt.role, Added: state}, rk)
}

func (w *workspace) replaceKey(ctx context.Context, set *manifest.Set, alt alteration) (answer, error) {
	if alt.role == artifactRole {
		return nil, usage("an artifact key is replaced in two steps, since what the old one signed is still offered: 'release keys add %s', and later 'release keys remove %s/KEY'", artifactRole, artifactRole)
	}
	rk, _ := set.Keys(alt.role)
	at, err := w.findKey(alt, rk.Keys)
	if err != nil {
		return nil, err
	}
	old := keyState{ID: rk.Keys[at].ID(), Name: w.product.nameOf(rk.Keys[at].String())}
	public, state, err := w.makeKey(alt.role, alt.origin, rk.Keys)
	if err != nil {
		return nil, err
	}
	rk.Keys[at] = public
	return w.setKeys(ctx, set, altered{Role: alt.role, Added: state, Removed: &old}, rk)
}

func (w *workspace) removeKey(ctx context.Context, set *manifest.Set, alt alteration) (answer, error) {
	if alt.role == artifactRole {
		return w.removeArtifactKey(ctx, set, alt)
	}
	rk, _ := set.Keys(alt.role)
	at, err := w.findKey(alt, rk.Keys)
	if err != nil {
		return nil, err
	}
	if alt.threshold > 0 {
		rk.Threshold = alt.threshold
	}
	if rk.Threshold > len(rk.Keys)-1 {
		return nil, usage("%s of %s must sign and %d would be left: give a smaller --threshold, or replace the key", count(rk.Threshold, "key"), alt.role, len(rk.Keys)-1)
	}
	old := keyState{ID: rk.Keys[at].ID(), Name: w.product.nameOf(rk.Keys[at].String())}
	rk.Keys = slices.Delete(rk.Keys, at, at+1)
	return w.setKeys(ctx, set, altered{Role: alt.role, Removed: &old}, rk)
}

func (w *workspace) setThreshold(ctx context.Context, set *manifest.Set, alt alteration) (answer, error) {
	rk, known := set.Keys(alt.role)
	if !known {
		return nil, usage("role %s has no threshold: one artifact key signs", alt.role)
	}
	if rk.Threshold == alt.threshold {
		return nil, nothing("%d of %s of %s must sign already", rk.Threshold, count(len(rk.Keys), "key"), alt.role)
	}
	if alt.threshold < 1 || alt.threshold > len(rk.Keys) {
		return nil, usage("threshold %d: %s has %s", alt.threshold, alt.role, count(len(rk.Keys), "key"))
	}
	rk.Threshold = alt.threshold
	return w.setKeys(ctx, set, altered{Role: alt.role}, rk)
}

// makeKey makes a key for a role, or takes the one whose public half is given, and saves its name.
func (w *workspace) makeKey(role string, o origin, have []manifest.PublicKey) (manifest.PublicKey, *keyState, error) {
	name := w.nextName(role)
	if o.public == "" {
		key, err := w.newKey(name, o.encrypt)
		if err != nil {
			return manifest.PublicKey{}, nil, err
		}
		state := &keyState{ID: key.ID(), Name: name, File: filepath.Base(w.keyFile(name)), Encrypted: o.encrypt}
		return key.Public(), state, w.product.save(w.disk, w.path)
	}
	text, public, err := readPublic(o.public, role)
	if err != nil {
		return public, nil, err
	}
	if slices.Contains(have, public) {
		return public, nil, nothing("%s has the key %.16s already", role, public.ID())
	}
	if other := w.product.nameOf(text); other != "" {
		return public, nil, usage("the key %.16s is %s already: a key signs for one role", public.ID(), other)
	}
	w.product.Keys = append(w.product.Keys, keyEntry{Name: name, Public: text, Signer: o.signer})
	return public, &keyState{ID: public.ID(), Name: name, Signer: o.signer}, w.product.save(w.disk, w.path)
}

// findKey finds a key by its name or the beginning of its fingerprint.
func (w *workspace) findKey(alt alteration, keys []manifest.PublicKey) (int, error) {
	var have []string
	found := -1
	for i, k := range keys {
		name := w.product.nameOf(k.String())
		have = append(have, strings.TrimSpace(name+" "+k.ID()[:16]))
		if alt.key != "" && (name == alt.key || len(alt.key) >= 8 && strings.HasPrefix(k.ID(), strings.ToLower(alt.key))) {
			found = i
		}
	}
	if found < 0 && len(keys) == 1 && alt.key == alt.role { // the only one
		found = 0
	}
	if found < 0 {
		return found, usage("no key %q of %s: it has %s", alt.key, alt.role, strings.Join(have, ", "))
	}
	return found, nil
}

// setKeys changes who signs for a role, signs what the keys here can sign, and commits.
func (w *workspace) setKeys(ctx context.Context, set *manifest.Set, a altered, rk manifest.RoleKeys) (answer, error) {
	if err := set.SetKeys(a.Role, rk); err != nil {
		return nil, err
	}
	a.Threshold, a.Keys = rk.Threshold, len(rk.Keys)
	delegator := manifest.RoleRoot
	if slices.Contains(set.Channels(), a.Role) {
		delegator = manifest.RoleTargets
	}
	missing, err := w.renewAndCommit(ctx, set, []string{delegator, a.Role})
	a.pending = pending{missing}
	return a, err
}
