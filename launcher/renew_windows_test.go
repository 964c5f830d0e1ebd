package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/selfupdate"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/launcher/control"
)

// keepAway makes a file that somebody has open.
func keepAway(t *testing.T) (name string, free func()) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "launcher.exe")
	if err := os.WriteFile(name, []byte("old"), 0o755); err != nil {
		t.Fatal(err)
	}
	return name, durabletest.KeepAway(t, name)
}

// A scanner that looks at the fresh program for a while does not end a self-update.
func TestNewLauncherIsPlacedWhenTheScannerIsDone(t *testing.T) {
	t.Parallel()
	name, free := keepAway(t)
	time.AfterFunc(300*time.Millisecond, free)
	if err := apply(strings.NewReader("new"), selfupdate.Options{TargetPath: name, OldSavePath: name + ".displaced"}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "new" {
		t.Errorf("%q, %v", b, err)
	}
}

// A new launcher that cannot be asked because it is held is no evidence against what the vendor signed.
func TestHeldLauncherIsNoFailedVerification(t *testing.T) {
	t.Parallel()
	name, free := keepAway(t)
	defer free()
	err := (&renewal{}).isLauncher(t.Context(), name)
	if !durable.Busy(err) || !strings.Contains(err.Error(), name) {
		t.Errorf("%v", err)
	}
	if code := renewCode(exit(control.NotVerified, "launcher 2.0.0: %w", err)); code != control.NotPrepared {
		t.Errorf("%v: exit code %d", err, code)
	}
}
