package durable_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

func TestAllocateKeepsTheLength(t *testing.T) {
	small := durabletest.NewSmall(t, 8<<20)
	d, name := durable.OS(), filepath.Join(small.Dir, "f")
	f, err := d.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	defer f.Close()
	_, err = f.Write([]byte("abc"))
	must(t, err)
	must(t, f.Allocate(1<<20))
	info, err := f.Stat()
	if err != nil || info.Size() != 3 || durable.Held(info) != 1<<20 {
		t.Errorf("%d bytes long, %d held, %v", info.Size(), durable.Held(info), err)
	}
	must(t, f.Allocate(2)) // less than there is: nothing
	small.Leave(0)
	if _, err := f.Write(make([]byte, 1<<20-3)); err != nil {
		t.Errorf("write where the space was taken: %v", err)
	}
	if err := f.Allocate(2 << 20); !errors.Is(err, syscall.ENOSPC) || !durable.Full(err) {
		t.Errorf("allocate on a full disk: %v", err)
	}
	if _, err := f.Write([]byte("x")); !durable.Full(err) {
		t.Errorf("write on a full disk: %v", err)
	}
}

// A full disk takes some more records where there is a spare, and none where there is not.
func TestSpare(t *testing.T) {
	small := durabletest.NewSmall(t, 64<<20)
	name := filepath.Join(small.Dir, "spare")
	d := durable.WithSpare(durable.OS(), name)
	put := func(d durable.Disk, file string) error {
		f, err := d.OpenFile(filepath.Join(small.Dir, file), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(make([]byte, 10_000)) // three pages, of which the second may be the one that fails
		return errors.Join(err, f.Sync(), f.Close())
	}
	small.Leave(0)
	if err := put(durable.OS(), "plain"); !durable.Full(err) {
		t.Fatalf("without a spare: %v", err)
	}
	for n := range 16 {
		if err := put(d, fmt.Sprint("record", n)); err != nil {
			t.Fatalf("record %d: %v", n, err)
		}
	}
	small.Leave(0)
	again := durable.WithSpare(durable.OS(), name) // the next launcher, and still no room
	for n := 16; ; n++ {
		err := put(again, fmt.Sprint("record", n))
		if n > 300 {
			t.Fatal("a spare without an end")
		}
		if err == nil {
			small.Leave(0)
			continue
		}
		if !durable.Full(err) {
			t.Errorf("after the spare: %v", err)
		}
		break
	}
	if info, err := os.Stat(name); err != nil || info.Size() != 0 {
		t.Errorf("the spare at its end: %v, %v", info, err)
	}
	small.Leave(32 << 20)
	must(t, put(again, "better"))
	if info, err := os.Stat(name); err != nil || info.Size() != 1<<20 {
		t.Errorf("the spare in better times: %v, %v", info, err)
	}
	info, err := os.ReadFile(filepath.Join(small.Dir, "record15"))
	if err != nil || len(info) != 10_000 {
		t.Errorf("record15 holds %d bytes, %v", len(info), err)
	}
}

// A disk of the machine tells what is free on it.
func TestFree(t *testing.T) {
	small := durabletest.NewSmall(t, 1<<20)
	small.Leave(100 << 10)
	var short *durable.Shortage
	if err := durable.Room(durable.OS(), small.Dir, 200<<10); !errors.As(err, &short) || short.FreeBytes != 100<<10 || !durable.Full(err) {
		t.Errorf("too little: %v", err)
	} else if want := "not enough space: 0.2 MiB needed, 0.1 MiB free; make room for 0.1 MiB on the disk of " + small.Dir; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	if err := durable.Room(durable.OS(), small.Dir, 100<<10); err != nil {
		t.Errorf("just enough: %v", err)
	}
	if err := durable.Room(durable.OS(), filepath.Join(small.Dir, "missing"), 1); err != nil {
		t.Errorf("a disk that cannot be asked: %v", err)
	}
}
