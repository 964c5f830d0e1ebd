package durabletest

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// sector is the unit in which a real drive writes a whole or nothing.
const sector = 512

// node is a file or a directory, each as the system shows it and as the platters hold it.
type node struct {
	mode, safeMode fs.FileMode

	names, safeNames map[string]*node // of a directory

	bytes, safeBytes []byte       // of a file; safeBytes are replaced, never changed
	shared           bool         // bytes belong to somebody else as well: copy them before a change
	dirty            map[int]bool // sectors whose bytes are to be written by the next sync
}

func newDir(perm fs.FileMode) *node {
	mode := fs.ModeDir | perm
	return &node{mode: mode, safeMode: mode, names: map[string]*node{}, safeNames: map[string]*node{}}
}

func newFile(perm fs.FileMode) *node {
	return &node{mode: perm, safeMode: perm, dirty: map[int]bool{}}
}

func (n *node) dir() bool { return n.mode.IsDir() }

func (n *node) write(p []byte, off int64) {
	end := int(off) + len(p)
	n.resize(max(end, len(n.bytes)))
	copy(n.bytes[off:], p)
	n.soil(int(off), end)
}

func (n *node) truncate(size int) {
	n.soil(min(size, len(n.bytes)), max(size, len(n.bytes)))
	n.resize(size)
}

// resize makes bytes the given length, and this node's own.
func (n *node) resize(size int) {
	if n.shared {
		n.bytes, n.shared = slices.Clone(n.bytes), false
	}
	if size <= len(n.bytes) {
		n.bytes = n.bytes[:size:size]
		return
	}
	n.bytes = append(n.bytes, make([]byte, size-len(n.bytes))...)
}

// soil marks the sectors that hold bytes from up to and without to.
func (n *node) soil(from, to int) {
	for s := from / sector; s*sector < to; s++ {
		n.dirty[s] = true
	}
}

// sync makes durable what is dirty, and nothing else: sectors that a failed sync forgot stay forgotten.
func (n *node) sync() {
	n.safeMode = n.mode
	if n.dir() {
		n.safeNames = maps.Clone(n.names)
		return
	}
	n.safeBytes = n.mix(len(n.bytes), func() bool { return true })
	clear(n.dirty)
}

// mix returns size bytes of which the dirty sectors are new where pick says so, and all others old.
func (n *node) mix(size int, pick func() bool) []byte {
	if len(n.dirty) == 0 && size == len(n.safeBytes) {
		return n.safeBytes
	}
	out := make([]byte, size)
	copy(out, n.safeBytes)
	for s := 0; s*sector < size; s++ {
		if !n.dirty[s] || !pick() {
			continue
		}
		from, to := s*sector, min((s+1)*sector, size)
		clear(out[from:to])
		copy(out[from:to], n.bytes[min(from, len(n.bytes)):])
	}
	return out
}

// die decides what of the things not synced survives.
type die func() bool

func newDie(seed uint64) die {
	switch seed {
	case 0:
		return func() bool { return false }
	case 1:
		return func() bool { return true }
	}
	rng := rand.New(rand.NewPCG(seed, seed))
	return func() bool { return rng.IntN(2) == 0 }
}

// crashed returns what is found after the cut: everything that survived is durable now. A node that had
// two names keeps being one node.
func (n *node) crashed(survives die, seen map[*node]*node) *node {
	if c := seen[n]; c != nil {
		return c
	}
	c := &node{mode: n.safeMode, dirty: map[int]bool{}}
	seen[n] = c
	if survives() {
		c.mode = n.mode
	}
	c.safeMode = c.mode
	if !n.dir() {
		size := len(n.safeBytes)
		if survives() {
			size = len(n.bytes)
		}
		c.safeBytes = n.mix(size, survives)
		c.bytes, c.shared = c.safeBytes, true
		return c
	}
	c.names = map[string]*node{}
	for _, name := range namesOf(n) {
		child := n.safeNames[name]
		if now := n.names[name]; now != child && survives() {
			child = now
		}
		if child != nil {
			c.names[name] = child.crashed(survives, seen)
		}
	}
	c.safeNames = maps.Clone(c.names)
	return c
}

// clone copies a node with what is durable of it and what is not.
func (n *node) clone(seen map[*node]*node) *node {
	if n == nil || seen[n] != nil {
		return seen[n]
	}
	c := &node{mode: n.mode, safeMode: n.safeMode, dirty: maps.Clone(n.dirty)}
	seen[n] = c
	c.bytes, c.safeBytes = n.bytes, n.safeBytes
	c.shared, n.shared = true, true
	if n.dir() {
		c.names, c.safeNames = map[string]*node{}, map[string]*node{}
		for _, name := range namesOf(n) {
			if child := n.names[name]; child != nil {
				c.names[name] = child.clone(seen)
			}
			if child := n.safeNames[name]; child != nil {
				c.safeNames[name] = child.clone(seen)
			}
		}
	}
	return c
}

// namesOf lists the names that a directory shows or durably holds, in order, so that dice fall alike.
func namesOf(n *node) []string {
	all := maps.Clone(n.names)
	maps.Copy(all, n.safeNames)
	return slices.Sorted(maps.Keys(all))
}

func (n *node) info(name string) fs.FileInfo {
	return info{name: name, mode: n.mode, size: int64(len(n.bytes))}
}

type info struct {
	name string
	mode fs.FileMode
	size int64
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }
