package host

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A state folder is refused for what somebody put into it before it was safe, with the path; without that it is
// accepted. What the payload has in its own folder is its affair.
func TestPlantedInTheStateFolder(t *testing.T) {
	for name, tc := range map[string]struct {
		plant func(dir string) error
		at    string // below the state folder
	}{
		"link for the store":                  {func(dir string) error { return os.Symlink("/tmp", filepath.Join(dir, "store")) }, "store"},
		"link in the trust":                   {func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "trust", "clock")) }, "trust/clock"},
		"hard link in the trust":              {func(dir string) error { return linkNew(dir, "trust/clock") }, "trust/clock"},
		"hard link in the trust of launchers": {func(dir string) error { return linkNew(dir, "launcher/trust/clock") }, "launcher/trust/clock"},
		"hard link for a new launcher":        {func(dir string) error { return linkNew(dir, "launcher/12ef.part") }, "launcher/12ef.part"},
		"hard link for a download":            {func(dir string) error { return linkNew(dir, "store/staging/12ef.part") }, "store/staging/12ef.part"},
		"hard link for a slot":                {func(dir string) error { return linkNew(dir, "journal/slot0") }, "journal/slot0"},
		"hard link for a record":              {func(dir string) error { return linkNew(dir, "run/12ef") }, "run/12ef"},
		"link for a launcher": {func(dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, "launcher"), 0o755), os.Symlink("/tmp", filepath.Join(dir, "launcher", "12ef")))
		}, "launcher/12ef"},
		"program that others write": {func(dir string) error {
			return errors.Join(linkNew(dir, "store/1.0.0-12ef/tree/app"), os.Chmod(filepath.Join(dir, "root.json"), 0o646))
		}, "store/1.0.0-12ef/tree/app"},
		"slot that others write":   {func(dir string) error { return chmodNew(filepath.Join(dir, "journal", "slot0"), 0o666) }, "journal/slot0"},
		"folder that others write": {func(dir string) error { return os.Chmod(filepath.Join(dir, "journal"), 0o777) }, "journal"},
		"file of another account":  {func(dir string) error { return foreign(filepath.Join(dir, "trust", "clock")) }, "trust/clock"},
		"state folder of others":   {func(dir string) error { return os.Chmod(dir, 0o777) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := stateFolder(t)
			if err := CheckFolder(dir); err != nil {
				t.Fatalf("the twin is refused: %v", err)
			}
			if err := tc.plant(dir); errors.Is(err, os.ErrPermission) {
				t.Skip("only root can give a file away")
			} else if err != nil {
				t.Fatal(err)
			}
			if err := CheckFolder(dir); !errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), filepath.Join(dir, tc.at)) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What is only read and run may have a second name: root's tools give one to programs, and nobody can write by it.
func TestSecondNamesOfPrograms(t *testing.T) {
	dir := stateFolder(t)
	for _, name := range []string{"store/1.0.0-12ef/tree/app", "store/1.0.0-12ef/tree/lib/app.so", "store/1.0.0-12ef/seal.json", "launcher/12ef/launcher"} {
		if err := linkNew(dir, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := CheckFolder(dir); err != nil {
		t.Error(err)
	}
}

// linkNew makes name, with the folders above it, a second name of a file in dir.
func linkNew(dir, name string) error {
	name = filepath.Join(dir, name)
	return errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.Link(filepath.Join(dir, "root.json"), name))
}

// stateFolder is one as a launcher leaves it, with a payload that may do what it likes in its data.
func stateFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ts") // short: sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for _, name := range []string{"journal", "trust", "run", "data"} {
		err = errors.Join(err, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	ln, lnErr := net.Listen("unix", filepath.Join(dir, "run", "notify"))
	if lnErr == nil {
		t.Cleanup(func() { ln.Close() })
	}
	err = errors.Join(err, lnErr, os.Chmod(filepath.Join(dir, "run", "notify"), 0o777),
		os.WriteFile(filepath.Join(dir, "root.json"), nil, 0o644), os.WriteFile(filepath.Join(dir, "journal", "slot1"), nil, 0o600),
		os.Symlink("/etc", filepath.Join(dir, "data", "etc")), chmodNew(filepath.Join(dir, "data", "open"), 0o666))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func chmodNew(name string, mode os.FileMode) error {
	return errors.Join(os.WriteFile(name, nil, 0o600), os.Chmod(name, mode))
}

func foreign(name string) error {
	return errors.Join(os.WriteFile(name, nil, 0o600), os.Chown(name, 65534, 65534))
}
