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
	return &cobra.Command{
		Use:   "keys",
		Short: "List who may sign what, which keys are here, and what is wrong with them",
		Long: "List every role with its keys, where they are and when its signature expires. A key file that others could\n" +
			"read or that cannot be read is reported with what to do (exit 13).\n\n" + exitHelp(codeOK, codeFailed, codeUsage, codePreflight),
		Args: cobra.NoArgs,
		RunE: a.runE(func(ctx context.Context, _ []string) (answer, error) {
			w, err := a.open()
			if err != nil {
				return nil, err
			}
			defer w.close()
			return w.listKeys(ctx)
		}),
	}
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
	ID      string `json:"id"`
	File    string `json:"file,omitempty"` // "" when the key is elsewhere
	Problem string `json:"problem,omitempty"`
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
			where := k.File
			if where == "" {
				where = elsewhere
			}
			line(w, "", "%-18.16s%s", k.ID, where)
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
	if s.Role == artifactRole { // its public key is in a document of targets: the file is all that is known here
		return len(s.Keys), "elsewhere"
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
	r.Roles = append(r.Roles, w.artifactSigner())
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
		if k.File != "" {
			n++
		}
	}
	return n
}

// signerOf matches the keys that a role has with the files that are here.
func (w *workspace) signerOf(set *manifest.Set, role string) (signer, error) {
	keys, _ := set.Keys(role)
	expires := set.Expires(role)
	s := signer{Role: role, Threshold: keys.Threshold, Version: set.Version(role), Expires: &expires}
	for _, k := range keys.Keys {
		s.Keys = append(s.Keys, keyState{ID: k.ID()})
	}
	files, err := keyFiles(w.disk, w.keys(), role)
	if err != nil {
		return s, err
	}
	for _, file := range files {
		s.place(w, file)
	}
	return s, nil
}

// place notes a file beside the key that it holds; one that cannot be used gets a line of its own.
func (s *signer) place(w *workspace, file string) {
	name := filepath.Base(file)
	key, err := w.readKey(file)
	if err != nil {
		s.Keys = append(s.Keys, keyState{File: name, Problem: err.Error()})
		return
	}
	i := slices.IndexFunc(s.Keys, func(k keyState) bool { return k.ID == key.ID() })
	if i < 0 {
		s.Keys = append(s.Keys, keyState{ID: key.ID(), File: name, Problem: "no key of role " + s.Role + ": move the file away"})
		return
	}
	s.Keys[i].File = name
}

func (w *workspace) artifactSigner() signer {
	s := signer{Role: artifactRole, Threshold: 1}
	k := keyState{File: filepath.Base(w.artifactFile())}
	if !exists(w.artifactFile()) {
		return s // kept elsewhere, as it may be
	}
	key, err := w.artifactKey()
	if err != nil {
		k.Problem = err.Error()
	} else {
		k.ID = strings.ToLower(key.ID())
	}
	s.Keys = append(s.Keys, k)
	return s
}
