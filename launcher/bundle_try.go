package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/wire"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/updater/bundle"
	"github.com/turnstone-go/turnstone/updater/fetch"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/policy"
)

// errOlder is a bundle that lies behind what this host has seen.
var errOlder = fmt.Errorf("%w: the bundle is older than what this host has seen already: bring a newer one", manifest.ErrVerify)

// errLacks is a bundle that is genuine, as far as it goes, and has not what this host needs.
var errLacks = fmt.Errorf("%w: the bundle lacks what this host needs", manifest.ErrVerify)

// trial is what a bundle came to when everything in it was verified that this host would use.
type trial struct {
	view  *manifest.View
	state journal.State
	news  bool // its metadata is newer than what the host has

	list     []policy.Release // carried for this host, newest first
	findings []policy.Finding
}

// tryBundle verifies a bundle by the same steps as a launcher that had it for its repository, with a copy of what
// is trusted: nothing of this host is changed.
func (p place) tryBundle(ctx context.Context, name string) (*trial, error) {
	b, err := bundle.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, exit(control.Usage, "%w", err)
	}
	if err != nil {
		return nil, err
	}
	defer b.Close()
	scratch, err := os.MkdirTemp("", "bundle-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(scratch)
	f, err := p.scratchFeed(scratch)
	if err != nil {
		return nil, err
	}
	f.source.Repository = fetch.OpenFS(b)
	var t trial
	before, _ := f.client.Cached() // none yet on a new host
	offers, err := f.Check(ctx)
	if err != nil {
		return nil, refusedBundle(err)
	}
	t.view = f.view
	t.news = before == nil || before.TimestampVersion < t.view.TimestampVersion
	t.state, _, err = journal.Read(p.disk, p.cfg.stateFile("journal"))
	if err != nil { // nothing was installed yet; or it is damaged, and the launcher will say so
		t.state = journal.State{}
	}
	return &t, t.judge(ctx, p, f, b, offers)
}

// scratchFeed is the host's feed with a copy of its trust folder.
func (p place) scratchFeed(dir string) (*feed, error) {
	root, err := durable.ReadFile(p.disk, p.cfg.Repository.Root, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("read the trusted root: %w\nrepository.root names it; `release init` writes it as root.json", err)
	}
	trust := filepath.Join(dir, "trust")
	for _, part := range []string{".", "metadata", "targets", "targets/" + p.cfg.Repository.Channel} {
		if err := copyFiles(filepath.Join(trust, part), filepath.Join(p.cfg.stateFile("trust"), part)); err != nil {
			return nil, fmt.Errorf("copy the trust folder: %w", err)
		}
	}
	f := &feed{disk: p.disk, host: p.cfg.host()}
	f.client, err = manifest.Open(p.disk, trust, root, f.host)
	return f, err
}

// copyFiles copies the files of one folder; one that is not there is empty. A launcher at work may sweep what was
// just listed.
func copyFiles(to, from string) error {
	list, err := os.ReadDir(from)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, e := range list {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		data, err := durable.ReadFile(durable.OS(), filepath.Join(from, e.Name()), 4<<20)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, e.Name()), data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// refusedBundle says of an error of verification what it means for a bundle.
func refusedBundle(err error) error {
	switch {
	case errors.Is(err, manifest.ErrOlder):
		return fmt.Errorf("%w (%w)", errOlder, err)
	case errors.Is(err, manifest.ErrExpired):
		return fmt.Errorf("%w; a host that may take older metadata says so with repository.max_staleness", err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w (%v): make it for this host's channel and platform", errLacks, err)
	case errors.Is(err, fetch.ErrTooLong), errors.Is(err, fetch.ErrTruncated):
		return fmt.Errorf("%w: %w", bundle.ErrBundle, err)
	}
	return err
}

// judge asks the gates about what the bundle carries for this host, and checks both signatures of the newest.
func (t *trial) judge(ctx context.Context, p place, f *feed, b *bundle.Bundle, offers policy.Offers) error {
	found := map[string]policy.Release{}
	all := offers.List
	offers.List = nil
	for _, o := range all {
		r, err := f.Resolve(ctx, o.Number)
		if err != nil && !errors.Is(err, policy.ErrPlatform) && !errors.Is(err, fs.ErrNotExist) {
			return refusedBundle(err)
		}
		if err != nil || !has(b, manifest.HashPath(r.Version.Digest)) {
			continue
		}
		found[o.Number] = r
		offers.List = append(offers.List, o)
		if o.Yanked == "" {
			t.list = append(t.list, r)
		}
	}
	if len(all) > 0 && len(offers.List) == 0 {
		return fmt.Errorf("%w (no program for %s/%s): make it for this host's channel and platform", errLacks, f.host.OS, f.host.Arch)
	}
	id, _ := durable.ReadFile(p.disk, p.cfg.stateFile("host-id"), 100) // a new host has none yet
	facts := policy.Facts{
		State: t.state, HighWater: t.state.HighWater, Now: time.Now(), Offers: offers,
		Host: policy.Host{ID: strings.TrimSpace(string(id)), Config: p.cfg.Hash(), Protocol: wire.Protocol},
	}
	var err error
	_, t.findings, err = policy.Choose(facts, func(number string) (policy.Release, error) { return found[number], nil })
	if err != nil || len(t.list) == 0 {
		return err
	}
	return f.checkProgram(b, t.list[0].Version)
}

func has(b *bundle.Bundle, name string) bool {
	_, there := slices.BinarySearch(b.Names(), name)
	return there
}

// checkProgram holds the bytes of v in a bundle to both of their signatures.
func (f *feed) checkProgram(b *bundle.Bundle, v journal.Version) error {
	file, err := b.Open(manifest.HashPath(v.Digest))
	if err != nil {
		return err
	}
	a := manifest.Artifact{OS: f.host.OS, Arch: f.host.Arch, Name: v.File, SizeBytes: v.SizeBytes, SHA256: v.Digest, Minisig: v.Minisig}
	if err := f.view.Trust.VerifyArtifact(f.host.Product, v.Number, a, file); err != nil {
		return fmt.Errorf("%s: %w", v.Number, err)
	}
	return nil
}

// version is the newest that the bundle carries for this host, "" for none.
func (t *trial) version() string {
	if len(t.list) == 0 {
		return ""
	}
	return t.list[0].Version.Number
}

func (t *trial) why() control.Why {
	active := ""
	if len(t.state.Good) > 0 {
		active = t.state.Good[0].Number
	}
	return control.NewWhy(active, time.Now(), t.findings)
}
