package durable

import (
	"errors"
	"io/fs"
)

// ErrNotOurs says that another account can change a file or folder: it belongs to that account, or may be written by
// it, or has a second name somewhere else.
var ErrNotOurs = errors.New("can be changed by another account")

// Ours returns nil if the file or folder of that name, which Lstat described by info, is this account's or the
// system's, and nobody else may write to it. A link is nobody's: it is refused whoever made it. The error wraps
// ErrNotOurs and names the path and what to do.
//
// On Linux the owner, the mode and the number of names count. On Windows the access list of the folder above
// everything decides who may write (launcher/host checks it), and here only a second name is looked for.
func Ours(name string, info fs.FileInfo) error { return ours(name, info) }
