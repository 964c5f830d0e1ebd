package repo_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/release/repo"
)

// unlocked is a folder on a disk in memory, where no other process can be.
type unlocked struct{ repo.Store }

func (unlocked) Lock(context.Context) (func(), error) { return func() {}, nil }

// The power fails at any operation on the disk. The pointer is then the old or the new one, and all that
// it stands for is there; and publishing again finishes the work.
func TestPowerCutDuringPublish(t *testing.T) {
	start := func() *durabletest.Disk {
		disk := durabletest.New()
		publish(t, unlocked{repo.Dir(disk, "public")}, files(1))
		return disk
	}
	work := func(disk *durabletest.Disk) {
		_, _ = repo.Publish(context.Background(), unlocked{repo.Dir(disk, "public")}, files(2)) // it may fail: what is left counts
	}
	found := map[string]int{}
	durabletest.Sweep(t, start, work, func(t *testing.T, disk *durabletest.Disk, trial string) {
		store := unlocked{repo.Dir(disk, "public")}
		pointer := read(t, store, repo.Pointer)
		found[pointer]++
		n := slices.Index([]string{"points to 0", "points to 1", "points to 2"}, pointer)
		if n < 1 {
			t.Fatalf("%s: the pointer says %q", trial, pointer)
		}
		for _, f := range files(n) {
			if err := same(store, f); err != nil {
				t.Fatalf("%s: the pointer says %q, and %s: %v", trial, pointer, f.Name, err)
			}
		}
		publish(t, store, files(2))
		if got := read(t, store, repo.Pointer); got != "points to 2" {
			t.Fatalf("%s: published again, the pointer says %q", trial, got)
		}
	})
	if len(found) != 2 {
		t.Errorf("the cuts left %v: both the old and the new were expected", found)
	}
}

// same says how a store's copy of a file differs from it.
func same(s repo.Store, f repo.File) error {
	r, err := f.Open()
	if err != nil {
		return err
	}
	want, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	got, err := s.Get(context.Background(), f.Name, 1<<20)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("it holds %q", got)
	}
	return err
}
