package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/launcher/self"
)

// A launcher on trial whose file is no more what was verified is not run: the one before it stays, and the next look at
// the channel may fetch it again.
func TestDamagedLauncherIsNotRun(t *testing.T) {
	dir := t.TempDir()
	f := launchers(filepath.Join(dir, selfFolder))
	var kept []self.Launcher
	for _, version := range []string{"1.0.0", "2.0.0"} {
		file := filepath.Join(dir, version)
		write(t, file, "#!/bin/sh\nexit 3\n#"+version)
		l, err := f.Keep(file, version)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, l)
	}
	old, next := kept[0], kept[1]
	if err := f.Begin(self.Trial{Previous: old, Target: next, Link: filepath.Join(dir, "1.0.0")}); err != nil {
		t.Fatal(err)
	}
	trial, err := f.Trial()
	if err != nil || trial == nil {
		t.Fatal(trial, err)
	}
	if err := os.Truncate(f.File(next.Digest), 5); err != nil {
		t.Fatal(err)
	}
	if err := leadIn(f, f.File(old.Digest), trial, nil); err == nil || !strings.Contains(err.Error(), "2.0.0 is damaged") {
		t.Errorf("%v", err)
	}
	left, err := f.Trial()
	r, rerr := f.Record()
	if left != nil || err != nil || len(r.Refused) > 0 || rerr != nil {
		t.Errorf("trial %+v, %v; refused %v, %v", left, err, r.Refused, rerr)
	}
}
