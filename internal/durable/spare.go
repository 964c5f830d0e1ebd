package durable

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
)

// What a spare holds, and how much of it a full disk is given at a time: enough for a record and the blocks
// that lead to it on any file system.
const (
	spareBytes   = 1 << 20
	sparePortion = 64 << 10
)

// WithSpare returns d with a way to write a little more when it is full. The file name takes 1 MiB of it in
// better times; when a file cannot be made or written for want of space, a portion of that is given back and
// the operation is tried once more. Without it, the few small files that stand between a full disk and a
// service that starts, or goes back to the version before, could not be written. The portions that were given
// are taken again when there is plenty.
//
// It is a promise to nobody: another process may be faster to take what was given back.
func WithSpare(d Disk, name string) Disk {
	s := &spare{Disk: d, name: name}
	s.fill()
	return s
}

type spare struct {
	Disk
	name string
	mu   sync.Mutex
}

// fill takes what is missing, if there is plenty. What goes wrong costs the spare and nothing else.
func (s *spare) fill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := s.Lstat(s.name)
	if err == nil && (info.Size() >= spareBytes || !info.Mode().IsRegular()) {
		return
	}
	// The path's folder may be missing still: then there is nothing to save either.
	if free, err := s.Free(filepath.Dir(s.name)); err != nil || free < 8*spareBytes {
		return
	}
	f, err := s.Disk.OpenFile(s.name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	// Written, since a hole would hold nothing; what it says does not matter.
	_, err = f.WriteAt(make([]byte, spareBytes), 0)
	_ = errors.Join(err, f.Close())
}

// give gives back a portion and says whether there was one.
func (s *spare) give() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := s.Lstat(s.name)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	f, err := s.Disk.OpenFile(s.name, os.O_WRONLY, 0)
	if err != nil {
		return false
	}
	err = f.Truncate(max(0, info.Size()-sparePortion))
	return errors.Join(err, f.Close()) == nil
}

func (s *spare) OpenFile(name string, flag int, perm os.FileMode) (File, error) {
	if flag&os.O_CREATE != 0 {
		s.fill()
	}
	f, err := s.Disk.OpenFile(name, flag, perm)
	if Full(err) && s.give() {
		f, err = s.Disk.OpenFile(name, flag, perm)
	}
	if err != nil {
		return nil, err
	}
	return &sparedFile{f, s}, nil
}

type sparedFile struct {
	File
	s *spare
}

func (f *sparedFile) Write(b []byte) (int, error) {
	n, err := f.File.Write(b)
	if Full(err) && f.s.give() {
		var more int
		more, err = f.File.Write(b[n:])
		n += more
	}
	return n, err
}
