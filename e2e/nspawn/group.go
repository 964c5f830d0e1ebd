package nspawn

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// group is the control group that a machine lives in: one folder in each hierarchy that systemd uses. On a
// machine with the old hierarchies that is its own named one, beside the unified one if that is mounted.
type group []string

// newGroup makes the folders below the groups that this process is in.
func newGroup(name string) (group, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var g group
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3) // cgroups(7)
		if len(f) != 3 {
			continue
		}
		var mount string
		switch {
		case f[1] == "name=systemd":
			mount = mountOf("cgroup", "name=systemd")
		case f[0] == "0":
			mount = mountOf("cgroup2", "")
		}
		if mount == "" {
			continue
		}
		dir := filepath.Join(mount, f[2], name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return g, errors.Join(fmt.Errorf("make a control group: %w", err), g.remove())
		}
		g = append(g, dir)
	}
	if len(g) == 0 {
		return nil, errors.New("no control group hierarchy that systemd could use is mounted")
	}
	return g, nil
}

// mountOf is where a file system of that type, with that option of the file system itself, is mounted.
func mountOf(kind, option string) string {
	for _, m := range mounts() {
		if m.kind == kind && strings.Contains(","+m.options+",", ","+option+",") || m.kind == kind && option == "" {
			return m.dir
		}
	}
	return ""
}

type mounted struct{ dir, kind, options string }

// mounts is what is mounted here; see proc(5), mountinfo.
func mounts() (all []mounted) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		before, after, found := strings.Cut(line, " - ")
		f, rest := strings.Fields(before), strings.Fields(after)
		if found && len(f) > 4 && len(rest) > 2 {
			all = append(all, mounted{dir: f[4], kind: rest[0], options: rest[2]})
		}
	}
	return all
}

// enter is the command that puts itself into the group and then becomes the command behind it.
func (g group) enter() []string {
	const script = `while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"`
	return append(append([]string{"sh", "-c", script, "sh"}, g...), "--")
}

// remove removes the empty groups, deepest first. The kernel needs a moment to see that they are empty.
func (g group) remove() error {
	var err error
	for range 100 {
		if err = g.sweep(); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

func (g group) sweep() error {
	var errs []error
	for _, top := range g {
		var dirs []string
		_ = filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil // what went meanwhile needs no removing
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			if err := os.Remove(dirs[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// removeTree removes a folder in which nothing is mounted: to walk into a mount would be to remove what
// belongs to somebody else.
func removeTree(dir string) error {
	for _, m := range mounts() {
		if m.dir == dir || strings.HasPrefix(m.dir, dir+"/") {
			return fmt.Errorf("remove %s: %s is mounted in it", dir, m.dir)
		}
	}
	return os.RemoveAll(dir)
}
