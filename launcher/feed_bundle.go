package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/updater/bundle"
	"github.com/turnstone-go/turnstone/updater/fetch"
)

// bundleFile is a bundle that an operator imported, in the state folder. It is one more source, as little
// trusted as the repository, and is asked first, since it is near.
const bundleFile = "bundle.tsb"

// besideBundle is how long the repository may take for its answer while a bundle has one already: on a network
// that swallows every packet each look at the channel would else last for minutes.
const besideBundle = 5 * time.Second

// supply is where files come from: the bundle that was imported, if there is one, and the repository.
type supply struct {
	*fetch.Repository
	bundle string
}

// open returns nil without an error when there is no bundle.
func (s supply) open() (*bundle.Bundle, error) {
	b, err := bundle.Open(s.bundle)
	if s.bundle == "" || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Download takes an artifact from the bundle if it is there, and right there.
func (s supply) Download(ctx context.Context, d durable.Disk, w fetch.Want, dst string, progress func(done, total int64)) error {
	b, _ := s.open() // what is wrong with it is said at each check
	if b == nil {
		return s.Repository.Download(ctx, d, w, dst, progress)
	}
	err := fetch.OpenFS(b).Download(ctx, d, w, dst, progress)
	_ = b.Close() // only read
	if err == nil || ctx.Err() != nil {
		return err
	}
	return s.Repository.Download(ctx, d, w, dst, progress)
}

// release brings a verified document, from the bundle or else from the repository and its mirrors.
func (f *feed) release(ctx context.Context, number string) (r manifest.Release, err error) {
	if b, _ := f.source.open(); b != nil { // as in Download
		r, err = f.client.Release(ctx, b, number)
		_ = b.Close() // only read
		if err == nil {
			return r, nil
		}
	}
	err = f.anyOf(ctx, func(src *fetch.Repository) (err error) {
		r, err = f.client.Release(ctx, src, number)
		return err
	})
	return r, err
}

// ask refreshes from the repository or one of its mirrors.
func (f *feed) ask(ctx context.Context) (view *manifest.View, err error) {
	err = f.anyOf(ctx, func(src *fetch.Repository) (err error) {
		view, err = f.client.Refresh(ctx, src)
		return err
	})
	return view, err
}

// errNotCarried is a release that is offered, and nowhere within reach.
var errNotCarried = errors.New("the imported bundle does not carry it, and the repository cannot be reached")

// markAlone notes whether the bundle is all there is.
func (f *feed) markAlone(alone bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.alone = alone
}

// carried keeps a release from being chosen whose bytes cannot be had: a bundle may have an older one only.
func (f *feed) carried(digest string) error {
	f.mu.Lock()
	alone := f.alone
	f.mu.Unlock()
	if !alone {
		return nil
	}
	b, _ := f.source.open() // as in Download
	if b == nil {
		return nil
	}
	defer b.Close()
	if !has(b, manifest.HashPath(digest)) {
		return errNotCarried
	}
	return nil
}

// refresh asks the bundle and then the repository, and returns what the newer of them says. A bundle that is
// older than what the repository has said since has done its work and is removed.
func (f *feed) refresh(ctx context.Context) (*manifest.View, error) {
	file, _ := os.Lstat(f.source.bundle) // none is no bundle
	b, berr := f.source.open()
	if b == nil && berr == nil {
		f.markAlone(false)
		return f.ask(ctx)
	}
	var bundled *manifest.View
	if berr == nil {
		bundled, berr = f.client.Refresh(ctx, b)
		_ = b.Close() // only read
	}
	asking := ctx
	if berr == nil {
		var cancel func()
		asking, cancel = context.WithTimeout(ctx, besideBundle)
		defer cancel()
	}
	view, err := f.ask(asking)
	f.markAlone(berr == nil && err != nil)
	switch {
	case err == nil && errors.Is(berr, manifest.ErrOlder):
		if now, err := os.Lstat(f.source.bundle); err == nil && os.SameFile(file, now) {
			_ = f.disk.Remove(f.source.bundle) // what stays is only room, and the next check tries again
		}
		return view, nil
	case err == nil:
		return view, nil
	case berr == nil:
		return bundled, nil
	}
	return nil, fmt.Errorf("%w; and the imported bundle: %w", err, berr)
}
