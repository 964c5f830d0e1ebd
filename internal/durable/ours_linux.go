package durable

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

func ours(name string, info fs.FileInfo) error {
	if info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s is a link to somewhere else, so it %w: remove it", name, ErrNotOurs)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s has mode %v, so it %w: chmod go-w %s", name, info.Mode().Perm(), ErrNotOurs, name)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() { // not ok is a disk that is not this machine's
		return fmt.Errorf("%s belongs to uid %d, so it %w: remove it, or give it to uid %d if you know what is in it", name, st.Uid, ErrNotOurs, os.Geteuid())
	}
	return nil
}

func oursAlone(name string, info fs.FileInfo) error {
	if err := ours(name, info); err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() && st.Nlink > 1 {
		return fmt.Errorf("%s has %d names (hard links), so it %w: remove it, or its other names (find -samefile)", name, st.Nlink, ErrNotOurs)
	}
	return nil
}
