package manifest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

func TestAccept(t *testing.T) {
	v := newVendor(t)
	for name, src := range map[string]Source{"web": v.web(), "folder": v.folder()} {
		t.Run(name, func(t *testing.T) {
			c := v.host()
			if _, err := c.Cached(); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrVerify) {
				t.Errorf("cached before the first refresh: %v", err)
			}
			view := refresh(t, c, src)
			if o := view.Channel.Offers[0]; o != (Offer{Version: "1.0.0", Epoch: 1, Share: AllHosts}) {
				t.Errorf("offer %+v", o)
			}
			if view.Expired || view.RootVersion != 1 || view.TimestampVersion != 1 || !view.Expires.Equal(v.set.Expires(RoleTimestamp)) {
				t.Errorf("view %+v", view)
			}
			r := must(c.Release(t.Context(), src, "1.0.0"))(t)
			a, ok := r.Artifact("linux", "amd64")
			if !ok {
				t.Fatal("no artifact")
			}
			if err := view.Trust.VerifyArtifact("demo", "1.0.0", a, bytes.NewReader(program("1.0.0"))); err != nil {
				t.Error(err)
			}
			if _, err := c.Release(t.Context(), src, "9.9.9"); !errors.Is(err, ErrNoRelease) || errors.Is(err, ErrVerify) {
				t.Errorf("release that is not there: %v", err)
			}
		})
	}
}

// What was verified once is there without the network, also for the next process.
func TestCached(t *testing.T) {
	v, dir := newVendor(t), t.TempDir()
	c := v.hostAt(dir, here)
	want := refresh(t, c, v.folder())
	must(c.Release(t.Context(), v.folder(), "1.0.0"))(t)

	c = v.hostAt(dir, here)
	view := must(c.Cached())(t)
	if fmt.Sprint(view.Channel, view.Trust, view.Expires, view.RootVersion) != fmt.Sprint(want.Channel, want.Trust, want.Expires, want.RootVersion) {
		t.Errorf("cached %+v, want %+v", view, want)
	}
	must(c.Release(t.Context(), nowhere{}, "1.0.0"))(t)
	if _, err := c.Refresh(t.Context(), nowhere{}); !errors.Is(err, errNowhere) || errors.Is(err, ErrVerify) {
		t.Errorf("an error of the network must pass through: %v", err)
	}
}

var errNowhere = errors.New("no route to host")

type nowhere struct{}

func (nowhere) Get(context.Context, string, int64) ([]byte, error) { return nil, errNowhere }

// A second refresh without news asks for the next root and the timestamp, and for nothing else.
func TestQuiet(t *testing.T) {
	v := newVendor(t)
	c, src := v.host(), &counting{Source: v.folder()}
	refresh(t, c, src)
	src.names = nil
	refresh(t, c, src)
	if got := strings.Join(src.names, " "); got != "metadata/2.root.json metadata/timestamp.json" {
		t.Errorf("asked for %s", got)
	}
}

type counting struct {
	Source
	names []string
}

func (c *counting) Get(ctx context.Context, name string, maxBytes int64) ([]byte, error) {
	c.names = append(c.names, name)
	return c.Source.Get(ctx, name, maxBytes)
}

// The trust folder keeps every root and the set in force, and nothing else.
func TestSweep(t *testing.T) {
	v, dir := newVendor(t), t.TempDir()
	c := v.hostAt(dir, here)
	refresh(t, c, v.folder())
	must(c.Release(t.Context(), v.folder(), "1.0.0"))(t)
	if err := os.WriteFile(filepath.Join(dir, "targets", "stable", "litter.json.tmp"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	v.bump(RoleRoot, 0)
	v.next("1.1.0", 2)
	v.publish()
	refresh(t, c, v.folder())
	var names []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"clock", "metadata/1.root.json", "metadata/1.targets.json", "metadata/2.root.json", "metadata/2.snapshot.json",
		"metadata/2.stable.json", "metadata/timestamp.json", v.targetName("stable", "stable/1.0.0.json"),
		v.targetName("stable", "stable/channel.json"), v.targetName(RoleTargets, "trust.json"),
	}
	have := map[string]bool{}
	for _, n := range names {
		have[n] = true
	}
	for _, n := range want {
		if !have[n] {
			t.Errorf("%s is gone", n)
		}
	}
	if len(names) != len(want) {
		t.Errorf("the folder holds %d files, want %d:\n%s", len(names), len(want), strings.Join(names, "\n"))
	}
}

// Damage in the trust folder heals at the next refresh; only a root must not be lost without a word.
func TestDamagedFolder(t *testing.T) {
	v, dir := newVendor(t), t.TempDir()
	refresh(t, v.hostAt(dir, here), v.folder())
	must(v.hostAt(dir, here).Release(t.Context(), v.folder(), "1.0.0"))(t)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasSuffix(path, ".root.json") {
			return err
		}
		good := must(os.ReadFile(path))(t)
		for _, bad := range [][]byte{{}, []byte("{}"), append(bytes.Clone(good), ' ')} {
			if err := os.WriteFile(path, bad, 0o644); err != nil {
				return err
			}
			refresh(t, v.hostAt(dir, here), v.folder())
			must(v.hostAt(dir, here).Release(t.Context(), v.folder(), "1.0.0"))(t)
			must(v.hostAt(dir, here).Cached())(t)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestConcurrent(t *testing.T) {
	v := newVendor(t)
	c, src := v.host(), v.web()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := c.Refresh(t.Context(), src); err != nil {
				t.Error(err)
			}
			if _, err := c.Release(t.Context(), src, "1.0.0"); err != nil {
				t.Error(err)
			}
			if _, err := c.Cached(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestOpen(t *testing.T) {
	v := newVendor(t)
	root := v.readFile("metadata/1.root.json")
	_, err := Open(durable.OS(), t.TempDir(), []byte("{}"), here)
	refused(t, err, ErrDocument)
	_, err = Open(durable.OS(), t.TempDir(), bytes.Replace(root, []byte(`"threshold": 2`), []byte(`"threshold": 1`), 1), here)
	refused(t, err, ErrSignature)
	_, err = Open(durable.OS(), t.TempDir(), root, Host{Product: "Demo", Channel: "stable"})
	refused(t, err, ErrDocument)
	c := v.hostAt(t.TempDir(), Host{Product: "demo", Channel: "nightly"})
	_, err = c.Refresh(t.Context(), v.folder())
	refused(t, err, ErrWrongChannel)
	must(v.hostAt(t.TempDir(), Host{Product: "demo", Channel: "beta"}).Refresh(t.Context(), v.folder()))(t)
}

// Inside a bubble the clock starts at the same moment of the year 2000 each time, which is how a host's
// clock is set back here.
func TestClock(t *testing.T) {
	dir, tree := t.TempDir(), t.TempDir()
	var v *vendor
	synctest.Test(t, func(t *testing.T) {
		v = newVendorIn(t, tree)
		c := v.hostAt(dir, here)
		refresh(t, c, v.folder())
		time.Sleep(3 * day) // the whole lifetime of a timestamp, to the last second
		refresh(t, c, v.folder())
		time.Sleep(time.Second)
		_, err := c.Refresh(t.Context(), v.folder())
		refused(t, err, ErrExpired)
		if view := must(c.Cached())(t); !view.Expired {
			t.Error("the view is not marked as expired")
		}

		time.Sleep(2 * day)
		v.offer(v.channel("stable", Offer{Version: "1.0.0", Epoch: 1, Share: AllHosts}))
		v.bump(RoleTimestamp, 0)
		v.publish()
		refresh(t, c, v.folder()) // on day 5
	})
	synctest.Test(t, func(t *testing.T) {
		v.t = t
		if view := must(v.hostAt(dir, here).Cached())(t); view.Expired {
			t.Error("what is valid on day 5 is marked as expired")
		}
		// Snapshot and targets go through go-tuf alone: if its time of reference could no longer be set,
		// this would be accepted on day 0.
		for _, role := range []string{RoleTimestamp, RoleSnapshot, RoleTargets, "stable"} {
			v.bump(role, 4*day)
			v.publish()
			_, err := v.hostAt(dir, here).Refresh(t.Context(), v.folder())
			refused(t, err, ErrExpired)
			v.bump(role, 5*day) // the twin: it ends an hour after day 5
			v.publish()
			refresh(t, v.hostAt(dir, here), v.folder())
		}
	})
}

// The power may fail at each operation of a refresh: the host then has the old view or the new one. After
// the death of the process alone, the next refresh makes durable what it finds.
func TestPowerCut(t *testing.T) {
	v := newVendor(t)
	root := v.readFile("metadata/1.root.json")
	before := durabletest.New()
	c := must(Open(before, "trust", root, here))(t)
	refresh(t, c, v.folder())
	v.bump(RoleRoot, 0)
	v.next("1.1.0", 2)
	v.publish()
	src := v.folder()

	start := func() *durabletest.Disk { return before.Crash(1) }
	var done bool
	run := func(d *durabletest.Disk) {
		done = false
		c, err := Open(d, "trust", root, here)
		if err == nil {
			_, err = c.Refresh(context.Background(), src)
		}
		done = err == nil
	}
	durabletest.Sweep(t, start, run, func(t *testing.T, found *durabletest.Disk, trial string) {
		c, err := Open(found, "trust", root, here)
		if err != nil {
			t.Fatalf("%s: %v", trial, err)
		}
		view, err := c.Cached()
		if err != nil {
			t.Fatalf("%s: %v", trial, err)
		}
		version := view.Channel.Offers[0].Version
		if version != "1.0.0" && version != "1.1.0" || done && version != "1.1.0" || done && view.RootVersion != 2 {
			t.Fatalf("%s: found %s, done %v", trial, version, done)
		}
		if !strings.HasSuffix(trial, "killed") {
			return
		}
		if view, err = c.Refresh(context.Background(), src); err != nil || view.Channel.Offers[0].Version != "1.1.0" {
			t.Fatalf("%s: refresh: %v", trial, err)
		}
		// What this refresh found and did not have to write itself must be durable now as well.
		if c, err = Open(found.Crash(0), "trust", root, here); err != nil {
			t.Fatalf("%s: %v", trial, err)
		}
		if view, err = c.Cached(); err != nil || view.Channel.Offers[0].Version != "1.1.0" || view.RootVersion != 2 {
			t.Fatalf("%s: after the refresh and another cut: %v", trial, err)
		}
	})
}

// A host may be told to take what has expired, for so long and no longer; never what is older than what it saw.
func TestStaleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tree, older := t.TempDir(), t.TempDir()
		v := newVendorIn(t, tree)
		if err := os.CopyFS(older, os.DirFS(tree)); err != nil {
			t.Fatal(err)
		}
		strict, patient := v.hostAt(t.TempDir(), here), here
		patient.MaxStaleness = 2 * day
		c := v.hostAt(t.TempDir(), patient)
		time.Sleep(3*day + time.Second) // past the timestamp's lifetime
		_, err := strict.Refresh(t.Context(), v.folder())
		refused(t, err, ErrExpired)
		view := refresh(t, c, v.folder())
		if view.Expired || view.ExpiredAt(time.Now().Add(2*day-2*time.Second)) || !view.ExpiredAt(time.Now().Add(2*day)) {
			t.Errorf("it expires %s", view.Expires)
		}
		if view := must(c.Cached())(t); view.Expired {
			t.Error("what the policy allows is marked as expired")
		}
		time.Sleep(2*day - time.Second)
		refresh(t, c, v.folder())
		time.Sleep(time.Second)
		_, err = c.Refresh(t.Context(), v.folder())
		refused(t, err, ErrExpired)

		v.bump(RoleTimestamp, 0)
		v.publish()
		refresh(t, c, v.folder())
		patient.MaxStaleness = 1000 * day
		_, err = v.hostAt(c.trust.dir, patient).Refresh(t.Context(), folder{durable.OS(), older})
		refused(t, err, ErrRollback)
		refresh(t, v.hostAt(t.TempDir(), patient), folder{durable.OS(), older}) // the twin: nothing newer was seen
	})
}
