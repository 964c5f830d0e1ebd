package main

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/release/repo"
)

var errCut = errors.New("cut")

// cutStore fails from its n-th operation on, as a program that was killed does. With done, the failing
// Put has taken effect.
type cutStore struct {
	repo.Store
	left int
	done bool
	hit  bool // a Put was the first operation that failed
}

func (s *cutStore) next() bool { s.left--; return s.left >= 0 }

func (s *cutStore) Get(ctx context.Context, name string, maxBytes int64) ([]byte, error) {
	if !s.next() {
		return nil, errCut
	}
	return s.Store.Get(ctx, name, maxBytes)
}

func (s *cutStore) Open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	if !s.next() {
		return nil, 0, errCut
	}
	return s.Store.Open(ctx, name)
}

func (s *cutStore) Put(ctx context.Context, f repo.File) error {
	if s.next() {
		return s.Store.Put(ctx, f)
	}
	s.hit = s.left == -1
	if s.hit && s.done {
		_ = s.Store.Put(ctx, f) // the answer is lost
	}
	return errCut
}

func (s *cutStore) Lock(ctx context.Context) (func(), error) {
	if !s.next() {
		return nil, errCut
	}
	return s.Store.Lock(ctx)
}

// Publishing is cut at every operation on the store. What is left is the complete old repository or the
// complete new one, and publishing again finishes the work.
func TestPublishInterruptedAnywhere(t *testing.T) {
	t.Parallel()
	b := newBench(t, "beta", "stable")
	b.add("1.0.0")
	b.publish()
	old := b.public
	b.add("1.1.0")
	b.must(0, "promote", "1.0.0", "--from", "beta", "--to", "stable")
	b.must(0, "yank", "1.0.0", "--reason", "bad", "--channel", "beta")
	seen := map[string]int{}
	for n, done := 0, false; ; {
		b.public = copyTree(t, old)
		store := &cutStore{Store: repo.Dir(durable.OS(), b.public), left: n, done: done}
		err := b.publishTo(store)
		if err == nil {
			break
		}
		if !errors.Is(err, errCut) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		seen[b.verify(b.public).versions("beta")]++
		b.finish()
		if state := b.verify(b.public).versions("beta"); state != "1.1.0 !1.0.0" {
			t.Fatalf("cut at %d, then published again: beta has %q", n, state)
		}
		// The same Put once more, now with its effect; then the next operation.
		if done = store.hit && !done; !done {
			n++
		}
	}
	if len(seen) != 2 || seen["1.0.0"] < 10 || seen["1.1.0 !1.0.0"] < 1 {
		t.Errorf("the cuts left %v", seen)
	}
}

// finish publishes what may have been published before the cut.
func (b *bench) finish() {
	b.t.Helper()
	if got := release(b.t, "publish", "--to", "dir:"+b.public, "--dir", b.dir); got.code != 0 && got.code != codeNothing {
		b.t.Fatalf("publish again: %+v", got)
	}
}

func (b *bench) publishTo(store repo.Store) error {
	b.t.Helper()
	w, err := (&app{dir: b.dir}).open()
	if err != nil {
		b.t.Fatal(err)
	}
	defer w.close()
	_, err = w.publish(b.t.Context(), store, "test")
	return err
}

// Adding is cut at every operation on the product's own repository. Whatever it left behind, another
// version can be added afterwards and published beside what was published before.
func TestAddInterruptedAnywhere(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add("1.0.0")
	b.publish()
	program, other := b.build("1.1.0", "linux_amd64", "next"), b.build("1.2.0", "linux_amd64", "after")
	fresh, public := b.dir, b.public
	seen := map[string]int{}
	for n := 0; ; n++ {
		b.dir, b.public = copyTree(t, fresh), copyTree(t, public)
		closeKeys(t, b.dir)
		err := b.addTo(n, addition{version: "1.1.0", channel: "stable", files: []string{program}, protocol: manifest.Protocol{Min: 1, Max: 1}})
		if err != nil && !errors.Is(err, errCut) {
			t.Fatalf("cut at %d: %v", n, err)
		}
		b.must(0, "add", "1.2.0", other)
		b.publish()
		state := b.verify(b.public).versions("stable")
		seen[state]++
		if err == nil {
			break
		}
	}
	if len(seen) != 2 || seen["1.2.0 1.0.0"] < 10 || seen["1.2.0 1.1.0 1.0.0"] < 1 {
		t.Errorf("after the cuts: %v", seen)
	}
}

func (b *bench) addTo(n int, add addition) error {
	b.t.Helper()
	w, err := (&app{dir: b.dir}).open()
	if err != nil {
		b.t.Fatal(err)
	}
	defer w.close()
	w.tree = &cutStore{Store: w.tree, left: n, done: n%2 == 0}
	set, err := w.load(b.t.Context())
	if err != nil {
		return err
	}
	files, err := binaries(add.files, nil)
	if err != nil {
		return err
	}
	doc, err := w.describe(add, files)
	if err != nil {
		return err
	}
	_, err = w.addRelease(b.t.Context(), set, doc, files, target{channel: add.channel, share: manifest.AllHosts})
	return err
}

// While versions are published one after the other, a reader that starts at any moment sees a complete
// repository, and never an older one than before.
func TestReadersDuringPublish(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add("1.0.0")
	b.publish()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	var reads atomic.Int64
	for range 2 {
		readers.Go(func() { b.readUntil(stop, &reads) })
	}
	const least = 8
	for i := 1; (i <= least || reads.Load() < least) && !t.Failed(); i++ {
		b.add("1." + strconv.Itoa(i) + ".0")
		b.publish()
	}
	close(stop)
	readers.Wait()
}

func (b *bench) readUntil(stop chan struct{}, reads *atomic.Int64) {
	var timestamp int64
	for newest := 0; ; reads.Add(1) {
		var v verified
		got := release(b.t, "verify", b.public, "--dir", b.dir, "--json")
		if got.code != 0 {
			b.t.Errorf("a reader was refused: %s", got.out)
			return
		}
		got.result(b.t, &v)
		releases := len(v.Channels[0].Releases)
		if v.Timestamp < timestamp || releases < newest || v.Artifacts != releases {
			b.t.Errorf("timestamp %d after %d, %d versions after %d, %d programs", v.Timestamp, timestamp, releases, newest, v.Artifacts)
		}
		timestamp, newest = v.Timestamp, releases
		select {
		case <-stop:
			return
		default:
		}
	}
}

// meddler lets somebody else publish once this one has looked at what is there.
type meddler struct {
	repo.Store
	meddle func()
}

func (s *meddler) Get(ctx context.Context, name string, maxBytes int64) ([]byte, error) {
	data, err := s.Store.Get(ctx, name, maxBytes)
	if name == repo.Pointer && s.meddle != nil {
		meddle := s.meddle
		s.meddle = nil
		meddle()
	}
	return data, err
}

// From the look at what is published to the new pointer nobody else publishes: two copies of one product, each
// a step ahead of what is there, would each find that it fits.
func TestNobodyPublishesInBetween(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.add("1.0.0")
	b.publish()
	fork := *b
	fork.dir = copyTree(t, b.dir)
	closeKeys(t, fork.dir)
	b.add("1.1.0")
	fork.add("1.2.0")
	met := false
	err := b.publishTo(&meddler{repo.Dir(durable.OS(), b.public), func() {
		met = true
		contains(t, fork.must(13, "publish", "--to", "dir:"+b.public).err, "somebody else is publishing there")
	}})
	if err != nil || !met {
		t.Errorf("publish: %v, met %v", err, met)
	}
	if got := b.verify(b.public).versions("stable"); got != "1.1.0 1.0.0" {
		t.Errorf("stable has %q", got)
	}
}
