package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/manifest"
)

func (a *app) keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "List who may sign what, which keys are here, and what is wrong with them",
		Long: "List every role with its keys, where they are and when its signature expires. A key file that others could\n" +
			"read or that cannot be read is reported with what to do (exit 13).\n\n" + exitHelp(codeOK, codeFailed, codeUsage, codePreflight),
		Args: cobra.NoArgs,
		RunE: a.runE(func(ctx context.Context, _ []string) (answer, error) {
			return a.held(func(w *workspace) (answer, error) { return w.listKeys(ctx) })
		}),
	}
	cmd.AddCommand(a.keysAddCommand(), a.keysRemoveCommand(), a.keysReplaceCommand(), a.keysThresholdCommand(),
		a.keysNewCommand(), a.keysEncryptCommand(), a.keysDecryptCommand(), a.keysPasswdCommand())
	return cmd
}

// ring is the answer of keys.
type ring struct {
	Product  string   `json:"product"`
	Roles    []signer `json:"roles"`
	Warnings []string `json:"warnings"`
}

type signer struct {
	Role      string     `json:"role"`
	Threshold int        `json:"threshold"`
	Version   int64      `json:"version,omitempty"`
	Expires   *time.Time `json:"expires,omitempty"`
	Keys      []keyState `json:"keys"`
}

type keyState struct {
	ID        string `json:"id"`             // what a fingerprint is of: the TUF key id, or the number of a minisign key
	Name      string `json:"name,omitempty"` // in the product file
	File      string `json:"file,omitempty"` // in keys/; "" when the key is elsewhere
	Encrypted bool   `json:"encrypted,omitempty"`
	Signer    string `json:"signer,omitempty"` // the command that signs with it
	Problem   string `json:"problem,omitempty"`
}

// String names a key that is new, and says where its secret is.
func (k keyState) String() string {
	at := "made elsewhere"
	switch {
	case k.File != "" && k.Encrypted:
		at = "in keys/" + k.File + ", encrypted"
	case k.File != "":
		at = "in keys/" + k.File
	case k.Signer != "":
		at = "behind " + k.Signer
	}
	return fmt.Sprintf("%s %.16s, %s", k.Name, k.ID, at)
}

// where says where the secret is; elsewhere is what to say of one that is not here.
func (k keyState) where(elsewhere string) string {
	switch {
	case k.File != "" && k.Encrypted:
		return k.File + ", encrypted"
	case k.File != "":
		return k.File
	case k.Signer != "":
		return k.Name + ", " + k.Signer
	case k.Name != "":
		return k.Name + ", " + elsewhere
	}
	return elsewhere
}

func (r ring) text(w io.Writer) {
	for _, s := range r.Roles {
		expires := ""
		if s.Expires != nil {
			expires = ", until " + s.Expires.Format(time.DateOnly)
		}
		trusted, elsewhere := s.counted()
		line(w, s.Role, "%d of %s must sign%s", s.Threshold, count(trusted, "key"), expires)
		for _, k := range s.Keys {
			line(w, "", "%-18.16s%s", k.ID, k.where(elsewhere))
			if k.Problem != "" {
				line(w, "", "! %s", k.Problem)
			}
		}
	}
	for _, warning := range r.Warnings {
		line(w, "warning", "%s", warning)
	}
}

// counted is how many keys the role has, and what is known of one that has no file here. A file that cannot be
// used has a line among the keys and is none: it may hold one of them, or not.
func (s signer) counted() (keys int, elsewhere string) {
	unread := 0
	for _, k := range s.Keys {
		switch {
		case k.Problem == "":
			keys++
		case k.ID == "":
			unread++
		}
	}
	if unread > 0 {
		return keys, "elsewhere, or in the file below that cannot be used"
	}
	return keys, "elsewhere"
}

func (w *workspace) listKeys(ctx context.Context) (answer, error) {
	set, err := w.load(ctx)
	if err != nil {
		return nil, err
	}
	r := ring{Product: w.product.Name, Warnings: w.warnings(set)}
	problems := 0
	for _, role := range set.Roles() {
		s, err := w.signerOf(set, role)
		if err != nil {
			return nil, err
		}
		r.Roles = append(r.Roles, s)
		if offline(role) && here(s) >= s.Threshold {
			r.Warnings = append(r.Warnings, fmt.Sprintf("enough keys to sign %s are on this machine: move them away (see RECOVERY.txt)", role))
		}
	}
	artifact, err := w.artifactSigner(set)
	if err != nil {
		return nil, err
	}
	r.Roles = append(r.Roles, artifact)
	for _, s := range r.Roles {
		for _, k := range s.Keys {
			if k.Problem != "" {
				problems++
			}
		}
	}
	if problems > 0 {
		return r, refuse("%s cannot be used: do what stands beside it", count(problems, "key file"))
	}
	return r, nil
}

func offline(role string) bool { return role == manifest.RoleRoot || role == manifest.RoleTargets }

func here(s signer) int {
	n := 0
	for _, k := range s.Keys {
		if k.File != "" && k.Problem == "" {
			n++
		}
	}
	return n
}

// signerOf matches the keys that a role has with the files and commands that are here.
func (w *workspace) signerOf(set *manifest.Set, role string) (signer, error) {
	keys, _ := set.Keys(role)
	expires := set.Expires(role)
	s := signer{Role: role, Threshold: keys.Threshold, Version: set.Version(role), Expires: &expires}
	var publics []string
	for _, k := range keys.Keys {
		publics = append(publics, k.String())
		s.Keys = append(s.Keys, keyState{ID: k.ID(), Name: w.product.nameOf(k.String())})
	}
	return s, w.place(&s, publics)
}

func (w *workspace) artifactSigner(set *manifest.Set) (signer, error) {
	trust, err := loadTrust(set)
	if err != nil {
		return signer{}, err
	}
	s := signer{Role: artifactRole, Threshold: 1}
	for _, text := range trust.Minisign {
		id, err := manifest.ArtifactID(text)
		if err != nil {
			return s, err
		}
		s.Keys = append(s.Keys, keyState{ID: strings.ToLower(id), Name: w.product.nameOf(text)})
	}
	return s, w.place(&s, trust.Minisign)
}

// place notes each file and command beside the key that it holds; one that cannot be used gets a line of its own.
// No passphrase is asked for: what an encrypted file holds is what the product file says of its name.
func (w *workspace) place(s *signer, publics []string) error {
	list, err := w.candidates(s.Role)
	if err != nil {
		return err
	}
	for _, c := range list {
		file := ""
		if c.file != "" {
			file = filepath.Base(c.file)
		}
		text, encrypted, err := w.public(c)
		i := slices.Index(publics, text)
		switch {
		case err != nil:
			s.Keys = append(s.Keys, keyState{File: file, Problem: err.Error()})
		case i >= 0 && file == "":
			s.Keys[i].Signer = c.entry.Signer
		case i >= 0:
			s.Keys[i].File, s.Keys[i].Encrypted = file, encrypted
		case text == "":
			s.Keys = append(s.Keys, keyState{File: file, Encrypted: true, Problem: "encrypted, and the product file does not say which key it is: decrypt it, or add its name and public key to " + productFile})
		case !w.elsewhere(s.Role, text):
			s.Keys = append(s.Keys, keyState{ID: shortID(s.Role, text), Name: c.name, File: file, Signer: c.entry.Signer,
				Problem: "no key of role " + s.Role + " (any more): move it away"})
		}
	}
	return nil
}

// elsewhere says whether a key counts in another of the loaded sets: it is being replaced, or replaces one.
func (w *workspace) elsewhere(role, text string) bool {
	return slices.ContainsFunc(w.loaded, func(set *manifest.Set) bool {
		if role == artifactRole {
			trust, err := loadTrust(set)
			return err == nil && slices.Contains(trust.Minisign, text)
		}
		public, err := manifest.ParsePublicKey(text)
		return err == nil && set.MaySign(role, public)
	})
}

// shortID is the fingerprint of a public key as the lists show it.
func shortID(role, text string) string {
	if role == artifactRole {
		id, _ := manifest.ArtifactID(text) // it was parsed before
		return strings.ToLower(id)
	}
	public, err := manifest.ParsePublicKey(text)
	if err != nil {
		return ""
	}
	return public.ID()
}
