package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/store"
)

// What the engine verified is verified once more when its process is started: what changed in between does not run, and
// the error names the path. What did not change runs.
func TestChangedBetweenVerifyAndStart(t *testing.T) {
	g := newGround(t, nil)
	for i, change := range []func(file string) error{
		func(file string) error { return os.WriteFile(file, []byte("9.9.9 bad"), 0o755) },
		func(file string) error { return os.WriteFile(filepath.Join(filepath.Dir(file), "x.so"), nil, 0o644) },
		func(file string) error { return os.Chmod(file, 0o777) },
		func(file string) error {
			return errors.Join(os.Rename(file, filepath.Join(g.dir, "moved")), os.Symlink(filepath.Join(g.dir, "moved"), file))
		},
	} {
		v := g.release("1.0."+string(rune('0'+i)), "")
		file := g.sv.store.File(v)
		g.must(g.sv.store.Verify(t.Context(), v))
		g.must(change(file))
		if _, err := g.start(t.Context(), v); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), filepath.Dir(file)) {
			t.Errorf("change %d: %v", i, err)
		}
		if g.pid(v) != 0 {
			t.Errorf("change %d: it runs", i)
		}
	}
	v := g.release("1.1.0", "")
	g.must(os.Link(g.sv.store.File(v), filepath.Join(g.dir, "second"))) // which is no change
	if _, err := g.start(t.Context(), v); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

// A script is run by the interpreter that the configuration names, and by no other.
func TestScriptNeedsItsInterpreter(t *testing.T) {
	for _, tc := range []struct {
		command []string
		bad     bool
	}{
		{[]string{"{{.File}}"}, true},
		{[]string{"/bin/sh", "{{.File}}"}, false},
	} {
		g := newGround(t, func(c *Config) { c.Payload.Command = tc.command })
		v := g.sealed("1.0.0", []byte("#!/bin/sh\nexec sleep 60\n"))
		_, err := g.start(t.Context(), v)
		if isBad(err) != tc.bad || tc.bad && !strings.Contains(err.Error(), "/bin/sh") || !tc.bad && err != nil {
			t.Errorf("%v: %v", tc.command, err)
		}
	}
}

func isBad(err error) bool {
	return err != nil && reflect.DeepEqual(err, updater.Bad(errors.Unwrap(err)))
}
