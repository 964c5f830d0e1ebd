package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/fetch"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/policy"
)

// feed is the signed world: what the vendor offers, and the bytes behind it. It is the engine's
// updater.Feed. Nothing leaves it that was not verified.
type feed struct {
	disk   durable.Disk
	source supply
	client *manifest.Client
	host   manifest.Host
	bases  bases               // nil where every file is fetched whole
	tell   func(updater.Event) // may be nil

	mu    sync.Mutex
	view  *manifest.View // of the last refresh, or from the trust folder; nil before both
	alone bool           // the last refresh had an answer from the imported bundle and from nobody else
}

// openFeed opens the trust folder and the repository; it asks neither yet.
func openFeed(d durable.Disk, cfg Config) (*feed, error) {
	root, err := durable.ReadFile(d, cfg.Repository.Root, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("read the trusted root: %w\nrepository.root names it; `release init` writes it as root.json", err)
	}
	f := &feed{disk: d, host: cfg.host()}
	if f.client, err = manifest.Open(d, cfg.stateFile("trust"), root, f.host); err != nil {
		return nil, err
	}
	f.source.bundle = cfg.stateFile(bundleFile)
	address, o := cfg.Repository.sources()
	o.Skipped = f.skipped
	if f.source.Repository, err = fetch.Open(address, o); err != nil {
		return nil, fmt.Errorf("open the repository: %w", err)
	}
	if view, err := f.client.Cached(); err == nil { // else there is none yet: a fresh install
		f.view = view
	}
	return f, nil
}

// host is who asks the repository.
func (c *Config) host() manifest.Host {
	return manifest.Host{Product: c.Product, Channel: c.Repository.Channel, OS: runtime.GOOS, Arch: runtime.GOARCH, MaxStaleness: c.Repository.MaxStaleness}
}

// Check reads the channel again.
func (f *feed) Check(ctx context.Context) (policy.Offers, error) {
	view, err := f.refresh(ctx)
	if err != nil {
		return policy.Offers{}, err
	}
	f.mu.Lock()
	f.view = view
	f.mu.Unlock()
	return offers(view), nil
}

// offers reduces a verified view to what the gates ask.
func offers(v *manifest.View) policy.Offers {
	o := policy.Offers{
		Name: v.Channel.Product + "/" + v.Channel.Name, MinEpoch: v.Channel.MinEpoch,
		SignedAt: v.Channel.SignedAt, Expires: v.Expires, Expired: v.Expired,
	}
	for _, x := range v.Channel.Offers {
		o.List = append(o.List, policy.Offer{Number: x.Version, Epoch: x.Epoch, Share: x.Share, Yanked: x.Yanked})
	}
	return o
}

// Resolve finds this platform's artifact in a verified release document.
func (f *feed) Resolve(ctx context.Context, number string) (policy.Release, error) {
	r, err := f.release(ctx, number)
	if errors.Is(err, manifest.ErrWrongPlatform) {
		return policy.Release{}, fmt.Errorf("%s %w (%s/%s)", number, policy.ErrPlatform, f.host.OS, f.host.Arch)
	}
	if err != nil {
		return policy.Release{}, err
	}
	a, _ := r.Artifact(f.host.OS, f.host.Arch) // or the error above
	if err := f.carried(a.SHA256); err != nil {
		return policy.Release{}, err
	}
	return policy.Release{
		Version: journal.Version{
			Number: r.Version, Digest: a.SHA256, Epoch: r.Epoch, File: a.Name, SizeBytes: a.SizeBytes, Minisig: a.Minisig,
			Format: a.Format, Main: a.Main, UnpackedBytes: a.UnpackedBytes,
		},
		Protocol: policy.Range(r.Protocol),
	}, nil
}

// Fetch makes the file dst hold v's artifact: by a patch from a version that is here, or downloaded whole, going
// on where an earlier try stopped. Progress counts what is downloaded.
func (f *feed) Fetch(ctx context.Context, v journal.Version, dst string, progress func(done, total int64)) error {
	if f.fetchPatch(ctx, v, dst, progress) {
		return nil
	}
	want := fetch.Want{Name: manifest.HashPath(v.Digest), SizeBytes: v.SizeBytes, SHA256: v.Digest}
	err := f.source.Download(ctx, f.disk, want, dst, progress)
	return refused(err)
}

// Verify checks the vendor's second signature over the sealed file of v, which binds its product, version
// and platform to its bytes.
func (f *feed) Verify(_ context.Context, v journal.Version, name string) error {
	f.mu.Lock()
	view := f.view
	f.mu.Unlock()
	if view == nil {
		return errors.New("no verified metadata to check the signature of the artifact with: wait for a check to succeed")
	}
	file, err := f.disk.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("open the artifact: %w", err)
	}
	defer file.Close()
	a := manifest.Artifact{
		OS: f.host.OS, Arch: f.host.Arch, Name: v.File, SizeBytes: v.SizeBytes, SHA256: v.Digest, Minisig: v.Minisig,
	}
	err = view.Trust.VerifyArtifact(f.host.Product, v.Number, a, file)
	if errors.Is(err, manifest.ErrVerify) { // the bytes are those of the metadata: the vendor signed them wrongly
		return updater.Bad(err)
	}
	return err
}

// refused tells the engine which errors are evidence against what a source sent and which are the network's or
// the disk's.
func refused(err error) error {
	if lies(err) {
		return updater.Refused(err)
	}
	return err
}

// lies says whether err is about what a source sent, and not about the line. A drip is among it: a line that is down
// brings nothing.
func lies(err error) bool {
	for _, what := range []error{manifest.ErrVerify, fetch.ErrDigest, fetch.ErrTooLong, fetch.ErrInsecure, fetch.ErrSlow} {
		if errors.Is(err, what) {
			return true
		}
	}
	return false
}
