package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/fetch"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// What was fresh when it was read expires while the launcher runs.
func TestTrustExpiresMeanwhile(t *testing.T) {
	hour := time.Now().Add(time.Hour)
	for _, tc := range []struct {
		expires, signed time.Time
		want            bool
	}{
		{hour, time.Now(), false},
		{time.Now().Add(-time.Second), time.Now().Add(-time.Hour), true},
		{hour, hour.Add(time.Second), true}, // the clock was set back
	} {
		f := &feed{view: &manifest.View{Expires: tc.expires, Channel: manifest.Channel{SignedAt: tc.signed}}}
		if got := f.trust().Expired; got != tc.want {
			t.Errorf("%+v: expired %v", tc, got)
		}
	}
}

// Each role is told early enough for whoever has to sign it: the vendor's people a week before, a machine half a day.
func TestTrustEndsSoon(t *testing.T) {
	now := time.Now()
	ends := map[string]time.Time{
		manifest.RoleRoot: now.Add(8 * 24 * time.Hour), manifest.RoleTargets: now.Add(6 * 24 * time.Hour), "stable": now.Add(8 * 24 * time.Hour),
		manifest.RoleSnapshot: now.Add(3 * 24 * time.Hour), manifest.RoleTimestamp: now.Add(13 * time.Hour),
	}
	told := func() (roles []string) {
		for _, e := range (&feed{view: &manifest.View{Expires: now.Add(time.Hour), Ends: ends}}).trust().Ending {
			roles = append(roles, e.Role)
		}
		return roles
	}
	if got := told(); !slices.Equal(got, []string{"targets"}) {
		t.Errorf("%v end soon", got)
	}
	for role, at := range ends {
		ends[role] = at.Add(-36 * time.Hour)
	}
	if got := told(); !slices.Equal(got, []string{"timestamp", "snapshot", "targets", "root", "stable"}) {
		t.Errorf("%v end soon", got)
	}
}

// Wrong bytes speak against whoever sent them: the error is the same kind as that of a forged document, and not
// evidence against the version.
func TestFetchWrongBytes(t *testing.T) {
	dir := t.TempDir()
	sum := sha256.Sum256([]byte("right"))
	v := journal.Version{Number: "1.0.0", Digest: hex.EncodeToString(sum[:]), SizeBytes: 5, File: "app"}
	name := filepath.Join(dir, filepath.FromSlash(manifest.HashPath(v.Digest)))
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte("wrong"), 0o644)); err != nil {
		t.Fatal(err)
	}
	source, err := fetch.Open(dir, fetch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := &feed{disk: durable.OS(), source: supply{Repository: source}}
	err = f.Fetch(t.Context(), v, filepath.Join(t.TempDir(), "part"), func(int64, int64) {})
	if !errors.Is(err, fetch.ErrDigest) || !isRefused(err) {
		t.Errorf("%v", err)
	}
	if err := refused(manifest.ErrSignature); !isRefused(err) {
		t.Errorf("metadata that is not the vendor's: %v", err)
	}
	if err := refused(errors.New("no route")); isRefused(err) {
		t.Errorf("the network: %v", err)
	}
}

func isRefused(err error) bool { return reflect.DeepEqual(err, updater.Refused(errors.Unwrap(err))) }

// The whole stop is bounded by one key, however long a stream may last.
func TestStopIsBounded(t *testing.T) {
	c := defaultConfig()
	s := &service{site: &site{cfg: c}}
	if got := s.longest(); got != 30*time.Second {
		t.Errorf("by default a stop takes %s", got)
	}
	if d := c.Drain.fit(s.longest()); max(d.Deadline, d.Stream)+d.Kill > 30*time.Second {
		t.Errorf("drains for %+v", d)
	}
	s.site.cfg.Drain = DrainConfig{Deadline: time.Second, Stream: 2 * time.Second, Kill: time.Second, Stop: time.Minute}
	if got := s.longest(); got != 8*time.Second {
		t.Errorf("a quick one may take %s", got)
	}
}
