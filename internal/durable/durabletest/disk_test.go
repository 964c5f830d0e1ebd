package durabletest_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

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

// A process that was killed does nothing more, whichever of its goroutines asks, and what it did is there.
func TestEnds(t *testing.T) {
	d := durabletest.New()
	f, err := d.OpenFile("f", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	d.Ends(runtime.Goexit)
	d.CutAt(0, durabletest.Lost)
	for _, op := range []func() error{
		func() error { return d.Mkdir("a", 0o755) },
		func() error { return d.Mkdir("b", 0o755) },
		func() error { _, err := d.Lstat("a"); return err },
		func() error { _, err := f.Write([]byte("x")); return err },
		func() error { _, err := d.OpenFile("f", os.O_RDONLY, 0); return err },
	} {
		ended := make(chan error, 1)
		go func() {
			defer close(ended)
			ended <- op()
		}()
		if err, more := <-ended; more {
			t.Errorf("it goes on, with %v", err)
		}
	}
	next := d.Next()
	if got := tree(t, next, "/"); got != `a{} f="" <nil> ` {
		t.Errorf("the next one finds %s", got)
	}
	if got := tree(t, next.Crash(0), "/"); got != "" {
		t.Errorf("synced by the end of a process: %s", got)
	}
}

// A film of one run shows what each of its cuts would have left.
func TestFilm(t *testing.T) {
	work := func(d *durabletest.Disk) {
		_ = durable.WriteFile(d, "a", []byte("a"), 0o600) // there is no power, perhaps
		_ = durable.WriteFile(d, "b", []byte("b"), 0o600)
	}
	for seed := range uint64(durabletest.Seeds) {
		var film []*durabletest.Disk
		d := durabletest.New()
		d.Film(seed, func(found *durabletest.Disk) { film = append(film, found) })
		work(d)
		if len(film) != d.Ops() || len(film) == 0 {
			t.Fatalf("%d pictures of %d operations", len(film), d.Ops())
		}
		for k, found := range film {
			d := durabletest.New()
			d.CutAt(k, durabletest.Lost)
			work(d)
			if got, want := tree(t, found, "/"), tree(t, d.Crash(seed), "/"); got != want || !found.Same(d.Crash(seed)) {
				t.Errorf("seed %d, operation %d: %s, should be %s", seed, k, got, want)
			}
		}
		if last := film[len(film)-1]; film[0].Same(last) {
			t.Errorf("seed %d: no difference seen to %s", seed, tree(t, last, "/"))
		}
	}
}
