// Package store keeps versions on disk, each in a sealed folder that is never written again: what Verify
// lets pass are the bytes that the vendor signed.
//
// A version is sealed when its seal file exists, and the seal is written last, when all it vouches for is
// durable; it is removed first. So after any crash a version is whole and sealed, or it is not there. A
// second record beside the seal, proven, says that the version once passed its probation on this host.
//
//	DIR/staging/DIGEST.part            filled by the fetcher, and taken by Seal
//	DIR/NUMBER-DIGEST16/tree/FILE      what the payload sees; DIGEST16 is the start of the digest
//	DIR/NUMBER-DIGEST16/archive        what the tree was unpacked from, if the version is an archive
//	DIR/NUMBER-DIGEST16/seal.json      the version, and every file of the tree with its size and SHA-256
//	DIR/NUMBER-DIGEST16/proven.json    the version again
//
// The store does not check signatures (manifest does; Genuine asks it before an archive is unpacked), does not decide
// what to keep (the engine does), and does not lock. Seal, Prove and Collect have one caller at a time; everything else may run beside them.
package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"

	"github.com/turnstone-go/turnstone/internal/archive"
	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// Errors of Seal.
var (
	ErrNotStaged = errors.New("not downloaded, or not to its end")        // fetch, then seal again
	ErrDigest    = errors.New("bytes differ from those of the digest")    // evidence against the download; it is removed
	ErrContent   = errors.New("the archive is not what its release says") // evidence against the version
)

// Errors of Verify and Prove.
var (
	ErrNotSealed = errors.New("version is not sealed")
	ErrDamaged   = errors.New("version is damaged on disk") // fetch it again; Seal then replaces it
)

// ErrName says that a version's number, digest or file cannot be part of a path.
var ErrName = errors.New("version has an impossible name")

// Store is a folder of versions.
type Store struct {
	// Genuine is asked about the file of an archive before a byte of it is read as one, and its error ends Seal. Nil is
	// for who has asked already.
	Genuine func(ctx context.Context, v journal.Version, file string) error

	disk durable.Disk
	dir  string
	lost string // the staged file whose Sync failed, while it is not removed

	found map[string]bool // the staged files of an earlier launcher: nobody knows whether a Sync of them failed
}

// Open prepares a store folder, making it where it is missing. The folders can be entered by everybody,
// since payloads run from them under other accounts, and written by the launcher's account alone.
//
// If power fails before it returns, the next Open goes on.
func Open(d durable.Disk, dir string) (*Store, error) {
	s := &Store{disk: d, dir: dir, found: map[string]bool{}}
	for _, name := range []string{dir, s.staging()} {
		if err := s.mkdir(name); err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
		info, err := d.Lstat(name)
		if err == nil {
			err = durable.Ours(name, info)
		}
		if err != nil {
			return nil, fmt.Errorf("open store: %w", err)
		}
	}
	entries, err := d.ReadDir(s.staging())
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	for _, e := range entries {
		s.found[filepath.Join(s.staging(), e.Name())] = true
	}
	return s, nil
}

// Staged is the path of the file that the fetcher fills for a version. The path is empty if the version
// has an impossible name, as are those of Dir and File.
func (s *Store) Staged(v journal.Version) string {
	if checkName(v) != nil {
		return ""
	}
	return filepath.Join(s.staging(), v.Digest+".part")
}

// Dir is the folder that holds a version's files and nothing else, File its executable, and Artifact the bytes
// that were downloaded and signed: the executable, or the archive that it came in. They exist once it is sealed.
func (s *Store) Dir(v journal.Version) string {
	if checkName(v) != nil {
		return ""
	}
	return s.tree(v)
}

func (s *Store) File(v journal.Version) string {
	if checkName(v) != nil {
		return ""
	}
	if v.Format != "" {
		return filepath.Join(s.tree(v), filepath.FromSlash(v.Main))
	}
	return filepath.Join(s.tree(v), v.File)
}

func (s *Store) Artifact(v journal.Version) string {
	if checkName(v) != nil {
		return ""
	}
	return s.artifact(v)
}

func (s *Store) artifact(v journal.Version) string {
	if v.Format != "" {
		return filepath.Join(s.home(v), "archive")
	}
	return filepath.Join(s.tree(v), v.File)
}

func (s *Store) staging() string               { return filepath.Join(s.dir, "staging") }
func (s *Store) home(v journal.Version) string { return filepath.Join(s.dir, homeName(v)) }
func (s *Store) tree(v journal.Version) string { return filepath.Join(s.home(v), "tree") }
func sealName(home string) string              { return filepath.Join(home, "seal.json") }
func proofName(home string) string             { return filepath.Join(home, "proven.json") }
func homeName(v journal.Version) string        { return v.Number + "-" + v.Digest[:16] }

// mkdir makes a durable folder with a mode that the umask does not narrow.
func (s *Store) mkdir(name string) error {
	if err := durable.MkdirAll(s.disk, name, 0o755); err != nil {
		return err
	}
	return s.disk.Chmod(name, 0o755)
}

// What may be part of a path. Upper case is refused where names of versions could collide on a disk that
// ignores it; a dot at the start of a file hides it, and Windows drops one at the end.
var (
	numberForm = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9a-z.-]+)?$`)
	digestForm = regexp.MustCompile(`^[0-9a-f]{64}$`)
	fileForm   = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._+-]*[A-Za-z0-9_+-])?$`)
	homeForm   = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9a-z.-]+)?-[0-9a-f]{16}$`)
)

const maxName = 100 // bytes of a number or a file name: Windows paths are short

func checkName(v journal.Version) error {
	switch {
	case !numberForm.MatchString(v.Number) || len(v.Number) > maxName:
		return fmt.Errorf("%w: number %.120q", ErrName, v.Number)
	case !digestForm.MatchString(v.Digest):
		return fmt.Errorf("%w: digest %.120q", ErrName, v.Digest)
	case !fileForm.MatchString(v.File) || len(v.File) > maxName:
		return fmt.Errorf("%w: file %.120q", ErrName, v.File)
	case v.Format == "":
		return nil
	case !archive.Format(v.Format).Known() || archive.CheckPath(v.Main) != nil:
		return fmt.Errorf("%w: program %.120q in an archive of format %.20q", ErrName, v.Main, v.Format)
	}
	return nil
}
