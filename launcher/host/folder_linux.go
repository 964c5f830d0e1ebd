package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/turnstone-go/turnstone/internal/durable"
)

const stateHint = `dir = "/var/lib/acme-agent"`

// checkFolder wants every component on the way to belong to root or to us, and to be writable by nobody else; in a
// folder with the sticky bit, such as /tmp, others cannot move what is ours.
func checkFolder(dir string) error {
	if err := checkWay(dir); err != nil {
		return err
	}
	return checkInside(dir)
}

// kept are the folders of the state that hold what the launcher believes. Others may belong to the payload.
var kept = []string{"journal", "store", "trust", "launcher", "run"}

// maxLooked bounds how many files are looked at.
const maxLooked = 4096

// checkInside refuses what somebody may have put there before the folder was ours, or was safe: files and folders of
// other accounts, links, and second names of files that we would write to.
func checkInside(dir string) error {
	looked := 0
	for _, name := range kept {
		err := filepath.WalkDir(filepath.Join(dir, name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && !d.Type().IsRegular() && d.Type() != fs.ModeSymlink {
				return nil // a socket is replaced, never read
			}
			var info fs.FileInfo
			if err == nil {
				info, err = d.Info()
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if looked++; looked > maxLooked {
				return fs.SkipAll
			}
			check := durable.OursAlone
			if rel, _ := filepath.Rel(dir, path); sealed(rel) { // it is below dir
				check = durable.Ours
			}
			if err := check(path, info); err != nil {
				return fmt.Errorf("%w: %w", ErrUnsafe, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sealed says whether what has that path in the state folder is only read and run: the files of a version, and the
// launchers of a self-update. All else may be written where it lies.
func sealed(path string) bool {
	part := strings.Split(path, "/")
	if len(part) < 3 {
		return false
	}
	return part[0] == "store" && part[1] != "staging" || part[0] == "launcher" && part[1] != "trust"
}

func checkWay(dir string) error {
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
			if err := checkWay(at); err != nil {
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
