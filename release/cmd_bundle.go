package main

import (
	"bytes"
	"context"
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
	"github.com/turnstone-go/turnstone/updater/bundle"
)

func (a *app) bundleCommand() *cobra.Command {
	var s selection
	cmd := &cobra.Command{
		Use:   "bundle OUT.tsb",
		Short: "Put the repository, or a part of it, into one file for hosts without a network",
		Long: "Put the repository, or a part of it, into one file for hosts without a network: all metadata, the release\n" +
			"documents, and the programs of the chosen versions and platforms. It is taken from the product in --dir,\n" +
			"whose metadata is renewed first as publish does, or from a published repository (--from). A host takes it\n" +
			"in with 'launcher bundle import', which trusts nothing but the vendor's signatures in it. The same\n" +
			"repository always makes the same bytes.\n\n" +
			exitHelp(codeOK, codeFailed, codeUsage, codeVerify, codeDownload, codePreflight),
		Example: "  release bundle agent.tsb --channel stable --platform linux/amd64 --version newest\n" +
			"  release bundle agent.tsb --from https://updates.example.com/ --root 1.root.json --product agent --channel stable",
		Args: cobra.ExactArgs(1),
		RunE: a.runE(func(ctx context.Context, args []string) (answer, error) { return a.bundle(ctx, s, args[0]) }),
	}
	s.flags(cmd, "from", "published repository to take it from, a URL or a folder (default: the product in --dir)")
	cmd.Flags().StringArrayVar(&s.versions, "version", nil, "version to carry, or 'newest'; may be given several times (default: all)")
	cmd.Flags().StringArrayVar(&s.platforms, "platform", nil, "OS/ARCH to carry; may be given several times (default: all)")
	return cmd
}

// flags are those that say which repository is meant and what is trusted about it.
func (s *selection) flags(cmd *cobra.Command, source, help string) {
	if source != "" {
		cmd.Flags().StringVar(&s.url, source, "", help)
	}
	cmd.Flags().StringVar(&s.root, "root", "", "trusted root metadata (default: repo/metadata/1.root.json of the product)")
	cmd.Flags().StringVar(&s.product, "product", "", "name of the product (default: the one in --dir)")
	cmd.Flags().StringArrayVar(&s.channels, "channel", nil, "channel; may be given several times (default: all of the product)")
}

// named is what the command line says of versions and platforms.
func (s selection) named() string {
	words := []string{"is on offer"}
	if len(s.versions) > 0 {
		words = append(words, "as version "+strings.Join(s.versions, " or "))
	}
	if len(s.platforms) > 0 {
		words = append(words, "for "+strings.Join(s.platforms, " or "))
	}
	return strings.Join(words, " ")
}

// bundled is the answer of bundle.
type bundled struct {
	File      string            `json:"file"`
	SizeBytes int64             `json:"size_bytes"`
	Product   string            `json:"product"`
	Timestamp int64             `json:"timestamp_version"`
	Expires   time.Time         `json:"expires"`
	Channels  []verifiedChannel `json:"channels"` // with the releases whose programs are in it
	Files     int               `json:"files"`
}

func (b bundled) text(w io.Writer) {
	line(w, "bundle", "%s, %s in %s", count(b.Files, "file"), size(b.SizeBytes), b.File)
	for _, c := range b.Channels {
		for _, r := range c.Releases {
			line(w, c.Name, "%s for %s", r.Version, strings.Join(r.Platforms, ", "))
		}
	}
	line(w, "expires", "%s: hosts take it in until then, or as long after it as their repository.max_staleness says", b.Expires.Format(time.RFC3339))
}

func (a *app) bundle(ctx context.Context, s selection, out string) (answer, error) {
	if s.url == "" {
		done, err := a.renewed(ctx)
		if err != nil {
			return nil, err
		}
		defer done()
		s.url = filepath.Join(a.dir, "repo")
	}
	c, err := a.collect(ctx, s, "")
	if err != nil {
		return nil, err
	}
	if len(c.contents) == 0 {
		return nil, usage("no program %s: 'release verify' on the published repository lists what there is", s.named())
	}
	temp, err := tempDir()
	if err != nil {
		return nil, err
	}
	defer temp.remove()
	files := c.bundle(ctx, temp.path)
	b := bundled{File: out, Product: c.product, Timestamp: c.timestamp, Expires: c.expires, Channels: c.channels, Files: len(files)}
	if b.SizeBytes, err = writeBundle(out, files); err != nil {
		return nil, err
	}
	return b, nil
}

// renewed holds the product, with metadata that is good for a while, until done is called.
func (a *app) renewed(ctx context.Context) (done func(), err error) {
	w, err := a.open()
	if err != nil {
		return nil, err
	}
	set, err := w.read(ctx, w.tree)
	if err == nil {
		_, err = w.refresh(ctx, set)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return w.close, nil
}

// bundle lists the files of a bundle.
func (c *collection) bundle(ctx context.Context, parts string) []bundle.File {
	var files []bundle.File
	for _, name := range slices.Sorted(maps.Keys(c.small)) {
		data := c.small[name]
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
		files = append(files, bundle.File{Name: name, SizeBytes: int64(len(data)), Open: open})
	}
	for _, x := range c.contents {
		open := func() (io.ReadCloser, error) { return c.fetch(ctx, x, parts) }
		files = append(files, bundle.File{Name: manifest.HashPath(x.SHA256), SizeBytes: x.SizeBytes, Open: open})
	}
	return files
}

// writeBundle makes the file under its name only when it is whole and on the disk.
func writeBundle(out string, files []bundle.File) (sizeBytes int64, err error) {
	temp := out + ".part"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp) // the error that matters is the one returned
		}
	}()
	err = bundle.Write(f, files)
	if err == nil {
		sizeBytes, err = f.Seek(0, io.SeekCurrent)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	disk := durable.OS()
	if err := disk.Rename(temp, out); err != nil {
		return 0, fmt.Errorf("name the bundle: %w", err)
	}
	return sizeBytes, disk.SyncDir(filepath.Dir(out))
}
