package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/release/repo"
)

// mirrorParts holds downloads that are not complete. Servers do not show what begins with a dot.
const mirrorParts = ".mirror"

func (a *app) mirrorCommand() *cobra.Command {
	var s selection
	var prune bool
	cmd := &cobra.Command{
		Use:   "mirror URL DIR",
		Short: "Keep a folder in step with a published repository",
		Long: "Keep a folder in step with a published repository, for hosts that reach only the folder. Everything is\n" +
			"verified as a host would before hosts can see it, and an older repository than the folder has is refused.\n" +
			"Only what is missing is downloaded; cut at any time, the same command goes on. Whoever reads the folder\n" +
			"meanwhile sees all of the old repository or all of the new one. Nothing is removed without --prune.\n\n" +
			exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codeVerify, codeDownload, codePreflight),
		Example: "  release mirror https://updates.example.com/ /srv/mirror --root 1.root.json --product agent --channel stable",
		Args:    cobra.ExactArgs(2),
		RunE: a.runE(func(ctx context.Context, args []string) (answer, error) {
			s.url = args[0]
			return a.mirror(ctx, s, args[1], prune)
		}),
	}
	s.flags(cmd, "", "")
	cmd.Flags().BoolVar(&prune, "prune", false, "remove what the repository does not name any more; readers that have just begun may miss it")
	return cmd
}

// mirrored is the answer of mirror.
type mirrored struct {
	URL       string    `json:"url"`
	To        string    `json:"to"`
	Timestamp int64     `json:"timestamp_version"`
	Expires   time.Time `json:"expires"`
	Written   []string  `json:"written"`
	Same      int       `json:"same"`
	SizeBytes int64     `json:"size_bytes"` // of what was written
	Pruned    []string  `json:"pruned"`
}

func (m mirrored) text(w io.Writer) {
	if len(m.Written) > 0 {
		line(w, "mirror", "%s, %s to %s; %d there already", count(len(m.Written), "file"), size(m.SizeBytes), m.To, m.Same)
	}
	if len(m.Pruned) > 0 {
		line(w, "prune", "%s", count(len(m.Pruned), "file"))
	}
	line(w, "trust", "timestamp %d, good until %s", m.Timestamp, m.Expires.Format(time.RFC3339))
}

func (a *app) mirror(ctx context.Context, s selection, dir string, prune bool) (answer, error) {
	disk, parts := durable.OS(), filepath.Join(dir, mirrorParts)
	c, err := a.collect(ctx, s, dir)
	if err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(disk, parts, 0o755); err != nil {
		return nil, err
	}
	dst := repo.Dir(disk, dir)
	files := c.files(ctx, dst, parts)
	report, err := repo.Publish(ctx, dst, files)
	m := mirrored{URL: s.url, To: dir, Timestamp: c.timestamp, Expires: c.expires, Written: append([]string{}, report.Written...),
		Same: report.Same, SizeBytes: report.SizeBytes, Pruned: []string{}}
	if errors.Is(err, repo.ErrConflict) {
		return m, fmt.Errorf("%w: %s was damaged or is not a mirror of this repository: remove that file, or give another folder, and run this again", err, dir)
	}
	if err != nil {
		return m, err
	}
	if prune {
		if m.Pruned, err = remove(dir, files); err != nil {
			return m, fmt.Errorf("prune %s: %w", dir, err)
		}
	}
	if err := durable.RemoveAll(disk, parts); err != nil {
		return m, err
	}
	if len(m.Written)+len(m.Pruned) == 0 {
		return m, nothing("%s is in step with %s", dir, s.url)
	}
	return m, nil
}

// files lists what the mirror shall hold, the pointer last.
func (c *collection) files(ctx context.Context, dst repo.Store, parts string) []repo.File {
	var files []repo.File
	for _, x := range c.contents {
		open := func() (io.ReadCloser, error) { return c.fetch(ctx, x, parts) }
		name := manifest.HashPath(x.SHA256)
		files = append(files, repo.File{Name: name, SizeBytes: x.SizeBytes, SHA256: x.SHA256, Open: open})
		if len(x.minisigs) == 0 {
			continue
		}
		// Where two releases have the same bytes this file has the signature of either.
		loose, err := dst.Get(ctx, name+".minisig", fileLimit)
		if err != nil || !slices.Contains(x.minisigs, string(loose)) {
			loose = []byte(x.minisigs[0])
		}
		files = append(files, repo.Bytes(name+".minisig", loose))
	}
	for _, name := range slices.Sorted(maps.Keys(c.small)) {
		files = append(files, repo.Bytes(name, c.small[name]))
	}
	return files
}

// remove takes away what is no file of the repository. Roots stay: every one that was there is among them.
func remove(dir string, files []repo.File) ([]string, error) {
	keep := map[string]bool{}
	for _, f := range files {
		keep[f.Name] = true
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	removed := []string{}
	for _, part := range []string{"artifacts", "metadata", "targets"} {
		err := fs.WalkDir(root.FS(), part, func(name string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) && name == part {
				return nil
			}
			if err != nil || e.IsDir() || keep[name] {
				return err
			}
			removed = append(removed, name)
			return root.Remove(filepath.FromSlash(name))
		})
		if err != nil {
			return removed, err
		}
	}
	return removed, nil
}
