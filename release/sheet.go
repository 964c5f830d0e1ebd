package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
)

// sheetLimit bounds the recovery sheet when it is read back: a line for each key and a page of text.
const sheetLimit = 256 << 10

const sheetHead = `RECOVERY SHEET of %s

Print this page and keep a copy beside each offline key. It holds no secret. The first root is
repo/metadata/1.root.json with the sha256
  %s
`

const sheetRules = `
WHERE THE KEYS BELONG
 1. root-1 and targets-1 in one place, root-2 and targets-2 in a second, root-3 and targets-3 in a third (safes,
    encrypted sticks). Not in keys/. No place may hold two of a kind.
 2. Channel keys, snapshot and timestamp where 'release' runs; artifact where the programs are built, and not
    where the channel keys are.
 3. Every launcher gets the file repo/metadata/1.root.json (its configuration: repository.root).
 4. 'release publish' runs at least once a day: it renews what is about to expire.

WHEN A KEY IS LOST OR STOLEN (docs/KEYS.md has each of these step by step)
 one of root, of targets   'release keys replace root-2' with the two that are left. Do it the same week.
 a channel's               'release keys replace CHANNEL', signed by two of targets.
 snapshot, timestamp       'release keys replace timestamp', signed by two of root.
 artifact                  'release keys add artifact', then 'release keys remove' the old one; two of targets sign.
 two of root, lost         Serving goes on. No new root can be made: before root expires every launcher needs
                           another first root by hand.
 two of root, stolen       The same, at once: the thief can do everything.

Whoever steals the keys of a channel, snapshot and timestamp can offer only programs that an artifact key has
signed. Whoever steals the artifact key can do nothing without those.
`

// what says in a few words what the keys of a role are for.
func what(role string) string {
	switch role {
	case manifest.RoleRoot:
		return "says who may sign what"
	case manifest.RoleTargets:
		return "names the channels and the artifact keys"
	case manifest.RoleSnapshot:
		return "says which versions belong together; online"
	case manifest.RoleTimestamp:
		return "says what is current; online, signs every day"
	case artifactRole:
		return "signs every program file (minisign)"
	}
	return "signs what the channel " + role + " offers"
}

func (w *workspace) sheetFile() string { return filepath.Join(w.path, "RECOVERY.txt") }

// writeSheet brings the printable sheet up to the keys that count now.
func (w *workspace) writeSheet(set *manifest.Set) error {
	text, err := w.sheet(set)
	if err != nil {
		return err
	}
	old, err := durable.ReadFile(w.disk, w.sheetFile(), sheetLimit)
	if err == nil && bytes.Equal(old, text) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the recovery sheet: %w", err)
	}
	return durable.WriteFile(w.disk, w.sheetFile(), text, 0o644)
}

func (w *workspace) sheet(set *manifest.Set) ([]byte, error) {
	anchor, err := w.firstRootDigest(set)
	if err != nil {
		return nil, err
	}
	trust, err := loadTrust(set)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, sheetHead, w.product.Name, anchor)
	entry := func(public, id string) {
		name := w.product.nameOf(public)
		if name == "" {
			name = "(no name)"
		}
		fmt.Fprintf(&b, "  %-14s %s\n", name, id)
	}
	for _, role := range set.Roles() {
		keys, _ := set.Keys(role)
		fmt.Fprintf(&b, "\n%s: %d of %s must sign; %s\n", role, keys.Threshold, count(len(keys.Keys), "key"), what(role))
		for _, k := range keys.Keys {
			entry(k.String(), k.ID())
		}
	}
	fmt.Fprintf(&b, "\n%s: %s\n", artifactRole, what(artifactRole))
	for _, text := range trust.Minisign {
		entry(text, text)
	}
	b.WriteString(sheetRules)
	return []byte(b.String()), nil
}

// firstRootDigest is what a person compares on a launcher: sha256sum of the root it was installed with.
func (w *workspace) firstRootDigest(set *manifest.Set) (string, error) {
	for _, f := range set.Files() {
		if f.Name == "metadata/1.root.json" {
			sum := sha256.Sum256(f.Data)
			return hex.EncodeToString(sum[:]), nil
		}
	}
	return "", errors.New("the metadata has no first root")
}
