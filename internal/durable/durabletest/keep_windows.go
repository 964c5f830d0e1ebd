package durabletest

import (
	"testing"

	"golang.org/x/sys/windows"
)

// KeepAway opens a file without sharing it, as a virus scanner does, until free is called or the process ends.
func KeepAway(t *testing.T, name string) (free func()) {
	t.Helper()
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		t.Fatal(err)
	}
	h, err := windows.CreateFile(path, windows.GENERIC_READ, 0, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := windows.CloseHandle(h); err != nil {
			t.Error(err)
		}
	}
}
