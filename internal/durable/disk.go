// Package durable writes bytes that survive a power cut: when a call returns nil, what it says is true
// after the lights come back.
//
// The invariant is one order of events, and every durable write of the project goes through it: write,
// Sync, and only then publish (a rename, or a checksum that becomes right), and after a change of names
// SyncDir. Two physical facts are behind it. A file's bytes reach the disk in any order, or not at all,
// until Sync returns nil. A name reaches the disk apart from the bytes that it names, until its directory
// is synced.
//
// There are two ways to die, and they differ. When the machine loses power, what was not synced is lost in
// part. When only the process is killed, the next one sees everything that was written although none of it
// may be on the disk yet: who finds bytes or names of a dead predecessor syncs them before building on them.
//
// The package does not serialise writers (one record, one writer; see Lock), does not know what the bytes
// mean, and cannot help against a drive that says "synced" and lies.
package durable

import (
	"io"
	"io/fs"
)

// File is an open file of a Disk.
type File interface {
	io.Reader
	io.Writer
	io.ReaderAt
	io.WriterAt
	io.Seeker
	io.Closer
	Name() string
	Stat() (fs.FileInfo, error)
	// Sync makes the file's bytes, size and mode durable, but not its name. After an error the bytes
	// written since the last good Sync must be written again: a second Sync may return nil without
	// having written anything, because the kernel has marked the failed pages clean.
	Sync() error
	Truncate(sizeBytes int64) error
	// Allocate takes the space for the file's first sizeBytes bytes now, so that writing them does not run
	// out of it later, and leaves the length as it is: what has been written is still told by Stat. It is no
	// promise where the file system cannot make one (NFS, ZFS), and on Windows it holds until Close.
	Allocate(sizeBytes int64) error
}

// Disk is every operation with which the launcher and the release tool change or read durable bytes.
// OS returns the real one; tests replace it by one that loses power (package durabletest).
type Disk interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	ReadDir(name string) ([]fs.DirEntry, error)
	Lstat(name string) (fs.FileInfo, error)
	Mkdir(name string, perm fs.FileMode) error
	Chmod(name string, perm fs.FileMode) error
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	// Free is what this account can still write on the file system of a directory, in bytes.
	Free(name string) (int64, error)
}
