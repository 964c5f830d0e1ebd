package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/turnstone-go/turnstone/manifest"
)

const maxKeys = 256

// keyEntry is one key in product.toml: a name for people, and how to sign with it when that is no file in keys/.
// It gives no right: which keys count stands in the signed metadata alone.
type keyEntry struct {
	Name   string `toml:"name"`
	Public string `toml:"public"`           // 64 hex digits; of an artifact key, what minisign prints
	Signer string `toml:"signer,omitempty"` // exec:COMMAND ARGS; keys/NAME.key if there is none
}

var keyNameRule = regexp.MustCompile(`^(.+?)(-[0-9]+)?$`)

// roleOf is the role that a key's name says it signs for: its own name, or that less a number.
func (p product) roleOf(name string) (string, bool) {
	roles := append(p.roles(), artifactRole)
	if slices.Contains(roles, name) {
		return name, true
	}
	base := keyNameRule.FindStringSubmatch(name)
	return base[1], slices.Contains(roles, base[1])
}

func (e keyEntry) check(p product) error {
	role, known := p.roleOf(e.Name)
	if !known {
		return usage("%s: key %q: the product has no role %q: a key is called ROLE or ROLE-NUMBER", productFile, e.Name, role)
	}
	if _, err := e.key(role); err != nil {
		return usage("%s: key %s: %w", productFile, e.Name, err)
	}
	if e.Signer == "" {
		return nil
	}
	_, err := parseExec(e.Signer)
	return err
}

// key reads the public half.
func (e keyEntry) key(role string) (manifest.PublicKey, error) {
	if role == artifactRole {
		return manifest.ParseArtifactPublic(e.Public)
	}
	return manifest.ParsePublicKey(e.Public)
}

func checkKeys(p product) error {
	if len(p.Keys) > maxKeys {
		return usage("%s: at most %d keys", productFile, maxKeys)
	}
	for i, e := range p.Keys {
		if err := e.check(p); err != nil {
			return err
		}
		for _, other := range p.Keys[:i] {
			if other.Name == e.Name || other.Public == e.Public {
				return usage("%s: keys %s and %s: a name and a key may be there once", productFile, other.Name, e.Name)
			}
		}
	}
	return nil
}

// named returns the entry of a name.
func (p product) named(name string) (keyEntry, bool) {
	i := slices.IndexFunc(p.Keys, func(e keyEntry) bool { return e.Name == name })
	if i < 0 {
		return keyEntry{}, false
	}
	return p.Keys[i], true
}

// nameOf returns what a public key is called, "" if it has no name.
func (p product) nameOf(public string) string {
	for _, e := range p.Keys {
		if e.Public == public {
			return e.Name
		}
	}
	return ""
}

// nextName is a name for one more key of a role: the role's own for the first, else with the next number. A name
// is not given twice while anything is left of it.
func (w *workspace) nextName(role string) string {
	taken := func(name string) bool {
		_, there := w.product.named(name)
		return there || exists(w.keyFile(name))
	}
	if !taken(role) && !offline(role) {
		return role
	}
	highest := 0
	if !offline(role) {
		highest = 1
	}
	names := []string{}
	for _, e := range w.product.Keys {
		names = append(names, e.Name)
	}
	files, _ := keyFiles(w.disk, w.keys(), role) // who asks has listed them before
	for _, f := range files {
		names = append(names, keyName(f))
	}
	for _, name := range names {
		var n int
		if _, err := fmt.Sscanf(strings.TrimPrefix(name, role), "-%d", &n); err == nil && strings.HasPrefix(name, role+"-") {
			highest = max(highest, n)
		}
	}
	return fmt.Sprintf("%s-%d", role, highest+1)
}

func (w *workspace) keyFile(name string) string { return filepath.Join(w.keys(), name+".key") }

// keyName is what the file of a key is called.
func keyName(file string) string { return strings.TrimSuffix(filepath.Base(file), ".key") }

// prune forgets the names of keys that no role of the sets has any more, and saves the product if that changed it.
func (w *workspace) prune(sets ...*manifest.Set) error {
	used := map[string]bool{}
	for _, set := range sets {
		if set == nil {
			continue
		}
		for _, role := range set.Roles() {
			keys, _ := set.Keys(role)
			for _, k := range keys.Keys {
				used[k.String()] = true
			}
		}
		trust, err := loadTrust(set)
		if err != nil {
			return err
		}
		for _, text := range trust.Minisign {
			used[text] = true
		}
	}
	before := len(w.product.Keys)
	w.product.Keys = slices.DeleteFunc(w.product.Keys, func(e keyEntry) bool { return !used[e.Public] })
	if len(w.product.Keys) == before {
		return nil
	}
	return w.product.save(w.disk, w.path)
}

func loadTrust(set *manifest.Set) (manifest.Trust, error) {
	data, there := set.Target(manifest.RoleTargets, trustPath)
	if !there {
		return manifest.Trust{}, fmt.Errorf("the metadata has no %s", trustPath)
	}
	return manifest.ParseTrust(data)
}

// readPublic reads a public key that was made elsewhere: 64 hex digits, a PEM file, or the minisign form.
func readPublic(text, role string) (string, manifest.PublicKey, error) {
	if data, err := os.ReadFile(text); err == nil && len(data) <= keyLimit {
		text = string(data)
	}
	text = strings.TrimSpace(text)
	if lines := strings.Split(text, "\n"); strings.HasPrefix(text, "untrusted comment:") {
		text = strings.TrimSpace(lines[len(lines)-1])
	}
	if public, err := manifest.ParseArtifactPublic(text); err == nil && role == artifactRole {
		return text, public, nil
	}
	public, err := manifest.ParsePublicPEM([]byte(text))
	if err != nil {
		if public, err = manifest.ParsePublicKey(text); err != nil {
			return "", public, usage("--public: %w: give the 64 digits that 'release keys new' printed, or a file with a PEM public key", err)
		}
	}
	if role == artifactRole {
		return manifest.ArtifactPublic(public), public, nil
	}
	return public.String(), public, nil
}
