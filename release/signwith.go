package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/turnstone-go/turnstone/manifest"
)

// candidate is the secret half of a key that can be used here: a file in keys/, or a command of the product file.
type candidate struct {
	name  string
	role  string
	file  string   // "" for a command
	entry keyEntry // what the product file says of it, empty if nothing
}

// candidates are those of a role, in the order in which they are tried.
func (w *workspace) candidates(role string) ([]candidate, error) {
	files, err := keyFiles(w.disk, w.keys(), role)
	if err != nil {
		return nil, err
	}
	var list []candidate
	for _, file := range files {
		entry, _ := w.product.named(keyName(file))
		list = append(list, candidate{keyName(file), role, file, entry})
	}
	for _, e := range w.product.Keys {
		if of, _ := w.product.roleOf(e.Name); of == role && e.Signer != "" {
			list = append(list, candidate{e.Name, role, "", e})
		}
	}
	return list, nil
}

// String says where the secret is.
func (c candidate) String() string {
	if c.file == "" {
		return "key " + c.name + " (" + c.entry.Signer + ")"
	}
	return "key file " + c.file
}

// public returns the public half as it is written, without asking for a passphrase: "" if only the passphrase
// would show it. A file that cannot be used is an error.
func (w *workspace) public(c candidate) (text string, encrypted bool, err error) {
	if c.file == "" {
		return c.entry.Public, false, nil
	}
	data, err := readKey(w.disk, c.file)
	if err != nil {
		return "", false, err
	}
	if manifest.Encrypted(data) {
		return c.entry.Public, true, nil
	}
	if c.role == artifactRole {
		k, err := w.parseArtifactKey(c.file, data)
		return k.Public(), false, err
	}
	k, err := w.parseKey(c.file, data)
	if err != nil {
		return "", false, err
	}
	return k.Public().String(), false, nil
}

// signer opens a candidate of a role of the metadata.
func (w *workspace) signer(c candidate) (manifest.Signer, error) {
	if c.file == "" {
		return w.command(c)
	}
	return w.readKey(c.file)
}

// command is refused while others can write the product file: they could name a program of theirs.
func (w *workspace) command(c candidate) (manifest.Signer, error) {
	file := filepath.Join(w.path, productFile)
	info, err := w.disk.Lstat(file)
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 {
		return nil, refuse("%s can be changed by others, who could have %v run what they like: run 'chmod go-w %s'", file, c, file)
	}
	argv, err := parseExec(c.entry.Signer)
	if err != nil {
		return nil, err
	}
	public, err := c.entry.key(c.role)
	if err != nil {
		return nil, usage("%s: key %s: %w", productFile, c.name, err)
	}
	return execSigner{w.ctx, c.name, public, argv, execTime}, nil
}

// readKey reads a key file and opens it with a passphrase if it has one.
func (w *workspace) readKey(file string) (manifest.Key, error) {
	data, err := readKey(w.disk, file)
	if err != nil {
		return manifest.Key{}, err
	}
	return w.parseKey(file, data)
}

func (w *workspace) parseKey(file string, data []byte) (manifest.Key, error) {
	if !manifest.Encrypted(data) {
		k, err := manifest.ParseKey(data)
		if err != nil {
			return k, refuse("key file %s: %w: bring back the file that this tool wrote", file, err)
		}
		return k, nil
	}
	passphrase, err := w.pass.of(keyName(file))
	if err != nil {
		return manifest.Key{}, fmt.Errorf("key file %s is encrypted: %w", file, err)
	}
	k, err := manifest.DecryptKey(data, passphrase)
	if err != nil {
		return k, refuse("key file %s: %w: nothing was changed", file, err)
	}
	return k, nil
}

func (w *workspace) parseArtifactKey(file string, data []byte) (manifest.ArtifactKey, error) {
	var passphrase []byte
	if manifest.Encrypted(data) {
		var err error
		if passphrase, err = w.pass.of(keyName(file)); err != nil {
			return manifest.ArtifactKey{}, fmt.Errorf("key file %s is encrypted: %w", file, err)
		}
	}
	k, err := manifest.ParseArtifactKey(data, string(passphrase))
	if err != nil {
		return k, refuse("key file %s: %w: nothing was changed", file, err)
	}
	return k, nil
}

// sign adds what the keys here can add to a role, until nothing is missing. Keys that are elsewhere are not an
// error. A key that is none of the role's is one, unless it is being replaced: without it nobody would see why
// the signature is missing.
func (w *workspace) sign(set *manifest.Set, role string) error {
	list, err := w.candidates(role)
	if err != nil {
		return err
	}
	var stranger error
	for _, c := range list {
		if set.Missing()[role] == 0 {
			return nil
		}
		err := w.signWith(set, role, c)
		switch {
		case errors.Is(err, manifest.ErrNotAKey):
			stranger = refuse("%v is no key of role %s: move it away", c, role)
		case errors.Is(err, errElsewhere):
		case err != nil:
			return err
		}
	}
	if set.Missing()[role] == 0 {
		return nil
	}
	return stranger
}

// signWith returns ErrNotAKey for a key that is none of the role's and was none before.
func (w *workspace) signWith(set *manifest.Set, role string, c candidate) error {
	text, _, err := w.public(c)
	if err != nil {
		return err
	}
	if public, err := manifest.ParsePublicKey(text); err == nil {
		if set.SignedBy(role, public) {
			return nil
		}
		if !set.MaySign(role, public) {
			return w.orReplaced(role, public)
		}
	}
	signer, err := w.signer(c)
	if err != nil {
		return err
	}
	if !set.MaySign(role, signer.Public()) { // only the passphrase showed which key it is
		return w.orReplaced(role, signer.Public())
	}
	if err := set.Sign(role, signer); err != nil {
		return fmt.Errorf("sign %s with %v: %w", role, c, asRefusal(err))
	}
	return nil
}

// orReplaced is ErrNotAKey unless the key signs for the role in another of the sets that were loaded: what is
// published while a draft replaces the key, or the draft.
func (w *workspace) orReplaced(role string, public manifest.PublicKey) error {
	if slices.ContainsFunc(w.loaded, func(s *manifest.Set) bool { return s.MaySign(role, public) }) {
		return nil
	}
	return manifest.ErrNotAKey
}

// asRefusal gives a device that signs wrongly its exit code: nothing has changed.
func asRefusal(err error) error {
	if errors.Is(err, manifest.ErrSigner) {
		return refuse("%w: look at which key the command uses", err)
	}
	return err
}

// artifactKey is the newest of the trusted artifact keys that is here.
func (w *workspace) artifactKey(set *manifest.Set) (manifest.ArtifactKey, error) {
	var none manifest.ArtifactKey
	trust, err := loadTrust(set)
	if err != nil {
		return none, err
	}
	list, err := w.candidates(artifactRole)
	if err != nil {
		return none, err
	}
	if len(list) == 0 {
		return none, checkMode(w.disk, w.keyFile(artifactRole)) // says that it is not there
	}
	best, at := none, -1
	for _, c := range list {
		k, err := w.openArtifactKey(trust, c)
		if err != nil {
			return none, err
		}
		if i := slices.Index(trust.Minisign, k.Public()); i > at {
			best, at = k, i
		}
	}
	if at < 0 {
		return none, refuse("%v is not trusted by %s: bring the one that is ('release keys' lists it)", list[0], trustPath)
	}
	return best, nil
}

// openArtifactKey spares the passphrase of a key that is known not to count.
func (w *workspace) openArtifactKey(trust manifest.Trust, c candidate) (manifest.ArtifactKey, error) {
	text, encrypted, err := w.public(c)
	if err != nil {
		return manifest.ArtifactKey{}, err
	}
	if c.file == "" {
		device, err := w.command(c)
		if err != nil {
			return manifest.ArtifactKey{}, err
		}
		return manifest.DeviceArtifactKey(text, device)
	}
	if encrypted && text != "" && !slices.Contains(trust.Minisign, text) {
		return manifest.ArtifactKey{}, nil
	}
	data, err := readKey(w.disk, c.file)
	if err != nil {
		return manifest.ArtifactKey{}, err
	}
	return w.parseArtifactKey(c.file, data)
}
