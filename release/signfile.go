package main

import (
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
)

// signedFile is the answer of sign for a file that travels: what was signed, for the person who did it.
type signedFile struct {
	File      string    `json:"file"`
	Role      string    `json:"role"`
	Version   int64     `json:"version"`
	Expires   time.Time `json:"expires"`
	Roles     []string  `json:"roles,omitempty"`     // who may sign for whom from then on
	Documents []string  `json:"documents,omitempty"` // paths
	Added     []string  `json:"added"`               // ids of the keys that signed now
	SignedBy  []string  `json:"signed_by"`           // ids of all that have
	Strangers []string  `json:"not_in_new_root,omitempty"`
}

func (s signedFile) text(w io.Writer) {
	line(w, "file", "%s: %s version %d, until %s", s.File, s.Role, s.Version, s.Expires.Format(time.DateOnly))
	for _, r := range s.Roles {
		line(w, "", "%s", r)
	}
	if len(s.Documents) > 0 {
		line(w, "", "signs %s", strings.Join(s.Documents, ", "))
	}
	for _, id := range s.Added {
		line(w, "signed", "by %.16s", id)
	}
	for _, id := range s.Strangers {
		line(w, "note", "%.16s is no root key of this file: it counts only if the root before has it", id)
	}
	line(w, "next", "bring the file back to the product and run 'release sign FILE' there (%s so far)", count(len(s.SignedBy), "signature"))
}

// signFiles adds signatures to metadata files away from their product. With --key nothing of the folder --dir is
// read: a product file that was carried here with the metadata could name commands. Without, keys/ is used, and
// the product file if it is there.
func (a *app) signFiles(s signing) (answer, error) {
	if len(s.roles) != 1 || len(s.files) != 1 {
		return nil, usage("give one --role and one FILE to sign, or FILEs alone to take their signatures into the draft")
	}
	w, role, file := a.workspace(), s.roles[0], s.files[0]
	if len(s.keys) == 0 && exists(filepath.Join(w.path, productFile)) {
		p, err := loadProduct(w.disk, w.path)
		if err != nil {
			return nil, err
		}
		w.product = p
	}
	data, err := durable.ReadFile(w.disk, file, fileLimit)
	if err != nil {
		return nil, usage("%w", err)
	}
	says, err := manifest.ReadStatement(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if !fits(says.Kind, role) {
		return nil, refuse("%s is metadata of %s, not of %s", file, says.Kind, role)
	}
	signers, err := w.signersFor(role, s.keys)
	if err != nil {
		return nil, err
	}
	result := describe(says, file, role)
	for _, k := range signers {
		id := k.Public().ID()
		if slices.Contains(result.SignedBy, id) {
			continue
		}
		if data, err = manifest.SignFile(data, k); err != nil {
			return nil, asRefusal(err)
		}
		result.Added, result.SignedBy = append(result.Added, id), append(result.SignedBy, id)
		if role == manifest.RoleRoot && !slices.Contains(says.Roles[role].Keys, k.Public()) {
			result.Strangers = append(result.Strangers, id)
		}
	}
	if len(result.Added) == 0 {
		return nil, nothing("%s carries the signatures of these keys already", file)
	}
	return result, durable.WriteFile(w.disk, file, data, 0o644)
}

// fits says whether a file of a kind may be of a role: a channel's is of the kind targets.
func fits(kind, role string) bool {
	switch role {
	case manifest.RoleRoot, manifest.RoleSnapshot, manifest.RoleTimestamp:
		return kind == role
	}
	return kind == manifest.RoleTargets
}

// signersFor are the keys given, else those of the role in keys/.
func (w *workspace) signersFor(role string, given []string) ([]manifest.Signer, error) {
	var signers []manifest.Signer
	for _, file := range given {
		k, err := w.readKey(file)
		if err != nil {
			return nil, err
		}
		signers = append(signers, k)
	}
	if len(given) > 0 {
		return signers, nil
	}
	list, err := w.candidates(role)
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		k, err := w.signer(c)
		if err != nil {
			return nil, err
		}
		signers = append(signers, k)
	}
	if len(signers) == 0 {
		return nil, refuse("no key of %s is in %s: give one with --key FILE", role, absolute(w.keys()))
	}
	return signers, nil
}

func describe(s manifest.Statement, file, role string) signedFile {
	f := signedFile{File: file, Role: role, Version: s.Version, Expires: s.Expires, Documents: s.Documents, Added: []string{}, SignedBy: s.SignedBy}
	for _, name := range slices.Sorted(maps.Keys(s.Roles)) {
		var ids []string
		for _, k := range s.Roles[name].Keys {
			ids = append(ids, k.ID()[:16])
		}
		f.Roles = append(f.Roles, fmt.Sprintf("%s: %d of %s must sign: %s", name, s.Roles[name].Threshold, count(len(ids), "key"), strings.Join(ids, ", ")))
	}
	return f
}
