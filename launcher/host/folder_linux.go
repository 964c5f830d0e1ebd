package host

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// checkFolder wants every component to belong to root or to us, and to be writable by nobody else; in a
// folder with the sticky bit, such as /tmp, others cannot move what is ours.
func checkFolder(dir string) error {
	at := "/"
	for _, part := range append([]string{""}, strings.Split(strings.Trim(filepath.Clean(dir), "/"), "/")...) {
		at = filepath.Join(at, part)
		st, err := os.Lstat(at)
		if err != nil {
			return err
		}
		if st.Mode()&fs.ModeSymlink != 0 { // of root's making, in a folder that only root changes: /var/run
			at, err = filepath.EvalSymlinks(at)
			if err != nil {
				return err
			}
			if err := checkFolder(at); err != nil {
				return err
			}
			continue
		}
		own, ok := st.Sys().(*syscall.Stat_t)
		switch {
		case !st.IsDir():
			return fmt.Errorf("%w: %s is not a folder", ErrUnsafe, at)
		case ok && own.Uid != 0 && int(own.Uid) != os.Geteuid():
			return fmt.Errorf("%w: %s belongs to uid %d: chown root %s", ErrUnsafe, at, own.Uid, at)
		case st.Mode().Perm()&0o022 != 0 && st.Mode()&fs.ModeSticky == 0:
			return fmt.Errorf("%w: others may write to %s: chmod go-w %s", ErrUnsafe, at, at)
		}
	}
	return nil
}

func makeFolder(dir string) (made bool, err error) {
	_, err = os.Lstat(dir)
	return err != nil, os.MkdirAll(dir, 0o711)
}
