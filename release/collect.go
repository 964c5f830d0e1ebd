package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/release/repo"
	"github.com/turnstone-go/turnstone/updater/fetch"
)

// newestVersion, in place of a number, is the newest version that a channel offers and did not yank.
const newestVersion = "newest"

// selection is which part of a repository somebody wants. What is not narrowed down is wanted whole.
type selection struct {
	verification
	versions, platforms []string
}

// collection is what hosts need of a repository: the small files themselves, which were verified as a host
// would, and what the release documents among them name.
type collection struct {
	source    *fetch.Repository
	product   string
	timestamp int64
	expires   time.Time
	channels  []verifiedChannel
	small     map[string][]byte // metadata and documents, by name
	contents  []content         // each digest once
}

// content is a file that a release document names by its digest.
type content struct {
	SHA256    string `json:"sha256"`
	SizeBytes int64  `json:"size_bytes"`

	minisigs []string                // of the artifacts with these bytes; of other files none
	verify   []func(io.Reader) error // each of them
}

// collect reads the metadata and the documents of a repository. What the folder known has already is not asked
// for again, and the repository may not be older than it.
func (a *app) collect(ctx context.Context, s selection, known string) (*collection, error) {
	root, err := a.anchor(&s.verification)
	if err != nil {
		return nil, err
	}
	source, err := openSource(ctx, s.url)
	if err != nil {
		return nil, err
	}
	temp, err := tempDir()
	if err != nil {
		return nil, err
	}
	defer temp.remove()
	c := &collection{source: source, product: s.product, small: map[string][]byte{}}
	steady := &steadySource{source, map[string][]byte{}}
	for _, channel := range s.channels {
		trust := filepath.Join(temp.path, channel)
		if err := prime(trust, known, channel); err != nil {
			return nil, fmt.Errorf("read %s: %w", known, err)
		}
		client, err := manifest.Open(durable.OS(), trust, root, manifest.Host{Product: s.product, Channel: channel})
		if err != nil {
			return nil, err
		}
		if err := c.channel(ctx, client, steady, s); err != nil {
			return nil, fmt.Errorf("channel %s: %w", channel, asClient(err))
		}
		if err := c.gather(trust); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// located is the address of a repository in full: a folder's name may be relative.
func located(address string) string {
	if strings.Contains(address, "://") || strings.HasPrefix(address, objects) {
		return address
	}
	return absolute(address)
}

// openSource opens a repository by its URL, its folder or its place in an object store.
func openSource(ctx context.Context, address string) (*fetch.Repository, error) {
	address = located(address)
	if place, ok := strings.CutPrefix(address, objects); ok {
		store, err := openObjects(place)
		if err != nil {
			return nil, err
		}
		return fetch.OpenFS(repo.Files(ctx, store)), nil
	}
	if !strings.Contains(address, "://") {
		if info, err := os.Stat(address); err != nil || !info.IsDir() {
			return nil, usage("%s is no folder and no URL", address)
		}
	}
	line := fetch.Transport()
	line.Proxy = http.ProxyFromEnvironment // a tool of people and pipelines, unlike a service, is run in an environment that they chose
	source, err := fetch.Open(address, fetch.Options{Client: &http.Client{Transport: line}})
	if err != nil {
		return nil, usage("%w", err)
	}
	return source, nil
}

// steadySource reads each file once, so that all channels see the same pointer, whatever is published meanwhile.
type steadySource struct {
	manifest.Source
	seen map[string][]byte
}

func (s *steadySource) Get(ctx context.Context, name string, maxBytes int64) ([]byte, error) {
	if data, ok := s.seen[name]; ok && int64(len(data)) <= maxBytes {
		return data, nil
	}
	data, err := s.Source.Get(ctx, name, maxBytes)
	if err == nil {
		s.seen[name] = data
	}
	return data, err
}

// prime fills the trust folder of a channel with what a published folder has: their layout is the same, and a
// client checks whatever it finds there.
func prime(trust, known, channel string) error {
	if known == "" {
		return nil
	}
	for _, dir := range []string{"metadata", "targets", "targets/" + channel} {
		from, to := filepath.Join(known, filepath.FromSlash(dir)), filepath.Join(trust, filepath.FromSlash(dir))
		list, err := os.ReadDir(from)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		for _, e := range list {
			if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") { // half written
				continue
			}
			data, err := durable.ReadFile(durable.OS(), filepath.Join(from, e.Name()), fileLimit)
			if err == nil {
				err = os.WriteFile(filepath.Join(to, e.Name()), data, 0o644)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// channel has the client verify everything about its channel, and notes what is wanted of it.
func (c *collection) channel(ctx context.Context, client *manifest.Client, source manifest.Source, s selection) error {
	view, err := client.Refresh(ctx, source)
	if err != nil {
		return err
	}
	c.timestamp = view.TimestampVersion
	if c.expires.IsZero() || view.Expires.Before(c.expires) {
		c.expires = view.Expires
	}
	found := verifiedChannel{Name: view.Channel.Name, MinEpoch: view.Channel.MinEpoch, Releases: []verifiedRelease{}}
	newest := slices.IndexFunc(view.Channel.Offers, func(o manifest.Offer) bool { return o.Yanked == "" })
	for i, offer := range view.Channel.Offers {
		release, err := client.Release(ctx, source, offer.Version)
		if err != nil {
			return fmt.Errorf("version %s: %w", offer.Version, err)
		}
		if len(s.versions) > 0 && !slices.Contains(s.versions, offer.Version) && (i != newest || !slices.Contains(s.versions, newestVersion)) {
			continue
		}
		r := verifiedRelease{Version: offer.Version, Epoch: offer.Epoch, Share: offer.Share, Yanked: offer.Yanked}
		for _, artifact := range release.Artifacts {
			platform := artifact.OS + "/" + artifact.Arch
			if len(s.platforms) > 0 && !slices.Contains(s.platforms, platform) {
				continue
			}
			r.Platforms = append(r.Platforms, platform)
			c.add(artifact, func(r io.Reader) error { return verifyOffered(view.Trust, release, artifact, offer, r) })
		}
		if len(r.Platforms) > 0 {
			found.Releases = append(found.Releases, r)
		}
	}
	c.channels = append(c.channels, found)
	return nil
}

// add notes an artifact and all that its entry names beside it, such as patches.
func (c *collection) add(a manifest.Artifact, verify func(io.Reader) error) {
	for _, named := range contents(a) {
		i := slices.IndexFunc(c.contents, func(x content) bool { return x.SHA256 == named.SHA256 })
		if i < 0 {
			i = len(c.contents)
			c.contents = append(c.contents, named)
		}
		if x := &c.contents[i]; named.SHA256 == a.SHA256 {
			x.minisigs = append(x.minisigs, a.Minisig)
			x.verify = append(x.verify, verify)
		}
	}
}

// contents finds every file that an entry of a release document names, wherever in it: whatever has a digest
// and a size lies under its digest.
func contents(entry any) []content {
	text, err := json.Marshal(entry)
	if err != nil {
		panic("release: internal error: " + err.Error())
	}
	var found []content
	var walk func(text json.RawMessage)
	walk = func(text json.RawMessage) {
		var object map[string]json.RawMessage
		var list []json.RawMessage
		switch {
		case json.Unmarshal(text, &object) == nil:
			var c content
			if json.Unmarshal(text, &c) == nil && c.SHA256 != "" && c.SizeBytes > 0 {
				found = append(found, c)
			}
			for _, key := range slices.Sorted(maps.Keys(object)) {
				walk(object[key])
			}
		case json.Unmarshal(text, &list) == nil:
			for _, part := range list {
				walk(part)
			}
		}
	}
	walk(text)
	return found
}

// gather takes what a client kept, which after its refresh is the verified set and every root.
func (c *collection) gather(trust string) error {
	tree := os.DirFS(trust)
	return fs.WalkDir(tree, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.Contains(name, "/") { // beside the folders lies the client's clock
			return err
		}
		data, err := fs.ReadFile(tree, name)
		if err == nil && c.small[name] != nil && !bytes.Equal(c.small[name], data) {
			err = fmt.Errorf("%w: two channels have %s with different bytes", manifest.ErrVerify, name)
		}
		c.small[name] = data
		return err
	})
}

// fetch returns a content of the repository, complete and verified as a host would, having put it into a file
// of the folder parts, where an earlier call may have left the beginning of it. The file goes when it was read
// to its end.
func (c *collection) fetch(ctx context.Context, x content, parts string) (io.ReadCloser, error) {
	part := filepath.Join(parts, x.SHA256+".part")
	want := fetch.Want{Name: manifest.HashPath(x.SHA256), SizeBytes: x.SizeBytes, SHA256: x.SHA256}
	if err := c.source.Download(ctx, durable.OS(), want, part, nil); err != nil {
		return nil, asClient(err)
	}
	f, err := os.Open(part)
	if err != nil {
		return nil, err
	}
	for _, verify := range x.verify {
		if err == nil {
			err = verify(f)
		}
		if err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
	}
	if err != nil {
		_ = f.Close() // only read
		return nil, err
	}
	return &passing{File: f}, nil
}

// passing is a temporary file that goes with its last byte.
type passing struct {
	*os.File
	ended bool
}

func (p *passing) Read(b []byte) (int, error) {
	n, err := p.File.Read(b)
	p.ended = p.ended || err == io.EOF
	return n, err
}

func (p *passing) Close() error {
	err := p.File.Close()
	if p.ended {
		_ = os.Remove(p.Name()) // what stays behind is only room
	}
	return err
}
