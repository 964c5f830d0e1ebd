package manifest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"
	"github.com/turnstone-go/turnstone/internal/durable"
)

// ErrNoRelease is a version that the channel does not sign. It is no refusal: nothing is wrong with it.
var ErrNoRelease = errors.New("the channel has no such release")

// Client keeps what one host knows about a repository in its trust folder. Its methods may be called
// concurrently; they run one after the other.
//
// The folder has the layout of a repository, less what this host does not read, and one more file,
// clock. Every N.root.json that was ever verified stays for good: a mirror cannot make the client forget
// that a key was revoked. The rest is swept when a newer set has replaced it.
type Client struct {
	disk   durable.Disk
	trust  folder
	anchor []byte
	host   Host

	mu   sync.Mutex
	view *View // the last one made, or nil
}

// Open makes a client with its trust folder and the root metadata that the launcher was installed with.
// It returns a refusal when the root is not a valid one; what the folder holds is read only later.
func Open(d durable.Disk, dir string, root []byte, h Host) (c *Client, err error) {
	defer recovered(&err)
	for _, name := range []string{h.Product, h.Channel} {
		if err := CheckName(name); err != nil {
			return nil, fmt.Errorf("open trust: %w", err)
		}
	}
	if _, err := trustedmetadata.New(root); err != nil {
		return nil, fmt.Errorf("open trust: %w", fromTUF("installed root", err))
	}
	for _, sub := range []string{"metadata", filepath.Join("targets", h.Channel)} {
		if err := durable.MkdirAll(d, filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("open trust: %w", err)
		}
	}
	return &Client{disk: d, trust: folder{d, dir}, anchor: root, host: h}, nil
}

// Refresh asks a source for news and returns the verified view, having saved it. It returns a refusal,
// or the error of the source or the disk; the last view stays in force then. The time that expiries are
// held against is the later of the wall clock and the newest verified signed time, so setting the clock
// back brings nothing back to life.
func (c *Client) Refresh(ctx context.Context, src Source) (*View, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	view, err := c.refresh(ctx, src)
	if err != nil {
		return nil, fmt.Errorf("refresh: %w", err)
	}
	c.view = view
	return view, nil
}

func (c *Client) refresh(ctx context.Context, src Source) (view *View, err error) {
	defer recovered(&err)
	w := c.walk(ctx, src)
	w.at = c.now(ctx).Add(-c.host.MaxStaleness)
	w.saveRoot = c.save
	if err := w.run(); err != nil {
		return nil, err
	}
	if err := w.checkClock(); err != nil {
		return nil, err
	}
	for _, before := range c.before(w) {
		if err := w.view.Channel.checkAfter(before); err != nil {
			return nil, err
		}
	}
	return &w.view, c.keep(ctx, w)
}

// Cached returns the view that the trust folder holds, without the network and whether or not it has
// expired. Before the first Refresh the error satisfies errors.Is(err, fs.ErrNotExist).
func (c *Client) Cached() (*View, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	view, err := c.cached()
	if err != nil {
		return nil, fmt.Errorf("cached trust: %w", err)
	}
	c.view = view
	return view, nil
}

func (c *Client) cached() (view *View, err error) {
	defer recovered(&err)
	ctx := context.Background()
	w := c.walk(ctx, c.trust)
	// Nothing is after the zero time, so every expiry holds; the view says what has passed.
	w.at = time.Time{}
	w.saveRoot = func(File) error { return nil }
	if err := w.run(); err != nil {
		return nil, err
	}
	w.view.Expired = c.now(ctx).After(w.view.Expires)
	return &w.view, nil
}

// Release returns a release document that the last view signs, from the trust folder or else from the
// source, and saves it. It returns ErrNoRelease, ErrWrongPlatform (of a document that is good for others), a refusal, or
// the error of the source or the disk.
func (c *Client) Release(ctx context.Context, src Source, version string) (Release, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, err := c.release(ctx, src, version)
	if err != nil {
		return Release{}, fmt.Errorf("release %s: %w", version, err)
	}
	return r, nil
}

func (c *Client) release(ctx context.Context, src Source, version string) (r Release, err error) {
	defer recovered(&err)
	if c.view == nil {
		if c.view, err = c.cached(); err != nil {
			return Release{}, err
		}
	}
	t, ok := c.view.releases[version]
	if !ok {
		return Release{}, ErrNoRelease
	}
	w := c.walk(ctx, src)
	data, err := w.document(t)
	if err != nil {
		return Release{}, err
	}
	if r, err = openRelease(data, c.host.Product, version); err != nil {
		return Release{}, err
	}
	if o, ok := c.view.Channel.Offer(version); ok && o.Epoch != r.Epoch {
		return Release{}, fmt.Errorf("%w: epoch %d, the channel offers epoch %d", ErrWrongVersion, r.Epoch, o.Epoch)
	}
	if err := c.saveAll(w.fresh); err != nil {
		return Release{}, err
	}
	if _, ok := r.Artifact(c.host.OS, c.host.Arch); !ok && c.host.OS != "" {
		return Release{}, fmt.Errorf("%w: %s/%s", ErrWrongPlatform, c.host.OS, c.host.Arch)
	}
	return r, nil
}

func (c *Client) walk(ctx context.Context, src Source) *walk {
	return &walk{
		core: core{ctx: ctx, src: src, cache: c.trust, anchor: c.anchor, used: map[string]bool{}},
		host: c.host,
	}
}

// folder is a Source in a local folder.
type folder struct {
	disk durable.Disk
	dir  string
}

func (f folder) Get(_ context.Context, name string, maxBytes int64) ([]byte, error) {
	return durable.ReadFile(f.disk, f.path(name), maxBytes)
}

func (f folder) path(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

// keep makes a verified walk durable. The files under timestamp.json come first and it comes last: on
// each line before, the folder still holds the old set, and a later Refresh finds what is already there.
func (c *Client) keep(ctx context.Context, w *walk) error {
	if err := c.raiseClock(ctx, w.view.Channel.SignedAt); err != nil {
		return err
	}
	// A predecessor that was killed may have left names that this walk found and that no disk holds yet.
	for _, dir := range c.folders() {
		if err := c.disk.SyncDir(c.trust.path(dir)); err != nil {
			return err
		}
	}
	if err := c.saveAll(w.fresh); err != nil {
		return err
	}
	for _, t := range w.view.releases {
		w.used[t.name()] = true
	}
	c.sweep(w.used)
	return nil
}

func (c *Client) folders() []string {
	return []string{"metadata", "targets", "targets/" + c.host.Channel}
}

// saveAll saves in reverse, since a walk goes from the timestamp to what it stands for.
func (c *Client) saveAll(files []File) error {
	for i := len(files) - 1; i >= 0; i-- {
		if err := c.save(files[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) save(f File) error {
	return durable.WriteFile(c.disk, c.trust.path(f.Name), f.Data, 0o644)
}

// sweep removes what no set in force names, except roots. What it cannot remove costs only room, so its
// errors are dropped and the next refresh tries again.
func (c *Client) sweep(used map[string]bool) {
	for _, dir := range c.folders() {
		entries, err := c.disk.ReadDir(c.trust.path(dir))
		if err != nil {
			continue
		}
		for _, e := range entries {
			name := dir + "/" + e.Name()
			if e.Type() == fs.ModeDir || used[name] || strings.HasSuffix(name, ".root.json") {
				continue
			}
			_ = c.disk.Remove(c.trust.path(name))
		}
	}
}

const (
	clockName     = "clock"
	maxClockBytes = 64
)

// now returns the time that expiries are held against.
func (c *Client) now(ctx context.Context) time.Time {
	now := time.Now().UTC()
	if seen := c.clock(ctx); seen.After(now) {
		return seen
	}
	return now
}

// clock returns the newest signed time that was ever verified. A file that is missing or unreadable
// counts as no time at all: whoever can write in the trust folder has no need to turn the clock.
func (c *Client) clock(ctx context.Context) time.Time {
	data, err := c.trust.Get(ctx, clockName, maxClockBytes)
	if err != nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, strings.TrimSuffix(string(data), "\n"))
	if err != nil {
		return time.Time{}
	}
	return t.UTC()
}

func (c *Client) raiseClock(ctx context.Context, t time.Time) error {
	if !t.After(c.clock(ctx)) {
		return nil
	}
	return c.save(File{Name: clockName, Data: []byte(t.Format(time.RFC3339) + "\n")})
}
