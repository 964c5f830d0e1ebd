package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/release/repo"
)

func (a *app) publishCommand() *cobra.Command {
	var to string
	cmd := &cobra.Command{
		Use:   "publish --to dir:PATH|s3:BUCKET/PREFIX",
		Short: "Copy the signed repository to where clients read it",
		Long: "Copy the signed repository to where clients read it. Metadata that is past half of its time is renewed\n" +
			"first. Whoever reads meanwhile sees all of the old repository or all of the new one: timestamp.json is\n" +
			"written last. After an interruption the same command finishes the work; when all is there already\n" +
			"nothing is written. While a draft waits for signatures what is complete is published, and the exit code is 13.\n\n" +
			"An object store is named s3:BUCKET/PREFIX?endpoint=https://HOST&region=NAME; without an endpoint it is AWS.\n" +
			"Credentials are taken from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, from AWS_PROFILE in\n" +
			"~/.aws/credentials, or from the role of the container or machine; never from the command line. Every write\n" +
			"is conditional, so that of two publishers one is refused (exit 13) before readers have seen anything of it.\n\n" +
			exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codeVerify, codePreflight),
		Args: cobra.NoArgs,
		RunE: a.runE(func(ctx context.Context, _ []string) (answer, error) {
			dst, err := destination(to)
			if err != nil {
				return nil, err
			}
			return a.held(func(w *workspace) (answer, error) { return w.publish(ctx, dst, to) })
		}),
	}
	cmd.Flags().StringVar(&to, "to", "", "where to: dir:PATH or s3:BUCKET/PREFIX?endpoint=URL&region=NAME")
	_ = cmd.MarkFlagRequired("to") // the flag is there: it is defined above
	return cmd
}

// destination opens what --to names.
func destination(to string) (repo.Store, error) {
	scheme, place, _ := strings.Cut(to, ":")
	switch {
	case scheme == "dir" && place != "":
		return repo.Dir(durable.OS(), place), nil
	case scheme+":" == objects && place != "":
		return openObjects(place)
	}
	return nil, usage("--to %q: write it as dir:PATH or s3:BUCKET/PREFIX", to)
}

// objects is how the address of an object store begins.
const objects = "s3:"

// openObjects opens the object store at BUCKET/PREFIX.
func openObjects(place string) (repo.Store, error) {
	store, err := repo.S3(place)
	if errors.Is(err, repo.ErrCredentials) {
		return nil, refuse("%w", err)
	}
	if err != nil {
		return nil, usage("%s%s: %w", objects, place, err)
	}
	return store, nil
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
	pending            // of the draft, which was left out
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
	report, err := repo.PublishIf(ctx, dst, files, func(ctx context.Context) error { return w.checkHistory(ctx, dst, set) })
	if err != nil {
		return nil, conflict(err, to)
	}
	p.Written, p.Same, p.SizeBytes = append(p.Written, report.Written...), report.Same, report.SizeBytes
	if len(report.Written) > 0 {
		if err := w.readback(ctx, dst, set); err != nil {
			return p, fmt.Errorf("read %s back as a client would: %w", to, err)
		}
		p.Timestamp = set.Version(manifest.RoleTimestamp)
	}
	if w.drafted() {
		p.Missing, err = w.leftOut(ctx, to)
		return p, err
	}
	if len(report.Written) == 0 {
		return p, nothing("%s has all of it already", to)
	}
	return p, nil
}

// leftOut refuses to call it done while a draft waits, even if something else was published: in a pipeline whose
// key is missing the new version is not out.
func (w *workspace) leftOut(ctx context.Context, to string) (map[string]int, error) {
	draft, err := w.readDraft(ctx)
	if err != nil {
		return nil, err
	}
	missing := draft.Missing()
	var parts []string
	for _, role := range slices.Sorted(maps.Keys(missing)) {
		parts = append(parts, fmt.Sprintf("%s of %s (not signed by %s)", count(missing[role], "signature"), role, w.unsigned(draft, role)))
	}
	return missing, refuse("%s has what is complete, but not the draft, which lacks %s: run 'release sign --key FILE' with such a key "+
		"and publish again, or drop the draft with 'release sign --discard'", to, strings.Join(parts, ", "))
}

// unsigned names the keys of a role that have not signed it.
func (w *workspace) unsigned(set *manifest.Set, role string) string {
	keys, _ := set.Keys(role)
	var names []string
	for _, k := range keys.Keys {
		if !set.SignedBy(role, k) {
			names = append(names, strings.TrimSpace(w.product.nameOf(k.String())+" "+k.ID()[:16]))
		}
	}
	return strings.Join(names, ", ")
}

func conflict(err error, to string) error {
	switch {
	case errors.Is(err, repo.ErrConflict):
		return fmt.Errorf("%w: %s was published from other bytes under the same name. Nothing was written. "+
			"Bring the product folder that it was published from, or publish to an empty place. If nothing that is published there "+
			"names that file, a publisher that lost against another left it: remove it when none is at work, and run this again", err, to)
	case errors.Is(err, repo.ErrBusy):
		return fmt.Errorf("%w. Readers have seen nothing of this one. Wait for the other to end and run this again, from the folder that it published from", err)
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
		return nil, refuse("metadata is about to expire and its keys are not all here (%s to come): bring the keys of snapshot and timestamp", lacking(missing))
	}
	return due, w.replace(ctx, set)
}

// canSign says whether enough keys of a role are to be had here.
func (w *workspace) canSign(set *manifest.Set, role string) (bool, error) {
	keys, known := set.Keys(role)
	list, err := w.candidates(role)
	if err != nil {
		return false, err
	}
	usable := 0
	for _, c := range list {
		text, _, err := w.public(c)
		if err != nil {
			return false, err
		}
		// Only a passphrase would show what an encrypted file without a name in the product file holds.
		if public, err := manifest.ParsePublicKey(text); text == "" || err == nil && set.MaySign(role, public) {
			usable++
		}
	}
	return known && usable >= keys.Threshold, nil
}

// warnings is what a person should do soon.
func (w *workspace) warnings(set *manifest.Set) []string {
	warnings := []string{}
	lifetimes, err := w.product.lifetimes()
	if err != nil {
		return warnings
	}
	// A channel whose keys are here is renewed before it comes to this.
	for _, role := range append([]string{manifest.RoleRoot, manifest.RoleTargets}, set.Channels()...) {
		if left := time.Until(set.Expires(role)); left < lifetimes[role]/3 {
			warnings = append(warnings, fmt.Sprintf("%s expires on %s: run 'release sign --role %s' with its keys", role, set.Expires(role).Format(time.DateOnly), role))
		}
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
	files := []repo.File{w.treeFile(name, a.SizeBytes, a.SHA256)}
	for _, p := range a.Patches {
		files = append(files, w.treeFile(manifest.HashPath(p.SHA256), p.SizeBytes, p.SHA256))
	}
	signature, err := w.tree.Get(context.Background(), name+".minisig", fileLimit)
	if err != nil {
		return files // it is for people: the signature that counts is in the release document
	}
	return append(files, repo.Bytes(name+".minisig", signature))
}

func (w *workspace) treeFile(name string, sizeBytes int64, digest string) repo.File {
	open := func() (io.ReadCloser, error) {
		r, _, err := w.tree.Open(context.Background(), name)
		return r, err
	}
	return repo.File{Name: name, SizeBytes: sizeBytes, SHA256: digest, Open: open}
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
