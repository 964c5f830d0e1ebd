package store

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// Room asks for what is missing of the version and for the reserve, to the page.
func TestRoom(t *testing.T) {
	small := durabletest.NewSmall(t, 64<<20)
	s := open(t, durable.OS(), small.Dir+"/store")
	v := journal.Version{Number: "1.0.0", Digest: strings.Repeat("a", 64), File: "app", SizeBytes: 2 << 20}
	const page = 4 << 10
	check := func(what string, need int64) {
		t.Helper()
		small.Leave(need)
		if err := s.Room(v); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		small.Leave(need - page)
		var short *durable.Shortage
		if err := s.Room(v); !errors.As(err, &short) || short.NeedBytes != need || short.FreeBytes != need-page || short.Dir != small.Dir+"/store" {
			t.Errorf("%s, a page less: %v", what, err)
		}
	}
	check("nothing there", v.SizeBytes+ReserveBytes)
	small.Leave(8 << 20)
	f, err := durable.OS().OpenFile(s.Staged(v), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	check("half of it came", v.SizeBytes/2+ReserveBytes)
	small.Leave(8 << 20)
	if err := errors.Join(f.Allocate(v.SizeBytes), f.Close()); err != nil {
		t.Fatal(err)
	}
	check("half of it came, and the rest is taken", ReserveBytes)
	v.File = "../app"
	if err := s.Room(v); !errors.Is(err, ErrName) {
		t.Errorf("impossible name: %v", err)
	}
}
