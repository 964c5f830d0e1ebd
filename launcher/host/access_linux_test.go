package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestCheckFile(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("not root: cannot make a file of somebody else")
		}
		t.Skip("not root: cannot make a file of somebody else")
	}
	name := filepath.Join(t.TempDir(), "launcher.toml")
	if err := CheckFile(name); err != nil {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		mode     os.FileMode
		uid, gid int
		says     string
	}{
		{0o600, 0, 0, ""}, {0o644, 0, 0, ""}, {0o664, 0, 0, ""}, {0o644, 0, 65534, ""},
		{0o646, 0, 0, "chmod go-w " + name}, {0o664, 0, 65534, "chmod go-w " + name}, {0o600, 65534, 0, "chown root " + name},
	} {
		if err := errors.Join(os.Chown(name, tc.uid, tc.gid), os.Chmod(name, tc.mode)); err != nil {
			t.Fatal(err)
		}
		err := CheckFile(name)
		if tc.says == "" && err != nil || tc.says != "" && (!errors.Is(err, ErrUnsafe) || !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("%+v: %v", tc, err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(name, link); err != nil {
		t.Fatal(err)
	}
	if err := CheckFile(link); !errors.Is(err, ErrUnsafe) {
		t.Errorf("behind a link: %v", err)
	}
}

func TestLetIn(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("not root: cannot give a folder to a group")
		}
		t.Skip("not root: cannot give a folder to a group")
	}
	for before, want := range map[os.FileMode]os.FileMode{0o700: 0o710, 0o711: 0o711} {
		dir := t.TempDir()
		if err := os.Chmod(dir, before); err != nil {
			t.Fatal(err)
		}
		if err := LetIn(dir, "daemon"); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm() != want || (info.Sys().(*syscall.Stat_t).Gid != 0) != (want == 0o710) {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
	if err := LetIn(closed(t), "nobody-has-this"); err == nil {
		t.Error("a group that is not there")
	}
}

func closed(t *testing.T) string {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}
