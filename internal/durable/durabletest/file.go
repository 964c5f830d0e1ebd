package durabletest

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// file is an open file; its disk's lock guards it.
type file struct {
	disk   *Disk
	node   *node
	name   string
	flag   int
	off    int64
	closed bool
}

// use runs f under the disk's lock on an open file of a disk that has power.
func (f *file) use(op string, do func() (int, error)) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	var n int
	var err error
	switch {
	case f.closed:
		err = fs.ErrClosed
	case f.disk.dead:
		err = f.disk.power()
	default:
		n, err = do()
	}
	if err != nil && err != io.EOF {
		err = pathError(op, f.name, err)
	}
	return n, err
}

func (f *file) Read(p []byte) (int, error) {
	return f.use("read", func() (int, error) {
		n, err := f.readAt(p, f.off)
		f.off += int64(n)
		if n > 0 {
			err = nil // the end is for the next call to tell
		}
		return n, err
	})
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	return f.use("read", func() (int, error) { return f.readAt(p, off) })
}

func (f *file) readAt(p []byte, off int64) (int, error) {
	if f.node.dir() {
		return 0, errIsDir
	}
	if f.flag&os.O_WRONLY != 0 {
		return 0, errBadFile
	}
	n := copy(p, f.node.bytes[min(max(off, 0), int64(len(f.node.bytes))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) Write(p []byte) (int, error) {
	return f.use("write", func() (int, error) {
		if f.flag&os.O_APPEND != 0 {
			f.off = int64(len(f.node.bytes))
		}
		n, err := f.writeAt(p, f.off)
		f.off += int64(n)
		return n, err
	})
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	return f.use("write", func() (int, error) {
		if f.flag&os.O_APPEND != 0 || off < 0 {
			return 0, errBadFile
		}
		return f.writeAt(p, off)
	})
}

// writeAt writes p; what fails or loses power in the middle leaves a first part of it.
func (f *file) writeAt(p []byte, off int64) (int, error) {
	if f.flag&(os.O_WRONLY|os.O_RDWR) == 0 {
		return 0, errBadFile
	}
	d, n := f.disk, 0
	write := func(part []byte) { n = len(part); f.node.write(part, off) }
	torn := d.cut == 0 && d.how == Torn
	err := d.do(Op{"write", f.name}, func() {
		if torn {
			p = p[:d.rng.IntN(len(p)+1)]
		}
		write(p)
	})
	if err != nil && !errors.Is(err, ErrPower) {
		write(p[:d.rng.IntN(len(p)+1)])
	}
	return n, err
}

func (f *file) Truncate(size int64) error {
	_, err := f.use("truncate", func() (int, error) {
		if f.flag&(os.O_WRONLY|os.O_RDWR) == 0 || size < 0 {
			return 0, errBadFile
		}
		return 0, f.disk.do(Op{"truncate", f.name}, func() { f.node.truncate(int(size)) })
	})
	return err
}

// Allocate succeeds: this disk has no size. Fail can make it, and every other operation, answer ENOSPC.
func (f *file) Allocate(int64) error {
	_, err := f.use("allocate", func() (int, error) {
		if f.flag&(os.O_WRONLY|os.O_RDWR) == 0 {
			return 0, errBadFile
		}
		return 0, f.disk.do(Op{"allocate", f.name}, func() {})
	})
	return err
}

func (f *file) Sync() error {
	_, err := f.use("sync", func() (int, error) {
		err := f.disk.do(Op{"sync", f.name}, f.node.sync)
		if err != nil && !errors.Is(err, ErrPower) {
			clear(f.node.dirty) // see durable.File.Sync
		}
		return 0, err
	})
	return err
}

func (f *file) Seek(offset int64, whence int) (int64, error) {
	_, err := f.use("seek", func() (int, error) {
		switch whence {
		case io.SeekCurrent:
			offset += f.off
		case io.SeekEnd:
			offset += int64(len(f.node.bytes))
		}
		if offset < 0 {
			return 0, fs.ErrInvalid
		}
		f.off = offset
		return 0, nil
	})
	return offset, err
}

func (f *file) Stat() (fs.FileInfo, error) {
	var i fs.FileInfo
	_, err := f.use("stat", func() (int, error) {
		i = f.node.info(filepath.Base(f.name))
		return 0, nil
	})
	return i, err
}

func (f *file) Name() string { return f.name }

// Close frees the file and syncs nothing. It succeeds without power: that is the end of a process.
func (f *file) Close() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.closed {
		return pathError("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	return nil
}
