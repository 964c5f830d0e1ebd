package main

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
	"github.com/turnstone-go/turnstone/internal/wire"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/launcher/self"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/fetch"
	"github.com/turnstone-go/turnstone/updater/policy"
)

// Only the service counts as a start of a launcher on trial, whatever flags stand before its verb.
func TestServes(t *testing.T) {
	for _, c := range []struct {
		argv []string
		want bool
	}{
		{[]string{"launcher", "run"}, true},
		{[]string{"launcher", "--config", "x.toml", "run"}, true},
		{[]string{"launcher", "--config=run", "status"}, false},
		{[]string{"launcher", "--config", "run", "status"}, false},
		{[]string{"launcher", "--json", "run-service", "--name", "x"}, true},
		{[]string{"launcher", "reap", "run"}, false},
		{[]string{"launcher", "guard", "run"}, false},
		{[]string{"launcher"}, false},
		{nil, false},
	} {
		if got := serves(c.argv); got != c.want {
			t.Errorf("%v: %v", c.argv, got)
		}
	}
}

// A self-update that failed has the exit code of what was wrong, not of the step that noticed.
func TestExitCodesOfSelfUpdates(t *testing.T) {
	download := func(err error) error { return fmt.Errorf("launcher 2.0.0: %w", exit(control.NotDownloaded, "%w", err)) }
	for _, c := range []struct {
		err  error
		want control.Code
	}{
		{download(errors.New("connection refused")), control.NotDownloaded},
		{download(updater.Refused(fetch.ErrDigest)), control.NotVerified},
		{download(fmt.Errorf("read channel: %w", manifest.ErrExpired)), control.NotVerified},
		{download(durabletest.Full), control.NotPrepared},
		{fmt.Errorf("place: %w", self.ErrRefused), control.NotVerified},
		{exit(control.NotVerified, "is no launcher"), control.NotVerified},
		{exit(control.HeldBack, "waits"), control.HeldBack},
		{errors.New("start the guard"), control.NotPrepared},
	} {
		if got := renewCode(c.err); got != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.want)
		}
	}
}

// repository.max_rate bounds the payload and the launcher together: both come by one line.
func TestOneLineForPayloadAndLauncher(t *testing.T) {
	dir := t.TempDir()
	k, err := manifest.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	keys := manifest.RoleKeys{Keys: []manifest.PublicKey{k.Public()}, Threshold: 1}
	set, err := manifest.NewSet(manifest.Plan{Product: "acme-agent", Roles: map[string]manifest.RoleKeys{
		manifest.RoleRoot: keys, manifest.RoleTargets: keys, manifest.RoleSnapshot: keys, manifest.RoleTimestamp: keys,
	}}, time.Now())
	if err == nil {
		err = set.Sign(manifest.RoleRoot, k)
	}
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "root.json")
	write(t, root, string(set.Root()))
	s := &service{disk: durable.OS(), log: slog.New(slog.DiscardHandler), cfg: Config{Product: "acme-agent"}}
	s.cfg.State.Dir, s.cfg.Launcher.Channel = filepath.Join(dir, "state"), "launcher"
	s.cfg.Repository = RepositoryConfig{URL: "https://updates.example.com/acme-agent", Channel: "stable", Root: root, MaxRate: 1 << 20}
	if s.feed, err = openFeed(s.disk, s.cfg); err != nil {
		t.Fatal(err)
	}
	r := openRenewal(s)
	if r.feed == nil || r.feed.source.Repository != s.feed.source.Repository {
		t.Errorf("the launcher has a line of its own: %+v", r.feed)
	}
}

// The next launcher is asked whether it speaks with the payload that runs, and with none where that is not on the wire.
func TestNextLauncherIsHeldToThePayload(t *testing.T) {
	for kind, want := range map[string]int{"sdk": wire.Protocol, "plain": 0, "activation": 0} {
		dir := t.TempDir()
		cfg := Config{State: StateConfig{Dir: dir}, Payload: PayloadConfig{Kind: kind}}
		r := &renewal{folder: launchers(dir), sv: &service{cfg: cfg, disk: durable.OS(), site: &site{cfg: cfg}, engine: &updater.Updater{}}}
		f, err := r.facts(policy.Offers{}, false)
		if err != nil || !f.Host.Launchers || f.Host.Protocol != want {
			t.Errorf("%s: %+v, %v", kind, f.Host, err)
		}
	}
}
