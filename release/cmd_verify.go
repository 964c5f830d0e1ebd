package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/release/repo"
	"github.com/turnstone-go/turnstone/updater/fetch"
)

// verification is the command line of verify.
type verification struct {
	url, root, product string
	channels           []string
}

func (a *app) verifyCommand() *cobra.Command {
	var v verification
	cmd := &cobra.Command{
		Use:   "verify URL|DIR|s3:BUCKET/PREFIX",
		Short: "Read a repository as a new client would, and check every byte of it",
		Long: "Read a repository as a new client would, with an empty trust folder: all metadata of every channel, every\n" +
			"release document and every program for every platform, with both of its signatures.\n" +
			"What is trusted is the first root of the product in --dir, or --root with --product and --channel.\n" +
			"An object store is named as for 'release publish', and is read with its credentials.\n\n" +
			exitHelp(codeOK, codeFailed, codeUsage, codeVerify, codeDownload, codePreflight),
		Example: "  release verify ./public\n  release verify https://updates.example.com/ --root 1.root.json --product agent --channel stable",
		Args:    cobra.ExactArgs(1),
		RunE: a.runE(func(ctx context.Context, args []string) (answer, error) {
			v.url = args[0]
			return a.verify(ctx, v)
		}),
	}
	cmd.Flags().StringVar(&v.root, "root", "", "trusted root metadata (default: repo/metadata/1.root.json of the product)")
	cmd.Flags().StringVar(&v.product, "product", "", "name of the product (default: the one in --dir)")
	cmd.Flags().StringArrayVar(&v.channels, "channel", nil, "channel to check; may be given several times (default: all of the product)")
	return cmd
}

// verified is the answer of verify.
type verified struct {
	URL       string            `json:"url"`
	Product   string            `json:"product"`
	Root      int64             `json:"root_version"`
	Timestamp int64             `json:"timestamp_version"`
	Expires   time.Time         `json:"expires"`
	Channels  []verifiedChannel `json:"channels"`
	Artifacts int               `json:"artifacts"` // downloaded and checked
	Patches   int               `json:"patches"`   // downloaded, applied, and compared
	Packed    int               `json:"packed"`    // copies of programs: downloaded, unpacked, and compared
	SizeBytes int64             `json:"size_bytes"`
}

type verifiedChannel struct {
	Name     string            `json:"name"`
	MinEpoch uint64            `json:"min_epoch"`
	Releases []verifiedRelease `json:"releases"` // newest first
}

type verifiedRelease struct {
	Version   string   `json:"version"`
	Epoch     uint64   `json:"epoch"`
	Share     int      `json:"share"` // of the hosts, in basis points
	Yanked    string   `json:"yanked,omitempty"`
	Platforms []string `json:"platforms"`
}

func (v verified) text(w io.Writer) {
	line(w, "trust", "%s: root %d, timestamp %d, good until %s", v.Product, v.Root, v.Timestamp, v.Expires.Format(time.RFC3339))
	for _, c := range v.Channels {
		for _, r := range c.Releases {
			state := "offered"
			if r.Share != manifest.AllHosts {
				state += " to " + percent(r.Share)
			}
			if r.Yanked != "" {
				state = "yanked: " + r.Yanked
			}
			line(w, c.Name, "%s for %s, %s", r.Version, strings.Join(r.Platforms, ", "), state)
		}
		if c.MinEpoch > 0 {
			line(w, c.Name, "nothing below epoch %d may be chosen", c.MinEpoch)
		}
		if len(c.Releases) == 0 {
			line(w, c.Name, "no version yet")
		}
	}
	if v.Patches > 0 {
		line(w, "verify", "%s: each makes the signed program", count(v.Patches, "patch file"))
	}
	if v.Packed > 0 {
		line(w, "verify", "%s: each holds the signed program", count(v.Packed, "packed file"))
	}
	line(w, "verify", "%s, %s: signatures, digests and dates are right", count(v.Artifacts, "program file"), size(v.SizeBytes))
}

func (a *app) verify(ctx context.Context, v verification) (answer, error) {
	v.url = located(v.url)
	root, err := a.anchor(&v)
	if err != nil {
		return nil, err
	}
	source, err := openSource(ctx, v.url)
	if err != nil {
		return nil, err
	}
	temp, err := tempDir()
	if err != nil {
		return nil, err
	}
	defer temp.remove()
	c := &checker{disk: durable.OS(), source: source, temp: temp.path, done: map[string]bool{}, signatures: map[string][]string{}, files: map[string]manifest.Artifact{}}
	c.result = verified{URL: v.url, Product: v.product}
	if err := c.firstRoot(ctx, root); err != nil {
		return nil, asClient(err)
	}
	for _, channel := range v.channels {
		if err := c.channel(ctx, root, channel); err != nil {
			return nil, fmt.Errorf("channel %s: %w", channel, asClient(err))
		}
	}
	if err := c.looseSignatures(ctx); err != nil {
		return nil, asClient(err)
	}
	if err := c.patches(ctx); err != nil {
		return nil, asClient(err)
	}
	return c.result, nil
}

// anchor completes the command line from the product and returns the trusted root.
func (a *app) anchor(v *verification) ([]byte, error) {
	w := a.workspace()
	if v.root == "" || v.product == "" || len(v.channels) == 0 {
		p, err := loadProduct(w.disk, w.path)
		if err != nil {
			return nil, usage("%w; without a product give --root, --product and --channel", err)
		}
		if v.product == "" {
			v.product = p.Name
		}
		if len(v.channels) == 0 {
			v.channels = p.Channels
		}
		for _, name := range v.channels {
			if err := p.channel(name); err != nil && v.product == p.Name {
				return nil, err
			}
		}
		if v.root == "" {
			v.root = filepath.Join(w.path, "repo", "metadata", "1.root.json")
		}
	}
	for _, name := range append([]string{v.product}, v.channels...) {
		if err := manifest.CheckName(name); err != nil {
			return nil, misgiven("--product, --channel: ", err)
		}
	}
	root, err := durable.ReadFile(w.disk, v.root, fileLimit)
	if err != nil {
		return nil, usage("trusted root: %w", err)
	}
	return root, nil
}

// asClient gives an error of the client's side its exit code. Bytes that are wrong or too many are the
// publisher's doing; bytes that do not come may be the network's.
func asClient(err error) error {
	var known *exitError
	switch {
	case errors.As(err, &known), errors.Is(err, manifest.ErrVerify), errors.Is(err, context.Canceled),
		errors.Is(err, repo.ErrCredentials):
		return err
	case errors.Is(err, fetch.ErrDigest), errors.Is(err, fetch.ErrTooLong):
		return &exitError{codeVerify, err}
	}
	return &exitError{codeDownload, err}
}

// checker reads one repository; what it has checked it does not download again.
type checker struct {
	disk   durable.Disk
	source *fetch.Repository
	temp   string
	done   map[string]bool // by the trusted comment of an artifact, which names it completely
	result verified

	signatures map[string][]string          // of the artifacts, by digest
	files      map[string]manifest.Artifact // by platform and digest: what patches start from
	patched    []patched
}

// firstRoot compares the published copy of the trusted root with it. Clients never read that copy, but
// whoever sets up a launcher might.
func (c *checker) firstRoot(ctx context.Context, root []byte) error {
	version, err := signedVersion(root)
	if err != nil {
		return usage("trusted root: %w", err)
	}
	name := fmt.Sprintf("metadata/%d.root.json", version)
	data, err := c.source.Get(ctx, name, fileLimit)
	if err != nil {
		return err
	}
	if !bytes.Equal(data, root) {
		return fmt.Errorf("%w: %s is not the root that is trusted", manifest.ErrVerify, name)
	}
	return nil
}

// signedVersion reads the version number out of a metadata file and trusts nothing.
func signedVersion(data []byte) (int64, error) {
	var file struct {
		Signed struct {
			Version int64 `json:"version"`
		} `json:"signed"`
	}
	err := json.Unmarshal(data, &file)
	return file.Signed.Version, err
}

func (c *checker) channel(ctx context.Context, root []byte, name string) error {
	host := manifest.Host{Product: c.result.Product, Channel: name}
	client, err := manifest.Open(c.disk, filepath.Join(c.temp, "trust-"+name), root, host)
	if err != nil {
		return err
	}
	view, err := client.Refresh(ctx, c.source)
	if err != nil {
		return err
	}
	c.result.Root, c.result.Timestamp = view.RootVersion, view.TimestampVersion
	if c.result.Expires.IsZero() || view.Expires.Before(c.result.Expires) {
		c.result.Expires = view.Expires
	}
	found := verifiedChannel{Name: name, MinEpoch: view.Channel.MinEpoch, Releases: []verifiedRelease{}}
	for _, offer := range view.Channel.Offers {
		release, err := client.Release(ctx, c.source, offer.Version)
		if err != nil {
			return fmt.Errorf("version %s: %w", offer.Version, err)
		}
		r := verifiedRelease{Version: offer.Version, Epoch: offer.Epoch, Share: offer.Share, Yanked: offer.Yanked}
		for _, a := range release.Artifacts {
			check := func(r io.Reader) error { return verifyOffered(view.Trust, release, a, offer, r) }
			if err := c.artifact(ctx, offer, a, check); err != nil {
				return fmt.Errorf("version %s for %s/%s: %w", offer.Version, a.OS, a.Arch, err)
			}
			r.Platforms = append(r.Platforms, a.OS+"/"+a.Arch)
		}
		found.Releases = append(found.Releases, r)
	}
	c.result.Channels = append(c.result.Channels, found)
	return nil
}

// verifyOffered checks the second signature of an artifact. One that was taken back may be by a key that was taken
// away since: no host chooses it, and what is left to check are the bytes.
func verifyOffered(trust manifest.Trust, release manifest.Release, a manifest.Artifact, offer manifest.Offer, r io.Reader) error {
	if offer.Yanked != "" && !trusts(trust, a) {
		return nil
	}
	return trust.VerifyArtifact(release.Product, release.Version, a, r)
}

// trusts says whether an artifact names one of the trusted keys as its signer.
func trusts(trust manifest.Trust, a manifest.Artifact) bool {
	by, err := manifest.ArtifactID(a.Minisig)
	return err == nil && slices.ContainsFunc(trust.Minisign, func(text string) bool {
		id, err := manifest.ArtifactID(text)
		return err == nil && id == by
	})
}

// artifact downloads a program as a launcher would and checks both signatures over the bytes on disk.
func (c *checker) artifact(ctx context.Context, offer manifest.Offer, a manifest.Artifact, check func(io.Reader) error) error {
	version := offer.Version
	key := manifest.TrustedComment(c.result.Product, version, a)
	if offer.Yanked != "" {
		key += " yanked" // in another channel it may be offered, and then more is asked of it
	}
	if c.done[key] {
		return nil
	}
	file := filepath.Join(c.temp, a.SHA256+".part")
	defer func() { _ = c.disk.Remove(file) }() // the folder goes anyway; this bounds the space
	want := fetch.Want{Name: manifest.HashPath(a.SHA256), SizeBytes: a.SizeBytes, SHA256: a.SHA256}
	if err := c.source.Download(ctx, c.disk, want, file, func(done, total int64) {}); err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := check(f); err != nil {
		return err
	}
	c.done[key] = true
	c.files[platformOf(a)+a.SHA256] = a
	c.patched = append(c.patched, patched{version, a})
	c.signatures[a.SHA256] = append(c.signatures[a.SHA256], a.Minisig)
	c.result.Artifacts++
	c.result.SizeBytes += a.SizeBytes
	return nil
}

// looseSignatures checks the signature files that people give to minisign. Where two releases have the
// same bytes there is one file, with the signature of either.
func (c *checker) looseSignatures(ctx context.Context) error {
	for _, digest := range slices.Sorted(maps.Keys(c.signatures)) {
		name := manifest.HashPath(digest) + ".minisig"
		data, err := c.source.Get(ctx, name, fileLimit)
		if err != nil {
			return err
		}
		if !slices.Contains(c.signatures[digest], string(data)) {
			return fmt.Errorf("%w: %s is not the signature in a release document", manifest.ErrSignature, name)
		}
	}
	return nil
}
