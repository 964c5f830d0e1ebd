package durable

import (
	"errors"
	"io/fs"
)

// ErrNotOurs says that a file or folder belongs to another account or may be written by it, or that it may be another
// file as well: it is a link, or has a second name somewhere else.
var ErrNotOurs = errors.New("is not this account's alone")

// Ours returns nil if the file or folder of that name, which Lstat described by info, is this account's or the
// system's, and nobody else may write to it. A link is nobody's: it is refused whoever made it. The error wraps
// ErrNotOurs and names the path and what to do.
//
// On Linux the owner and the mode count. They belong to the file and not to its name, so a second name lets nobody
// write who may not anyway: perf keeps every program that it has seen by one, and backups do the like. On Windows the
// access list of the folder above everything decides who may write (launcher/host checks it); a file with a second name
// can have come with a list of its own, and is refused.
func Ours(name string, info fs.FileInfo) error { return ours(name, info) }

// OursAlone is Ours for a file that is written, or given a mode, where it lies: one with a second name is refused on
// every system. Whoever planted that name would else choose what file of ours is changed.
func OursAlone(name string, info fs.FileInfo) error { return oursAlone(name, info) }
