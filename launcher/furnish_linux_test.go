package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// What somebody cleared away or closed while the launcher runs keeps no version from being started.
func TestStartFurnishes(t *testing.T) {
	g := newGround(t, func(c *Config) {
		c.Payload.User, c.Payload.Data = "nobody", filepath.Join(c.State.Dir, "data") // the site's own account is this one
	})
	g.must(g.sv.cfg.furnish(g.disk))
	for number, clear := range map[string]func() error{
		"1.0.0": func() error { return nil },
		"1.1.0": func() error { return os.Remove(g.cfg.Payload.Data) },
		"1.2.0": func() error { return os.Chmod(g.dir, 0o700) },
	} {
		v := g.release(number, "")
		g.must(clear())
		if _, err := g.start(t.Context(), v); err != nil {
			t.Errorf("%s: %v", number, err)
		}
		wantWalk(t, g.dir)
	}
}

// The payload's account walks through the state folder whatever the umask of who starts the launcher, and though
// an earlier one, or an administrator, has closed it.
func TestUmask(t *testing.T) {
	asRoot(t)
	defer syscall.Umask(syscall.Umask(0o077))
	dir := filepath.Join(t.TempDir(), "state")
	s := &service{disk: durable.OS()}
	s.cfg.State.Dir, s.cfg.Payload.User, s.cfg.Payload.Data = dir, "nobody", filepath.Join(dir, "data")
	for range 2 {
		if err := s.folders(); err != nil {
			t.Fatal(err)
		}
		wantWalk(t, dir)
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

func wantWalk(t *testing.T, dir string) {
	t.Helper()
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("%s has mode %v, want 0711: %v", dir, info.Mode(), err)
	}
}
