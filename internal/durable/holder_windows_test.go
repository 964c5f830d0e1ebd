package durable

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"
)

var inUse = []error{windows.ERROR_SHARING_VIOLATION, windows.ERROR_LOCK_VIOLATION, windows.ERROR_ACCESS_DENIED}

// A file that is open without the right to delete cannot be removed, and the error says who has it or that
// nobody knows: the Restart Manager of Wine has no answer.
func TestHeldFileIsBlamed(t *testing.T) {
	name := filepath.Join(t.TempDir(), "held")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path, _ := windows.UTF16PtrFromString(name)
	h, err := windows.CreateFile(path, windows.GENERIC_READ, windows.FILE_SHARE_READ, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = blame(retry(10*time.Millisecond, transient, func() error { return os.Remove(name) }), name, holders)
	if err == nil || !strings.Contains(err.Error(), "held by") && !strings.Contains(err.Error(), "holder unknown") {
		t.Errorf("%v", err)
	}
	t.Log(err)
	if _, err := OS().OpenFile(name, os.O_RDWR, 0); err == nil || !strings.Contains(err.Error(), "held by") && !strings.Contains(err.Error(), "holder unknown") {
		t.Errorf("opened without the right to write: %v", err)
	}
	if err := windows.CloseHandle(h); err != nil {
		t.Fatal(err)
	}
}
