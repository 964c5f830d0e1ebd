package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/selfupdate"
	"golang.org/x/sys/windows"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/control"
)

// keepAway makes a file and opens it without sharing it, as a virus scanner does.
func keepAway(t *testing.T) (name string, free func()) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "launcher.exe")
	if err := os.WriteFile(name, []byte("old"), 0o755); err != nil {
		t.Fatal(err)
	}
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		t.Fatal(err)
	}
	h, err := windows.CreateFile(path, windows.GENERIC_READ, 0, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return name, func() { _ = windows.CloseHandle(h) } // the test's end frees it as well
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
