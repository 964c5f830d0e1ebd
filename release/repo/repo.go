// Package repo publishes a repository so that whoever reads it while it changes sees either all of the
// old one or all of the new one.
//
// A repository is a tree of files that never change once they exist, and one pointer, timestamp.json,
// which names (through signed metadata) everything else. Publish writes the files that nobody points to
// yet, each one whole and durable, and replaces the pointer as its very last act. A file that exists with
// other bytes is never replaced: Publish refuses before it has written anything.
//
// The package knows names, order and bytes. It does not sign, does not verify a signature and does not
// delete: files that an older pointer names stay, because a reader that has begun may still want them.
package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// Pointer is the name of the only file of a repository that is ever replaced.
const Pointer = "metadata/timestamp.json"

var (
	// ErrConflict says that a name which may never change exists already with other bytes.
	ErrConflict = errors.New("exists with other bytes")
	// ErrBusy says that somebody else is publishing to the same place.
	ErrBusy = errors.New("somebody else is publishing there")
	// ErrTooLong says that a file is longer than the caller allows.
	ErrTooLong = errors.New("longer than allowed")
)

// Store is a place that holds a repository: a folder, or an object store. Names are relative, with
// slashes. What is missing satisfies errors.Is(err, fs.ErrNotExist).
type Store interface {
	// Get returns a whole small file, or ErrTooLong.
	Get(ctx context.Context, name string, maxBytes int64) ([]byte, error)
	// Open returns a file to be streamed, and its size in bytes.
	Open(ctx context.Context, name string) (io.ReadCloser, int64, error)
	// Put makes f.Name hold the bytes of f. A reader sees what was there before or all of the new bytes,
	// whatever interrupts Put; when it returns nil the bytes are durable. Two Puts of one name at the
	// same time are for Lock to prevent.
	Put(ctx context.Context, f File) error
	// Lock excludes other publishers until unlock is called. It never waits: ErrBusy. A store without locks
	// notes instead which pointer is there, and its Put then refuses (ErrBusy) to replace another one, and
	// (fs.ErrExist) to replace any other file.
	Lock(ctx context.Context) (unlock func(), err error)
}

var validName = regexp.MustCompile(`^[a-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$`)

// checkName refuses what could leave the tree or hide in it: absolute names, "..", and parts that begin
// with a dot (those are the half-written files of Dir).
func checkName(name string) error {
	if len(name) > 512 || !validName.MatchString(name) || strings.Contains(name, "..") {
		return fmt.Errorf("name %q is not allowed in a repository", name)
	}
	return nil
}
