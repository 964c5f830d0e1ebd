package main

import (
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"runtime"
	"sort"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// keyLimit bounds a key file: a private key and its comment are a few hundred bytes.
const keyLimit = 16 << 10

// readKey returns the bytes of a private key file that its owner, and nobody else, can read.
func readKey(d durable.Disk, file string) ([]byte, error) {
	if err := checkMode(d, file); err != nil {
		return nil, err
	}
	data, err := durable.ReadFile(d, file, keyLimit)
	if errors.Is(err, fs.ErrPermission) {
		return nil, refuse("key file %s cannot be read: run 'chmod 600 %s' as its owner", file, file)
	}
	if err != nil {
		return nil, refuse("read key file %s: %w", file, err)
	}
	return data, nil
}

// checkMode refuses a key that others could have read or changed: it is to be replaced, or at least closed.
func checkMode(d durable.Disk, file string) error {
	info, err := d.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refuse("key file %s is not there: bring it back from where it is kept, or give --key FILE", file)
	case errors.Is(err, fs.ErrPermission):
		return refuse("key file %s cannot be reached: run 'chmod 700 %s' and 'chmod 600 %s' as their owner", file, filepath.Dir(file), file)
	case err != nil:
		return refuse("look at key file %s: %w", file, err)
	case !info.Mode().IsRegular():
		return refuse("key file %s is not a regular file: put the key itself there", file)
	}
	return checkPerm(file, info.Mode().Perm())
}

// checkPerm knows nothing on Windows, where Go invents the bits from the read-only flag: there the folder's
// own access list protects the keys.
func checkPerm(file string, perm fs.FileMode) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	if perm&0o077 != 0 {
		return refuse("key file %s has mode %04o, so others can use it: run 'chmod 600 %s', and replace the key if somebody may have read it", file, perm, file)
	}
	if perm&0o400 == 0 {
		return refuse("key file %s has mode %04o and cannot be read: run 'chmod 600 %s'", file, perm, file)
	}
	return nil
}

// writeKey makes a new key file and never replaces one.
func writeKey(d durable.Disk, file string, data []byte) error {
	if exists(file) {
		return refuse("key file %s exists already: a key is never overwritten", file)
	}
	return durable.WriteFile(d, file, data, 0o600)
}

// keyFiles returns the files in which the keys of a role may be: ROLE.key, or ROLE-1.key and so on.
func keyFiles(d durable.Disk, dir, role string) ([]string, error) {
	name := regexp.MustCompile(`^` + regexp.QuoteMeta(role) + `(-[0-9]+)?\.key$`)
	entries, err := d.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a product's folder may travel without its keys
	}
	if err != nil {
		return nil, refuse("list the keys in %s: %w", dir, err)
	}
	var files []string
	for _, e := range entries {
		if name.MatchString(e.Name()) {
			files = append(files, filepath.Join(dir, e.Name()))
		}
	}
	sort.Strings(files)
	return files, nil
}
