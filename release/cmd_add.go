package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/wire"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/release/repo"
)

const notesLimit = 16 << 10

// addition is the command line of add.
type addition struct {
	version, channel, notesFile string
	main                        string // in archives
	share                       string
	files, platforms            []string
	protocol                    manifest.Protocol
	patches                     int // releases that patches start from
	pack                        bool
	epoch                       uint64 // 0 for the next one
}

func (a *app) addCommand() *cobra.Command {
	var add addition
	cmd := &cobra.Command{
		Use:   "add VERSION FILE...",
		Short: "Sign a new version for several platforms and offer it in a channel",
		Long: "Sign a new version and offer it in a channel. FILEs are named like agent_1.0.0_linux_amd64 (or .exe);\n" +
			"other names are given with --platform. An archive (.tar.gz, .tgz, .tar.zst, .zip) is unpacked on the host; --main\n" +
			"names the program in it. Adding the same version with the same bytes does nothing; with\n" +
			"other bytes it is refused, since a version never changes. Readers see it after 'release publish'.\n\n" +
			exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codePreflight),
		Example: "  release add 1.0.0 dist/agent_1.0.0_* --notes notes.md\n  release add 1.0.0 --platform linux/amd64=bin/agent --channel beta",
		Args:    cobra.MinimumNArgs(1),
		RunE: a.runE(func(ctx context.Context, args []string) (answer, error) {
			add.version, add.files = args[0], args[1:]
			return a.add(ctx, add)
		}),
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&add.platforms, "platform", nil, "os/arch=FILE; may be given several times")
	flags.StringVar(&add.channel, "channel", "", "channel that offers it (default: the first of the product)")
	flags.StringVar(&add.share, "share", "100%", "share of the channel's hosts; 'release rollout' changes it later")
	flags.StringVar(&add.notesFile, "notes", "", "file with the release notes")
	flags.BoolVar(&add.pack, "pack", true, "store each FILE packed by zstd as well, if it pays")
	flags.IntVar(&add.patches, "patches", patchReleases, "make patches from this many of the newest versions of each channel; 0 for none")
	flags.Uint64Var(&add.epoch, "epoch", 0, "go up to this epoch, above those that a thief has spent (default: the next one)")
	flags.StringVar(&add.main, "main", "", "path of the program in FILEs that are archives (.tar.gz, .tgz, .tar.zst, .zip), without .exe")
	flags.IntVar(&add.protocol.Min, "protocol-min", wire.Protocol, "oldest launcher protocol that the program speaks")
	flags.IntVar(&add.protocol.Max, "protocol-max", wire.Protocol, "newest launcher protocol that the program speaks")
	return cmd
}

// added is the answer of add.
type added struct {
	Version   string     `json:"version"`
	Channel   string     `json:"channel"`
	Epoch     uint64     `json:"epoch"`
	Share     int        `json:"share"` // of the hosts, in basis points
	Artifacts []artifact `json:"artifacts"`
	Leaves    string     `json:"leaves,omitempty"` // a version of a greater number that hosts go down from
	pending
}

type artifact struct {
	Platform  string `json:"platform"`
	Name      string `json:"name"`
	SizeBytes int64  `json:"size_bytes"`
	SHA256    string `json:"sha256"`
	SameAs    string `json:"same_as,omitempty"` // another version with these bytes for the platform

	Patches []manifest.Patch `json:"patches,omitempty"`
}

func (a added) text(w io.Writer) {
	line(w, "add", "%s to %s (epoch %d)", a.Version, whom(a.Share, a.Channel), a.Epoch)
	for _, f := range a.Artifacts {
		line(w, "artifact", "%s %s, %s, sha256 %s…", f.Platform, f.Name, size(f.SizeBytes), f.SHA256[:12])
		for _, p := range f.Patches {
			line(w, "also", "%s %s: %s (%s)", f.Platform, called(p), size(p.SizeBytes), p.Kind)
		}
		if f.SameAs != "" {
			line(w, "warning", "%s has the bytes of %s: hosts that run them stay on it; if they should differ, build anew and give that a new number", f.Platform, f.SameAs)
		}
	}
	if a.Leaves != "" {
		line(w, "warning", "%s has the greater number and is the older release now: hosts of %s go from it to %s", a.Leaves, a.Channel, a.Version)
	}
	a.next(w, "release publish --to dir:PATH")
}

func (a *app) add(ctx context.Context, add addition) (answer, error) {
	if err := checkVersion(add.version); err != nil {
		return nil, err
	}
	share, err := parseShare(add.share)
	if err != nil {
		return nil, err
	}
	if add.patches < 0 || add.patches > manifest.MaxPatches {
		return nil, usage("--patches %d: 0 to %d are possible", add.patches, manifest.MaxPatches)
	}
	files, err := binaries(add.files, add.platforms)
	if err != nil {
		return nil, err
	}
	return a.held(func(w *workspace) (answer, error) { return w.add(ctx, add, share, files) })
}

func (w *workspace) add(ctx context.Context, add addition, share int, files []binary) (answer, error) {
	add.channel = cmp.Or(add.channel, w.product.Channels[0])
	if err := w.product.channel(add.channel); err != nil {
		return nil, err
	}
	set, err := w.load(ctx)
	if err != nil {
		return nil, err
	}
	release, err := w.describe(add, files)
	if err != nil {
		return nil, err
	}
	if err := w.checkNew(set, add.channel, release); err != nil {
		return nil, err
	}
	return w.addRelease(ctx, set, release, files, target{add.channel, share, add.patches, add.pack, add.epoch})
}

// describe is the release document without its epoch and signatures.
func (w *workspace) describe(add addition, files []binary) (manifest.Release, error) {
	release := manifest.Release{Schema: manifest.Schema, Product: w.product.Name, Version: add.version, Protocol: add.protocol}
	if add.notesFile != "" {
		notes, err := durable.ReadFile(w.disk, add.notesFile, notesLimit)
		if err != nil {
			return release, usage("notes: %w (at most %s)", err, size(notesLimit))
		}
		release.Notes = string(notes)
	}
	for _, f := range files {
		sizeBytes, digest, err := digestFile(f.Path)
		if err != nil {
			return release, usage("%w", err)
		}
		a := manifest.Artifact{OS: f.OS, Arch: f.Arch, Name: filepath.Base(f.Path), SizeBytes: sizeBytes, SHA256: digest}
		if err := describeArchive(&a, f.Path, add.main); err != nil {
			return release, err
		}
		release.Artifacts = append(release.Artifacts, a)
	}
	release.SortArtifacts()
	return release, nil
}

func digestFile(path string) (int64, string, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, "", err
	}
	if !info.Mode().IsRegular() || info.Size() == 0 {
		return 0, "", fmt.Errorf("%s is empty or not a file: give the built program", path)
	}
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	return n, hex.EncodeToString(sum.Sum(nil)), err
}

// checkNew refuses a version that exists anywhere in the product, unless it is the very same.
func (w *workspace) checkNew(set *manifest.Set, channel string, release manifest.Release) error {
	old, in, err := find(set, w.product, release.Version)
	if err != nil || len(in) == 0 {
		return err
	}
	if difference := differ(old, release); difference != "" {
		return refuse("version %s exists already with other bytes: %s. A version never changes: give this build a new number", release.Version, difference)
	}
	for _, name := range in {
		if name == channel {
			return nothing("%s is in %s already, with the same bytes", release.Version, channel)
		}
	}
	return refuse("version %s is in %s already, with the same bytes: run 'release promote %s --from %s --to %s'",
		release.Version, strings.Join(in, " and "), release.Version, in[0], channel)
}

// differ says in which respect two documents of one version differ, "" for none that add can set.
func differ(old, release manifest.Release) string {
	if len(old.Artifacts) != len(release.Artifacts) {
		return fmt.Sprintf("it has %d platforms, not %d", len(old.Artifacts), len(release.Artifacts))
	}
	for i, was := range old.Artifacts {
		is := release.Artifacts[i]
		is.Minisig, is.Patches = was.Minisig, was.Patches
		if !reflect.DeepEqual(was, is) {
			return fmt.Sprintf("it has %s for %s/%s with sha256 %s…", was.Name, was.OS, was.Arch, was.SHA256[:12])
		}
	}
	if old.Notes != release.Notes || old.Protocol != release.Protocol {
		return "its notes or its protocol range differ"
	}
	return ""
}

// target is where a release goes.
type target struct {
	channel string
	share   int
	patches int // from so many of the newest releases of each channel
	pack    bool
	epoch   uint64 // 0 for the next one
}

func (w *workspace) addRelease(ctx context.Context, set *manifest.Set, release manifest.Release, files []binary, to target) (answer, error) {
	epoch, err := nextEpoch(set, w.product)
	if err != nil {
		return nil, err
	}
	if to.epoch != 0 && to.epoch < epoch {
		return nil, usage("--epoch %d: epochs only grow, and %d is the next", to.epoch, epoch)
	}
	epoch = max(epoch, to.epoch)
	release.Epoch = epoch
	key, err := w.artifactKey(set)
	if err != nil {
		return nil, err
	}
	if err := w.storeArtifacts(ctx, key, &release, files); err != nil {
		return nil, err
	}
	if err := w.addPatches(ctx, set, &release, to); err != nil {
		return nil, err
	}
	if err := release.Check(); err != nil {
		return nil, misgiven("", err)
	}
	leaves, err := greaterNumber(set, to.channel, release.Version)
	if err != nil {
		return nil, err
	}
	others, err := releases(set, w.product)
	if err != nil {
		return nil, err
	}
	err = offer(set, to.channel, release, release.Bytes(), to.share)
	if errors.Is(err, manifest.ErrLeap) && to.epoch != 0 {
		return nil, usage("--epoch %d: too far above the last one, since hosts follow steps of at most 2^32: give a lower one", to.epoch)
	}
	if err != nil {
		return nil, err
	}
	missing, err := w.renewAndCommit(ctx, set, []string{to.channel})
	if err != nil {
		return nil, err
	}
	answer := added{Version: release.Version, Channel: to.channel, Epoch: epoch, Share: to.share, Leaves: leaves, pending: pending{missing}}
	for _, a := range release.Artifacts {
		answer.Artifacts = append(answer.Artifacts, artifact{a.OS + "/" + a.Arch, a.Name, a.SizeBytes, a.SHA256, sameBytes(others, a), a.Patches})
	}
	return answer, nil
}

// storeArtifacts signs every file and copies it into repo/, where nothing points to it yet.
func (w *workspace) storeArtifacts(ctx context.Context, key manifest.ArtifactKey, release *manifest.Release, files []binary) error {
	paths := map[string]string{}
	for _, f := range files {
		paths[f.OS+"/"+f.Arch] = f.Path
	}
	for i := range release.Artifacts {
		a := &release.Artifacts[i]
		if err := w.storeArtifact(ctx, key, release.Version, a, paths[a.OS+"/"+a.Arch]); err != nil {
			return fmt.Errorf("add %s: %w", a.Name, err)
		}
	}
	return nil
}

func (w *workspace) storeArtifact(ctx context.Context, key manifest.ArtifactKey, version string, a *manifest.Artifact, path string) error {
	open := func() (io.ReadCloser, error) { return os.Open(path) }
	name := manifest.HashPath(a.SHA256)
	_, err := repo.Publish(ctx, w.tree, []repo.File{{Name: name, SizeBytes: a.SizeBytes, SHA256: a.SHA256, Open: open}})
	if err != nil {
		return err
	}
	// What is signed is the copy: the file may change after it was copied.
	copied, _, err := w.tree.Open(ctx, name)
	if err != nil {
		return err
	}
	defer copied.Close()
	a.Minisig, err = manifest.SignArtifact(key, w.product.Name, version, *a, copied)
	if errors.Is(err, errElsewhere) {
		return refuse("%w: add the version where it is", err)
	}
	if err != nil {
		return asRefusal(err)
	}
	return w.storeSignature(ctx, name+".minisig", a.Minisig)
}

// storeSignature puts the signature beside the bytes, for people with minisign. The first one stays when
// two versions or platforms have the same bytes: the one that counts is in the release document.
func (w *workspace) storeSignature(ctx context.Context, name, text string) error {
	_, err := repo.Publish(ctx, w.tree, []repo.File{repo.Bytes(name, []byte(text))})
	if errors.Is(err, repo.ErrConflict) {
		return nil
	}
	return err
}
