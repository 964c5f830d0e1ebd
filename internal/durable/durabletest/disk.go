// Package durabletest is a disk in memory that loses power where a test says, and then holds what a real
// one might hold.
//
// It is harsher than any file system, so that code which survives it owes nothing to the kindness of one.
// Bytes written since the last Sync survive sector by sector, each by the throw of a seeded die; so does
// the new length, and a length without its bytes reads as zeros. Names changed since the last SyncDir
// survive one by one, and a rename is two such changes. A Sync that fails forgets what it had to write,
// as Linux does: only writing again helps. An injected failure of a write leaves a first part of it behind.
//
// The umask is 077. Not modelled: links, permissions (modes are kept, never enforced), and drives that lose
// what they had said was synced.
package durabletest

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// ErrPower is what every operation answers from the cut on.
var ErrPower = errors.New("power cut")

// umask takes these bits from what Mkdir and OpenFile make, as that of a careful administrator does.
const umask = 0o077

// Op is one counted operation. Kind is create, write, allocate, truncate, sync, chmod, mkdir, rename, remove or
// syncdir: those that change the disk or make a change durable. Reading is not counted, since a cut
// before it is a cut before the next operation.
type Op struct{ Kind, Name string }

// Disk is a durable.Disk in memory. It is safe for concurrent use. Its root exists, and relative and
// absolute names mean the same.
type Disk struct {
	mu   sync.Mutex
	root *node
	ops  int
	cut  int // operations that still succeed; negative: no cut is planned
	how  Cut
	dead bool
	rng  *rand.Rand // of torn writes and of writes that fail half way
	fail func(Op) error
	ends func()
	film func()
}

var _ durable.Disk = (*Disk)(nil)

// New returns an empty disk.
func New() *Disk {
	return &Disk{root: newDir(0o755), cut: -1, rng: rand.New(rand.NewPCG(1, 1))}
}

// Fail makes every operation ask f first; what it returns, unless nil, is the operation's answer.
func (d *Disk) Fail(f func(Op) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = f
}

// Ops is the number of operations so far.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// OpenFile opens or creates a regular file, or opens a directory for Stat alone.
func (d *Disk) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return nil, pathError("open", name, d.power())
	}
	dir, base, n, err := d.find(name)
	writes := flag&(os.O_WRONLY|os.O_RDWR) != 0
	switch {
	case err != nil:
		return nil, pathError("open", name, err)
	case n == nil && flag&os.O_CREATE == 0:
		return nil, pathError("open", name, fs.ErrNotExist)
	case n != nil && flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return nil, pathError("open", name, fs.ErrExist)
	case n != nil && n.dir() && (writes || flag&os.O_CREATE != 0):
		return nil, pathError("open", name, errIsDir)
	case n == nil:
		n = newFile(perm.Perm() &^ umask)
		err = d.do(Op{"create", name}, func() { dir.names[base] = n })
	case flag&os.O_TRUNC != 0 && writes:
		err = d.do(Op{"truncate", name}, func() { n.truncate(0) })
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return &file{disk: d, node: n, name: name, flag: flag}, nil
}

// ReadDir lists a directory in the order of the names.
func (d *Disk) ReadDir(name string) ([]fs.DirEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.lookup(name)
	if err == nil && !n.dir() {
		err = errNotDir
	}
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	var entries []fs.DirEntry
	for base, child := range n.names {
		entries = append(entries, fs.FileInfoToDirEntry(child.info(base)))
	}
	sort.Slice(entries, func(i, k int) bool { return entries[i].Name() < entries[k].Name() })
	return entries, nil
}

// Lstat describes a file or directory.
func (d *Disk) Lstat(name string) (fs.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.lookup(name)
	if err != nil {
		return nil, pathError("lstat", name, err)
	}
	return n.info(filepath.Base(filepath.Clean(name))), nil
}

// Mkdir makes a directory whose parent exists.
func (d *Disk) Mkdir(name string, perm fs.FileMode) error {
	return d.change("mkdir", name, func(dir *node, base string, n *node) (func(), error) {
		if n != nil {
			return nil, fs.ErrExist
		}
		return func() { dir.names[base] = newDir(perm.Perm() &^ umask) }, nil
	})
}

// Chmod changes a mode; Sync of the file, or SyncDir of the directory, makes it durable.
func (d *Disk) Chmod(name string, perm fs.FileMode) error {
	return d.change("chmod", name, func(_ *node, _ string, n *node) (func(), error) {
		if n == nil {
			return nil, fs.ErrNotExist
		}
		return func() { n.mode = n.mode.Type() | perm.Perm() }, nil
	})
}

// Remove removes a file or an empty directory. Open files live on without a name.
func (d *Disk) Remove(name string) error {
	return d.change("remove", name, func(dir *node, base string, n *node) (func(), error) {
		switch {
		case n == nil:
			return nil, fs.ErrNotExist
		case n == d.root || len(n.names) > 0:
			return nil, errNotEmpty
		}
		return func() { delete(dir.names, base) }, nil
	})
}

// Rename gives a file or directory another name. A file replaces a file; nothing replaces a directory.
func (d *Disk) Rename(from, to string) error {
	return d.change("rename", from, func(dir *node, base string, n *node) (func(), error) {
		toDir, toBase, old, err := d.find(to)
		switch {
		case err != nil:
			return nil, err
		case n == nil:
			return nil, fs.ErrNotExist
		case n == d.root:
			return nil, errNotEmpty
		case old != nil && (old.dir() || n.dir()): // as os.Rename, on every system
			return nil, fs.ErrExist
		case old == n:
			return func() {}, nil
		}
		return func() { delete(dir.names, base); toDir.names[toBase] = n }, nil
	})
}

// SyncDir makes the names in a directory durable.
func (d *Disk) SyncDir(name string) error {
	return d.change("syncdir", name, func(_ *node, _ string, n *node) (func(), error) {
		if n == nil {
			return nil, fs.ErrNotExist
		}
		if !n.dir() {
			return nil, errNotDir
		}
		return n.sync, nil
	})
}

// Free is plenty, always.
func (d *Disk) Free(name string) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.lookup(name); err != nil {
		return 0, pathError("free space of", name, err)
	}
	return 1 << 50, nil
}

var (
	errIsDir    = errors.New("is a directory")
	errNotDir   = errors.New("not a directory")
	errNotEmpty = errors.New("directory not empty")
	errBadFile  = errors.New("file not open for this")
)

func pathError(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// change runs one operation on a name. The plan checks what it needs and returns what would change.
func (d *Disk) change(kind, name string, plan func(dir *node, base string, n *node) (func(), error)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return pathError(kind, name, d.power())
	}
	dir, base, n, err := d.find(name)
	if err == nil {
		var effect func()
		if effect, err = plan(dir, base, n); err == nil {
			err = d.do(Op{kind, name}, effect)
		}
	}
	if err != nil {
		return pathError(kind, name, err)
	}
	return nil
}

// find resolves a name to its directory and node; the node is nil if only the last element is missing.
func (d *Disk) find(name string) (dir *node, base string, n *node, err error) {
	parts := strings.FieldsFunc(filepath.ToSlash(filepath.Clean(name)), func(r rune) bool { return r == '/' })
	n = d.root
	for i, part := range parts {
		if part == "." {
			continue
		}
		if !n.dir() {
			return nil, "", nil, errNotDir
		}
		dir, base = n, part
		if n = dir.names[part]; n == nil && i < len(parts)-1 {
			return nil, "", nil, fs.ErrNotExist
		}
	}
	return dir, base, n, nil
}

func (d *Disk) lookup(name string) (*node, error) {
	if d.dead {
		return nil, d.power()
	}
	_, _, n, err := d.find(name)
	if err == nil && n == nil {
		err = fs.ErrNotExist
	}
	return n, err
}
