package durable

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

// Only what somebody else caused is blamed on somebody, and the error stays what it is.
func TestBlame(t *testing.T) {
	holder := func(string) []string { return []string{"avscan.exe (process 7)"} }
	none := func(string) []string { return nil }
	if blame(nil, "x", holder) != nil {
		t.Error("an error out of nothing")
	}
	if err := blame(fs.ErrNotExist, "x", holder); err != fs.ErrNotExist {
		t.Errorf("a missing file is held by somebody: %v", err)
	}
	for _, held := range inUse {
		if err := blame(held, "x", holder); !errors.Is(err, held) || !strings.Contains(err.Error(), "held by avscan.exe (process 7)") {
			t.Errorf("%v", err)
		}
		if err := blame(held, "x", none); !strings.Contains(err.Error(), "holder unknown") {
			t.Errorf("%v", err)
		}
	}
}
