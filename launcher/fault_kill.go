//go:build trialfault

package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// A launcher that is built for tests ends itself, as SIGKILL would, at the point that the file named by
// LAUNCHER_DIE says:
//
//	PHASE/N       before the n-th change of the disk since the journal said PHASE; n = 0 is the write that says so
//	PHASE+TIME    that time after the journal said PHASE
//
// The phase before the first write of the journal is "boot". The file is removed first, so that it works once.
func init() {
	if plan := os.Getenv("LAUNCHER_DIE"); plan != "" {
		ownDisk = func() durable.Disk { return &mortalDisk{Disk: durable.OS(), plan: plan, phase: "boot"} }
	}
}

// mortalDisk counts what changes the disk. Of the bytes of one file only the first write and the sync count.
type mortalDisk struct {
	durable.Disk
	plan string

	mu    sync.Mutex
	phase string
	n     int
}

// tick is one change; next is the phase that it brings about, "" for none.
func (d *mortalDisk) tick(next string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.n++
	plan, _ := os.ReadFile(d.plan) // there is none most of the time
	point := strings.TrimSpace(string(plan))
	if point == fmt.Sprintf("%s/%d", d.phase, d.n) || next != "" && point == next+"/0" {
		d.die()
	}
	if next == "" {
		return
	}
	d.phase, d.n = next, 0
	if after, timed := strings.CutPrefix(point, next+"+"); timed {
		if wait, err := time.ParseDuration(after); err == nil {
			time.AfterFunc(wait, d.die)
		}
	}
}

func (d *mortalDisk) die() {
	if os.Remove(d.plan) != nil {
		return // it was taken back in this moment
	}
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill() // nothing is told any more
	}
	select {}
}

func (d *mortalDisk) OpenFile(name string, flag int, perm os.FileMode) (durable.File, error) {
	if flag&(os.O_CREATE|os.O_TRUNC) != 0 {
		d.tick("")
	}
	f, err := d.Disk.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &mortalFile{File: f, disk: d}, nil
}

func (d *mortalDisk) Mkdir(name string, perm os.FileMode) error {
	d.tick("")
	return d.Disk.Mkdir(name, perm)
}

func (d *mortalDisk) Chmod(name string, perm os.FileMode) error {
	d.tick("")
	return d.Disk.Chmod(name, perm)
}

func (d *mortalDisk) Rename(from, to string) error {
	d.tick("")
	return d.Disk.Rename(from, to)
}

func (d *mortalDisk) Remove(name string) error {
	d.tick("")
	return d.Disk.Remove(name)
}

func (d *mortalDisk) SyncDir(name string) error {
	d.tick("")
	return d.Disk.SyncDir(name)
}

type mortalFile struct {
	durable.File
	disk    *mortalDisk
	written bool
}

var saidPhase = regexp.MustCompile(`"phase":"([a-z]+)"`)

func (f *mortalFile) Write(b []byte) (int, error) {
	f.first("")
	return f.File.Write(b)
}

func (f *mortalFile) WriteAt(b []byte, off int64) (int, error) {
	next := ""
	if found := saidPhase.FindSubmatch(b); found != nil && bytes.HasPrefix(b, []byte("turnstone-journal ")) && !f.holds(b, off) {
		next = string(found[1])
	}
	if next != "" {
		f.written = false
	}
	f.first(next)
	return f.File.WriteAt(b, off)
}

// holds says whether b is there already: a journal writes what it has loaded once more, which says nothing new.
func (f *mortalFile) holds(b []byte, off int64) bool {
	is := make([]byte, len(b))
	_, err := f.ReadAt(is, off)
	return err == nil && bytes.Equal(is, b)
}

func (f *mortalFile) first(next string) {
	if !f.written {
		f.written = true
		f.disk.tick(next)
	}
}

func (f *mortalFile) Sync() error {
	f.disk.tick("")
	return f.File.Sync()
}
