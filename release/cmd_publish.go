package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/release/repo"
)

func (a *app) publishCommand() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "publish --to dir:PATH",
		Short: "Copy the signed repository to where clients read it",
		Long: "Copy the signed repository to where clients read it. Metadata that is past half of its time is renewed\n" +
			"first. Whoever reads meanwhile sees all of the old repository or all of the new one: timestamp.json is\n" +
			"written last. After an interruption the same command finishes the work; when all is there already\n" +
			"nothing is written.\n\n" +
			exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codeVerify, codePreflight),
		Args: cobra.NoArgs,
		RunE: a.runE(func(ctx context.Context, _ []string) (answer, error) {
			scheme, path, _ := strings.Cut(to, ":")
			if scheme != "dir" || path == "" {
				return nil, usage("--to %q: write it as dir:PATH", to)
			}
			w, err := a.open()
			if err != nil {
				return nil, err
			}
			defer w.close()
			return w.publish(ctx, repo.Dir(w.disk, path), to)
		}),
	}
	cmd.Flags().StringVar(&to, "to", "", "where to: dir:PATH")
	_ = cmd.MarkFlagRequired("to") // the flag is there: it is defined above
	return cmd
}

// published is the answer of publish.
type published struct {
	To        string   `json:"to"`
	Written   []string `json:"written"`
	Same      int      `json:"same"`
	SizeBytes int64    `json:"size_bytes"`
	Renewed   []string `json:"renewed"`
	Warnings  []string `json:"warnings"`
	Timestamp int64    `json:"timestamp_version,omitempty"` // read back as a client would
}

func (p published) text(w io.Writer) {
	if len(p.Renewed) > 0 {
		line(w, "renew", "%s", strings.Join(p.Renewed, ", "))
	}
	if len(p.Written) > 0 {
		line(w, "publish", "%s, %s to %s; %d there already", count(len(p.Written), "file"), size(p.SizeBytes), p.To, p.Same)
	}
	if p.Timestamp > 0 {
		line(w, "readback", "a client sees timestamp %d", p.Timestamp)
	}
	for _, warning := range p.Warnings {
		line(w, "warning", "%s", warning)
	}
}

func (w *workspace) publish(ctx context.Context, dst repo.Store, to string) (answer, error) {
	set, err := w.read(ctx, w.tree)
	if err != nil {
		return nil, err
	}
	p := published{To: to, Written: []string{}, Warnings: w.warnings(set)}
	if p.Renewed, err = w.refresh(ctx, set); err != nil {
		return nil, err
	}
	files, err := w.files(set)
	if err != nil {
		return nil, err
	}
	if err := w.checkHistory(ctx, dst, set); err != nil {
		return nil, err
	}
	report, err := repo.Publish(ctx, dst, files)
	if err != nil {
		return nil, conflict(err, to)
	}
	p.Written, p.Same, p.SizeBytes = append(p.Written, report.Written...), report.Same, report.SizeBytes
	if len(report.Written) == 0 {
		return p, nothing("%s has all of it already", to)
	}
	if err := w.readback(ctx, dst, set); err != nil {
		return p, fmt.Errorf("read %s back as a client would: %w", to, err)
	}
	p.Timestamp = set.Version(manifest.RoleTimestamp)
	return p, nil
}

func conflict(err error, to string) error {
	if errors.Is(err, repo.ErrConflict) {
		return fmt.Errorf("%w: %s was published from other bytes under the same name. Nothing was written. "+
			"Bring the product folder that it was published from, or publish to an empty place", err, to)
	}
	return err
}

// refresh renews what is past half of its time and whose keys are here, and returns the roles. While a
// draft waits only snapshot and timestamp are, because the draft may hold a new version of the others.
func (w *workspace) refresh(ctx context.Context, set *manifest.Set) ([]string, error) {
	roles := []string{manifest.RoleSnapshot, manifest.RoleTimestamp}
	if !w.drafted() {
		roles = append(slices.Clone(w.product.Channels), roles...)
	}
	lifetimes, err := w.product.lifetimes()
	if err != nil {
		return nil, err
	}
	due := []string{}
	for _, role := range roles {
		here, err := w.canSign(set, role)
		if err != nil {
			return nil, err
		}
		if time.Until(set.Expires(role)) < lifetimes[role]/2 && here {
			due = append(due, role)
		}
	}
	if len(due) == 0 {
		return due, nil
	}
	if err := w.renew(set, due...); err != nil {
		return nil, err
	}
	if missing := set.Missing(); len(missing) > 0 {
		return nil, refuse("metadata is about to expire and its keys are not all here (missing: %v): bring the keys of snapshot and timestamp", missing)
	}
	return due, w.replace(ctx, set)
}

// canSign says whether enough keys of a role are in this folder.
func (w *workspace) canSign(set *manifest.Set, role string) (bool, error) {
	files, err := keyFiles(w.disk, w.keys(), role)
	if err != nil {
		return false, err
	}
	keys, known := set.Keys(role)
	return known && len(files) >= keys.Threshold, nil
}

// warnings is what a person should do soon.
func (w *workspace) warnings(set *manifest.Set) []string {
	warnings := []string{}
	lifetimes, err := w.product.lifetimes()
	if err != nil {
		return warnings
	}
	for _, role := range []string{manifest.RoleRoot, manifest.RoleTargets} {
		if left := time.Until(set.Expires(role)); left < lifetimes[role]/3 {
			warnings = append(warnings, fmt.Sprintf("%s expires on %s: run 'release sign --role %s' with its keys", role, set.Expires(role).Format(time.DateOnly), role))
		}
	}
	if w.drafted() {
		warnings = append(warnings, "a draft waits for signatures and is not published: see 'release sign'")
	}
	return warnings
}

// files is all that a client may need, the pointer last: programs, documents, metadata.
func (w *workspace) files(set *manifest.Set) ([]repo.File, error) {
	var files []repo.File
	seen := map[string]bool{}
	for _, channel := range set.Channels() {
		for _, path := range set.Targets(channel) {
			data, there := set.Target(channel, path)
			if !there || path == channelPath(channel) {
				continue
			}
			release, err := manifest.ParseRelease(data)
			if err != nil {
				return nil, err
			}
			for _, a := range release.Artifacts {
				if !seen[a.SHA256] {
					seen[a.SHA256] = true
					files = append(files, w.artifactFiles(a)...)
				}
			}
		}
	}
	for _, f := range set.Files() {
		files = append(files, repo.Bytes(f.Name, f.Data))
	}
	return files, nil
}

func (w *workspace) artifactFiles(a manifest.Artifact) []repo.File {
	name := manifest.HashPath(a.SHA256)
	open := func() (io.ReadCloser, error) {
		r, _, err := w.tree.Open(context.Background(), name)
		return r, err
	}
	files := []repo.File{{Name: name, SizeBytes: a.SizeBytes, SHA256: a.SHA256, Open: open}}
	signature, err := w.tree.Get(context.Background(), name+".minisig", fileLimit)
	if err != nil {
		return files // it is for people: the signature that counts is in the release document
	}
	return append(files, repo.Bytes(name+".minisig", signature))
}

// readback opens every channel with an empty trust folder.
func (w *workspace) readback(ctx context.Context, dst repo.Store, set *manifest.Set) error {
	root, err := w.tree.Get(ctx, "metadata/1.root.json", fileLimit)
	if err != nil {
		return err
	}
	trust, err := tempDir()
	if err != nil {
		return err
	}
	defer trust.remove()
	for _, channel := range set.Channels() {
		host := manifest.Host{Product: w.product.Name, Channel: channel}
		client, err := manifest.Open(w.disk, filepath.Join(trust.path, channel), root, host)
		if err != nil {
			return err
		}
		view, err := client.Refresh(ctx, dst)
		if err != nil {
			return err
		}
		if view.TimestampVersion < set.Version(manifest.RoleTimestamp) {
			return fmt.Errorf("%w: channel %s shows timestamp %d, not %d", manifest.ErrVerify, channel, view.TimestampVersion, set.Version(manifest.RoleTimestamp))
		}
	}
	return nil
}
