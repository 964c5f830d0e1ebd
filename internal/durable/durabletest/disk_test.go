package durabletest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"pgregory.net/rapid"
)

// The model is worth nothing where it answers differently from a real disk.
func TestAnswersAsARealDisk(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		real, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		disks := [2]durable.Disk{durable.OS(), durabletest.New()}
		roots := [2]string{real, "/"}
		names := rapid.SampledFrom([]string{"a", "b", "a/x", "a/y", "b/x", "a/x/deep"})
		for range rapid.IntRange(1, 30).Draw(r, "steps") {
			step := drawStep(r, names)
			var said [2]string
			for i, d := range disks {
				said[i] = step.do(d, roots[i])
			}
			if said[0] != said[1] {
				r.Fatalf("%s:\nreal  %s\nmodel %s", step.name, said[0], said[1])
			}
		}
		if a, b := tree(t, disks[0], real), tree(t, disks[1], "/"); a != b {
			r.Fatalf("trees differ:\nreal  %s\nmodel %s", a, b)
		}
	})
}

type step struct {
	name string
	do   func(d durable.Disk, root string) string
}

func drawStep(r *rapid.T, names *rapid.Generator[string]) step {
	a, b := names.Draw(r, "a"), names.Draw(r, "b")
	size := rapid.IntRange(1, 2000).Draw(r, "size")
	off := rapid.Int64Range(0, 1500).Draw(r, "off")
	flag := rapid.SampledFrom([]int{os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREATE, os.O_WRONLY | os.O_CREATE | os.O_EXCL,
		os.O_RDWR | os.O_TRUNC, os.O_WRONLY | os.O_CREATE | os.O_APPEND}).Draw(r, "flag")
	steps := []step{
		{"mkdir " + a, func(d durable.Disk, root string) string { return kind(d.Mkdir(filepath.Join(root, a), 0o755)) }},
		{"remove " + a, func(d durable.Disk, root string) string { return kind(d.Remove(filepath.Join(root, a))) }},
		{"rename " + a + " " + b, func(d durable.Disk, root string) string {
			return kind(d.Rename(filepath.Join(root, a), filepath.Join(root, b)))
		}},
		{"removeall " + a, func(d durable.Disk, root string) string { return kind(durable.RemoveAll(d, filepath.Join(root, a))) }},
		{fmt.Sprintf("write %s %d at %d flag %x", a, size, off, flag), func(d durable.Disk, root string) string {
			return write(d, filepath.Join(root, a), flag, size, off)
		}},
	}
	if a == b || filepath.Dir(b) == a || filepath.Dir(filepath.Dir(b)) == a {
		steps[2] = steps[0] // a directory into itself: nobody does it and the model does not say
	}
	return rapid.SampledFrom(steps).Draw(r, "step")
}

// write tries every operation of an open file and says what came of each.
func write(d durable.Disk, name string, flag, size int, off int64) string {
	f, err := d.OpenFile(name, flag, 0o644)
	if err != nil {
		return kind(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.IsDir() {
		return fmt.Sprint("directory ", err)
	}
	said := ""
	n, err := f.WriteAt(bytes.Repeat([]byte{'w'}, size), off)
	said += fmt.Sprint(n, err == nil, ";")
	n, err = f.Write([]byte("abc"))
	said += fmt.Sprint(n, err == nil, ";")
	if flag == os.O_RDWR {
		said += fmt.Sprint(f.Truncate(off) == nil, ";")
	}
	end, err := f.Seek(0, 2)
	said += fmt.Sprint(end, err == nil, ";")
	buf := make([]byte, 10)
	n, err = f.ReadAt(buf, 1)
	return said + fmt.Sprint(n, err == nil, buf)
}

// kind reduces an error to what callers can tell apart.
func kind(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, fs.ErrNotExist):
		return "missing"
	}
	return "refused"
}

func tree(t *testing.T, d durable.Disk, dir string) string {
	entries, err := d.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := ""
	for _, e := range entries {
		if e.IsDir() {
			out += e.Name() + "{" + tree(t, d, filepath.Join(dir, e.Name())) + "} "
			continue
		}
		b, err := durable.ReadFile(d, filepath.Join(dir, e.Name()), 1<<20)
		out += fmt.Sprintf("%s=%q %v ", e.Name(), b, err)
	}
	return out
}

func TestPowerCut(t *testing.T) {
	d := durabletest.New()
	put := func(name, text string, sync bool) {
		f, err := d.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = f.WriteAt([]byte(text), 0); err == nil && sync {
			err = f.Sync()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put("synced", "old", true)
	put("bytes-only", "old", false)
	if err := d.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	put("synced", "new", false)
	put("name-only", "new", true)

	want := map[uint64]string{
		0: `bytes-only="" <nil> synced="old" <nil> `,
		1: `bytes-only="old" <nil> name-only="new" <nil> synced="new" <nil> `,
	}
	for seed, want := range want {
		if got := tree(t, d.Crash(seed), "/"); got != want {
			t.Errorf("seed %d: %s, want %s", seed, got, want)
		}
	}
	if got := tree(t, d.Kill(), "/"); got != want[1] {
		t.Errorf("after a kill: %s", got)
	}
	if got := tree(t, d.Kill().Crash(0), "/"); got != want[0] {
		t.Errorf("a kill made things durable: %s", got)
	}
	seen := map[string]bool{}
	for seed := range uint64(40) {
		got := tree(t, d.Crash(seed), "/")
		if again := tree(t, d.Crash(seed), "/"); got != again {
			t.Fatalf("seed %d: %s, then %s", seed, got, again)
		}
		seen[got] = true
	}
	if len(seen) < 6 {
		t.Errorf("40 seeds gave only %d different disks", len(seen))
	}
}

func TestFailedSyncForgets(t *testing.T) {
	d := durabletest.New()
	f, err := d.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("old"), 0)
	f.Sync()
	d.SyncDir("/")
	f.WriteAt([]byte("new"), 0)
	d.Fail(func(op durabletest.Op) error {
		if op.Kind == "sync" {
			return errors.New("input/output error")
		}
		return nil
	})
	if f.Sync() == nil {
		t.Fatal("the sync did not fail")
	}
	d.Fail(nil)
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, d.Crash(0), "/"); got != `f="old" <nil> ` {
		t.Errorf("the second sync repaired the first: %s", got)
	}
	f.WriteAt([]byte("new"), 0)
	f.Sync()
	if got := tree(t, d.Crash(0), "/"); got != `f="new" <nil> ` {
		t.Errorf("written again, still %s", got)
	}
}

func TestCutKinds(t *testing.T) {
	for _, tc := range []struct {
		how  durabletest.Cut
		want string
	}{{durabletest.Before, "missing"}, {durabletest.Lost, "ok"}} {
		d := durabletest.New()
		d.CutAt(1, tc.how)
		if err := d.Mkdir("a", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := d.Mkdir("b", 0o755); !errors.Is(err, durabletest.ErrPower) || !d.Dead() {
			t.Fatalf("no power cut: %v", err)
		}
		if _, err := d.Lstat("a"); !errors.Is(err, durabletest.ErrPower) {
			t.Errorf("a dead disk answers: %v", err)
		}
		if _, err := d.Crash(1).Lstat("b"); kind(err) != tc.want {
			t.Errorf("%v: %v", tc.how, err)
		}
	}
}
