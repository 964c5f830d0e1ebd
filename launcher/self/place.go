package self

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/minio/selfupdate"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// ErrRefused says that the bytes are not those that were signed. Nothing has changed.
var ErrRefused = errors.New("not the launcher that was signed")

// Artifact is a launcher as it was signed.
type Artifact struct {
	Launcher
	Minisig string   // the signature file, whole
	Keys    []string // minisign public keys, any of which may have made it
}

// maxBytes bounds a launcher: selfupdate holds all of it in memory. A real one has 20 MB.
const maxBytes = 256 << 20

// Place verifies a launcher and puts it into its folder. It returns an error that is ErrRefused if the bytes are
// wrong. Once it has returned nil the file survives a power cut; if power fails before, what is there of it is
// found by its digest to be worthless, and nobody starts it. It is written by minio/selfupdate, which verifies
// it first, renames twice and syncs nothing: harmless in a folder that nothing points to, and synced here.
func (f *Folder) Place(a Artifact, r io.Reader) error {
	if !digestForm.MatchString(a.Digest) {
		return fmt.Errorf("%w: %q is no digest", ErrRefused, a.Digest)
	}
	switch whole, err := f.whole(a.Digest); {
	case err != nil:
		return err
	case whole:
		return f.seal(a.Digest) // a process that died before may not have synced it
	}
	data, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return fmt.Errorf("read the new launcher: %w", err)
	}
	verifier, err := f.check(a, data)
	if err != nil {
		return err
	}
	if err := f.clear(a.Digest); err != nil {
		return fmt.Errorf("make room for the new launcher: %w", err)
	}
	sum, _ := hex.DecodeString(a.Digest) // it has the form
	err = f.sys.Apply(bytes.NewReader(data), selfupdate.Options{
		TargetPath: f.File(a.Digest), Checksum: sum, Verifier: verifier, TargetMode: 0o755, OldSavePath: f.displaced(a.Digest),
	})
	if err == nil {
		err = f.seal(a.Digest)
	}
	if err != nil {
		return fmt.Errorf("place the new launcher: %w", errors.Join(err, durable.RemoveAll(f.sys.Disk, filepath.Dir(f.File(a.Digest)))))
	}
	return nil
}

// check compares the bytes with what was signed, before anything is written, and returns the signature in the
// form of selfupdate, which reads it from a file.
func (f *Folder) check(a Artifact, data []byte) (*selfupdate.Verifier, error) {
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != a.Digest {
		return nil, fmt.Errorf("%w: sha256 is %x, signed is %s", ErrRefused, sum, a.Digest)
	}
	file, err := os.CreateTemp("", "launcher-*.minisig")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(a.Minisig)
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	for _, key := range a.Keys {
		v := selfupdate.NewVerifier()
		if v.LoadFromFile(file.Name(), key) == nil && v.Verify(data) == nil {
			return v, nil
		}
	}
	return nil, fmt.Errorf("%w: no trusted minisign key has signed it", ErrRefused)
}

// displaced is where selfupdate moves the empty file that it needs to find in the place of the new one.
func (f *Folder) displaced(digest string) string { return f.File(digest) + ".displaced" }

// clear makes an empty folder for a launcher, with the empty file that selfupdate wants to displace.
func (f *Folder) clear(digest string) error {
	dir := filepath.Dir(f.File(digest))
	if err := durable.RemoveAll(f.sys.Disk, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := durable.MkdirAll(f.sys.Disk, dir, 0o755); err != nil {
		return err
	}
	return durable.WriteFile(f.sys.Disk, f.File(digest), nil, 0o755)
}

// seal makes a launcher that is in its place durable.
func (f *Folder) seal(digest string) error {
	d := f.sys.Disk
	for _, litter := range []string{f.displaced(digest), f.File(digest) + ".tmp"} {
		if err := d.Remove(litter); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := d.Chmod(f.File(digest), 0o755); err != nil {
		return err
	}
	file, err := d.OpenFile(f.File(digest), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := file.Sync(); err != nil { // from now on the system may call it written, and a second Sync be content
		return errors.Join(err, file.Close(), durable.RemoveAll(d, filepath.Dir(f.File(digest))))
	}
	if err := errors.Join(file.Close(), d.SyncDir(filepath.Dir(f.File(digest)))); err != nil {
		return err
	}
	switch whole, err := f.whole(digest); {
	case err != nil:
		return err
	case !whole:
		return fmt.Errorf("%s does not hold what was written", f.File(digest))
	}
	return durable.MkdirAll(d, filepath.Dir(f.File(digest)), 0o755)
}

// whole says whether the launcher with this digest is in its place. While another program has it open nobody knows.
func (f *Folder) whole(digest string) (bool, error) {
	sum, err := FileDigest(f.sys.Disk, f.File(digest))
	if err != nil && !durable.Busy(err) {
		return false, nil // it is not there, or the disk does not give it back
	}
	return sum == digest, err
}

// FileDigest is the digest of a launcher's file.
func FileDigest(d durable.Disk, name string) (string, error) {
	r, err := d.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(r, maxBytes)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Keep puts the launcher that runs into the folder, so that there is a way back to it, and returns what it is.
// Its bytes are whatever was installed: who could write them decided what runs already.
func (f *Folder) Keep(exe, version string) (Launcher, error) {
	l := Launcher{Version: version}
	data, err := durable.ReadFile(f.sys.Disk, exe, maxBytes)
	if err != nil {
		return l, fmt.Errorf("keep the launcher that runs: %w", err)
	}
	sum := sha256.Sum256(data)
	l.Digest = hex.EncodeToString(sum[:])
	if r, err := f.Record(); err == nil && r.Now.Digest == l.Digest {
		l = r.Now
	}
	dir := filepath.Dir(f.File(l.Digest))
	if err := durable.MkdirAll(f.sys.Disk, dir, 0o755); err != nil {
		return l, fmt.Errorf("keep the launcher that runs: %w", err)
	}
	switch whole, err := f.whole(l.Digest); {
	case err != nil:
		return l, fmt.Errorf("keep the launcher that runs: %w", err)
	case whole: // its bytes were synced before it got its name, or before it was started
		return l, f.sys.Disk.SyncDir(dir)
	}
	return l, durable.WriteFile(f.sys.Disk, f.File(l.Digest), data, 0o755)
}

// Collect removes every launcher but those given and those that a record names. If a record cannot be read it
// removes nothing.
func (f *Folder) Collect(keep ...string) error {
	r, err := f.Record()
	t, terr := f.Trial()
	if err := errors.Join(err, terr); err != nil {
		return err
	}
	keep = append(keep, r.Now.Digest, r.Previous)
	if t != nil {
		keep = append(keep, t.Target.Digest, t.Previous.Digest)
	}
	entries, err := f.sys.Disk.ReadDir(f.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		digest, _, _ := strings.Cut(e.Name(), ".") // DIGEST.part is a download
		if digestForm.MatchString(digest) && !slices.Contains(keep, digest) {
			err = errors.Join(err, durable.RemoveAll(f.sys.Disk, filepath.Join(f.dir, e.Name())))
		}
	}
	return err
}
