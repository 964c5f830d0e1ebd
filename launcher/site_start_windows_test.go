package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/store"
)

// meddler tries to write a file when the record of a process is made: after the last look at its program, and before
// its start.
type meddler struct {
	durable.Disk
	file  string
	tries int
	err   error
}

func (m *meddler) OpenFile(name string, flag int, perm os.FileMode) (durable.File, error) {
	if flag&os.O_EXCL != 0 {
		m.tries++
		f, err := os.OpenFile(m.file, os.O_WRONLY, 0)
		if m.err = err; err == nil {
			_ = f.Close() // it should not have been opened
		}
	}
	return m.Disk.OpenFile(name, flag, perm)
}

// The site holds a program from the moment it verifies it until the process is there.
func TestNobodyWritesBetweenVerifyAndStart(t *testing.T) {
	dir, log := t.TempDir(), slog.New(slog.DiscardHandler)
	cfg := defaultConfig()
	cfg.State.Dir = dir
	cfg.Payload.User, cfg.Payload.Data, cfg.Payload.Kind = child.Same, dir, string(child.Plain)
	cfg.Payload.Command = []string{"{{.File}}", "-test.run=^$"}
	cfg.Traffic = TrafficConfig{Mode: "proxy", Strategy: "parallel"}
	sv := &service{cfg: cfg, log: log, disk: durable.OS()}
	v := sealSelf(t, sv)
	m := &meddler{Disk: sv.disk, file: sv.store.File(v)}
	if err := os.Chmod(m.file, 0o600); err != nil { // so that nothing but the site is in the way
		t.Fatal(err)
	}
	var err error
	sv.host, err = child.New(child.Options{
		Disk: m, Dir: cfg.stateFile("run"), Wire: child.WireAddress(dir), Output: cfg.stateFile("log"), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sv.host.Close()
	s, err := openSite(t.Context(), sv, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.closeSockets()
	s.emit = func(updater.Event) {}
	s.begin(func(context.Context, updater.Order) error { return nil })
	defer s.Close(t.Context())
	p, err := s.start(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	if m.tries != 1 || !errors.Is(m.err, windows.ERROR_SHARING_VIOLATION) {
		t.Errorf("%d tries to write it: %v", m.tries, m.err)
	}
	select {
	case <-p.proc.Done():
	case <-time.After(time.Minute):
		t.Error("it never ends")
	}
}

// sealSelf opens a store and seals this program in it.
func sealSelf(t *testing.T, sv *service) journal.Version {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if sv.store, err = store.Open(sv.disk, filepath.Join(sv.cfg.State.Dir, "store")); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	v := journal.Version{Number: "1.0.0", Digest: hex.EncodeToString(sum[:]), Epoch: 1, File: "release.exe", SizeBytes: int64(len(b))}
	if err := os.WriteFile(sv.store.Staged(v), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sv.store.Seal(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	return v
}
