package updater

import (
	"errors"
	"fmt"
	"os"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

// errCut is what everything stops with when a cut comes.
var errCut = errors.New("cut")

// cutter counts the operations of disk and machine together, and at one of them everything stops: a panic,
// so that not one instruction more of the engine is run.
type cutter struct {
	durable.Disk
	left  int             // operations that are still done; 0 is endless
	how   durabletest.Cut // what becomes of the last one
	power bool
	ops   int
	dead  bool
}

// tick is one operation; do is nil or has its effect.
func (c *cutter) tick(do func()) {
	c.ops++
	if c.dead {
		panic(fmt.Errorf("updater: an operation after the cut: %w", errCut))
	}
	c.left--
	if c.left != 0 {
		if do != nil {
			do()
		}
		return
	}
	c.dead = true
	if c.power {
		c.Disk.(*durabletest.Disk).CutAt(0, c.how)
	}
	if do != nil && (c.power || c.how == durabletest.Lost) {
		do()
	}
	panic(errCut)
}

func (c *cutter) OpenFile(name string, flag int, perm os.FileMode) (f durable.File, err error) {
	do := func() { f, err = c.Disk.OpenFile(name, flag, perm) }
	if flag&(os.O_CREATE|os.O_TRUNC) == 0 {
		do()
	} else {
		c.tick(do)
	}
	if err != nil {
		return nil, err
	}
	return &cutFile{f, c}, nil
}

func (c *cutter) Mkdir(name string, perm os.FileMode) (err error) {
	c.tick(func() { err = c.Disk.Mkdir(name, perm) })
	return err
}

func (c *cutter) Chmod(name string, perm os.FileMode) (err error) {
	c.tick(func() { err = c.Disk.Chmod(name, perm) })
	return err
}

func (c *cutter) Rename(from, to string) (err error) {
	c.tick(func() { err = c.Disk.Rename(from, to) })
	return err
}

func (c *cutter) Remove(name string) (err error) {
	c.tick(func() { err = c.Disk.Remove(name) })
	return err
}

func (c *cutter) SyncDir(name string) (err error) {
	c.tick(func() { err = c.Disk.SyncDir(name) })
	return err
}

type cutFile struct {
	durable.File
	c *cutter
}

func (f *cutFile) Write(b []byte) (n int, err error) {
	f.c.tick(func() { n, err = f.File.Write(b) })
	return n, err
}

func (f *cutFile) WriteAt(b []byte, off int64) (n int, err error) {
	f.c.tick(func() { n, err = f.File.WriteAt(b, off) })
	return n, err
}

func (f *cutFile) Sync() (err error) {
	f.c.tick(func() { err = f.File.Sync() })
	return err
}

func (f *cutFile) Truncate(size int64) (err error) {
	f.c.tick(func() { err = f.File.Truncate(size) })
	return err
}
