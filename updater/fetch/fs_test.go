package fetch_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/updater/bundle"
	"github.com/turnstone-go/turnstone/updater/fetch"
)

// packed is a repository in a bundle, with one artifact.
func packed(t *testing.T, name string, data []byte) *fetch.Repository {
	t.Helper()
	var b bytes.Buffer
	err := bundle.Write(&b, []bundle.File{{Name: name, SizeBytes: int64(len(data)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := bundle.Read(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return fetch.OpenFS(r)
}

// A bundle is a repository like any other: small files whole, artifacts by length and digest, resumed.
func TestBundle(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	sum := sha256.Sum256(data)
	want := fetch.Want{Name: "artifacts/" + hex.EncodeToString(sum[:]), SizeBytes: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
	r := packed(t, want.Name, data)
	if got, err := r.Get(t.Context(), want.Name, int64(len(data))); err != nil || !bytes.Equal(got, data) {
		t.Errorf("get: %d bytes, %v", len(got), err)
	}
	if _, err := r.Get(t.Context(), want.Name, 10); !errors.Is(err, fetch.ErrTooLong) {
		t.Errorf("longer than allowed: %v", err)
	}
	if _, err := r.Get(t.Context(), "missing", 10); !errors.Is(err, fetch.ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	dst := filepath.Join(t.TempDir(), "part")
	if err := os.WriteFile(dst, data[:12345], 0o600); err != nil {
		t.Fatal(err)
	}
	begun := int64(-1)
	progress := func(done, _ int64) {
		if begun < 0 {
			begun = done
		}
	}
	if err := r.Download(t.Context(), durable.OS(), want, dst, progress); err != nil || begun != 12345 {
		t.Errorf("download: %v, from %d", err, begun)
	}
	if got, err := os.ReadFile(dst); err != nil || !bytes.Equal(got, data) {
		t.Errorf("downloaded %d bytes, %v", len(got), err)
	}
	wrong := packed(t, want.Name, append(bytes.Clone(data[1:]), 'x'))
	if err := wrong.Download(t.Context(), durable.OS(), want, dst+"2", nil); !errors.Is(err, fetch.ErrDigest) {
		t.Errorf("wrong bytes: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Download(ctx, durable.OS(), want, dst+"3", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
