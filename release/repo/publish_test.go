package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/release/repo"
)

// files is a small repository: generation n shares its artifact with every other generation.
func files(n int) []repo.File {
	return []repo.File{
		repo.Bytes(repo.Pointer, fmt.Appendf(nil, "points to %d", n)),
		repo.Bytes("artifacts/aa", []byte("the same bytes")),
		repo.Bytes(fmt.Sprintf("metadata/%d.stable.json", n), fmt.Appendf(nil, "stable %d", n)),
	}
}

func TestPublishWritesThePointerLast(t *testing.T) {
	dst := repo.Dir(durable.OS(), filepath.Join(t.TempDir(), "public"))
	report := publish(t, dst, files(1))
	want := []string{"artifacts/aa", "metadata/1.stable.json", repo.Pointer}
	if !slices.Equal(report.Written, want) || report.Same != 0 {
		t.Errorf("wrote %v with %d the same, want %v", report.Written, report.Same, want)
	}
	report = publish(t, dst, files(2))
	if want = []string{"metadata/2.stable.json", repo.Pointer}; !slices.Equal(report.Written, want) || report.Same != 1 {
		t.Errorf("then wrote %v with %d the same, want %v", report.Written, report.Same, want)
	}
	if report = publish(t, dst, files(2)); len(report.Written) != 0 || report.Same != 3 {
		t.Errorf("a second time wrote %v with %d the same, want nothing", report.Written, report.Same)
	}
}

func TestPublishRefusesOtherBytesBeforeItWrites(t *testing.T) {
	for name, data := range map[string]string{"shorter": "stable", "same length": "stab1e 2"} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			dst := repo.Dir(durable.OS(), path)
			publish(t, dst, files(1))
			write(t, filepath.Join(path, "metadata", "2.stable.json"), data)
			more := append(files(2), repo.Bytes("artifacts/bb", []byte("new")))
			if _, err := repo.Publish(t.Context(), dst, more); !errors.Is(err, repo.ErrConflict) {
				t.Fatalf("got %v, want ErrConflict", err)
			}
			if got := read(t, dst, repo.Pointer); got != "points to 1" {
				t.Errorf("the pointer says %q", got)
			}
			if _, _, err := dst.Open(t.Context(), "artifacts/bb"); err == nil {
				t.Error("an artifact was written before the refusal")
			}
		})
	}
}

func TestPublishRefusesASourceThatChanged(t *testing.T) {
	for name, data := range map[string]string{"other": "THE SAME BYTES", "longer": "the same bytes and more", "shorter": "the same"} {
		t.Run(name, func(t *testing.T) {
			dst := repo.Dir(durable.OS(), t.TempDir())
			all := files(1)
			all[1].Open = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(data)), nil }
			if _, err := repo.Publish(t.Context(), dst, all); err == nil || !strings.Contains(err.Error(), "changed while it was read") {
				t.Fatalf("got %v", err)
			}
			if _, _, err := dst.Open(t.Context(), "artifacts/aa"); err == nil {
				t.Error("the changed source was published")
			}
		})
	}
}

func TestPublishExcludesAnother(t *testing.T) {
	dst := repo.Dir(durable.OS(), t.TempDir())
	unlock, err := dst.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Publish(t.Context(), dst, files(1)); !errors.Is(err, repo.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
	unlock()
	publish(t, dst, files(1))
}

// What a folder has on its top is what readers of it are shown.
func TestPublishLeavesTheRepositoryAlone(t *testing.T) {
	path := t.TempDir()
	publish(t, repo.Dir(durable.OS(), path), files(1))
	list, err := os.ReadDir(path)
	if err != nil || len(list) != 2 || list[0].Name() != "artifacts" || list[1].Name() != "metadata" {
		t.Errorf("the folder holds %v, %v", list, err)
	}
}

func TestNamesThatLeaveTheTree(t *testing.T) {
	dst := repo.Dir(durable.OS(), t.TempDir())
	for _, name := range []string{"", "/etc/passwd", "../x", "a/../../x", "a//b", ".hidden", "a/.hidden", `a\b`, "a/", "a/..b", strings.Repeat("a", 600)} {
		if err := dst.Put(t.Context(), repo.Bytes(name, []byte("x"))); err == nil {
			t.Errorf("%q was written", name)
		}
		if _, err := dst.Get(t.Context(), name, 10); err == nil {
			t.Errorf("%q was read", name)
		}
	}
}

func TestGetIsBounded(t *testing.T) {
	dst := repo.Dir(durable.OS(), t.TempDir())
	if err := dst.Put(t.Context(), repo.Bytes("a", []byte("12345"))); err != nil {
		t.Fatal(err)
	}
	if _, err := dst.Get(t.Context(), "a", 4); !errors.Is(err, repo.ErrTooLong) {
		t.Errorf("got %v, want ErrTooLong", err)
	}
	if data, err := dst.Get(t.Context(), "a", 5); err != nil || !bytes.Equal(data, []byte("12345")) {
		t.Errorf("got %q, %v", data, err)
	}
}

func TestPutKeepsTheOldBytesWhenTheSourceFails(t *testing.T) {
	dst := repo.Dir(durable.OS(), t.TempDir())
	if err := dst.Put(t.Context(), repo.Bytes("a", []byte("old"))); err != nil {
		t.Fatal(err)
	}
	broken := repo.Bytes("a", []byte("new and more"))
	broken.Open = func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("new"), iotestErr{})), nil
	}
	if err := dst.Put(t.Context(), broken); err == nil {
		t.Error("no error from a broken source")
	}
	if got := read(t, dst, "a"); got != "old" {
		t.Errorf("got %q", got)
	}
}

type iotestErr struct{}

func (iotestErr) Read([]byte) (int, error) { return 0, errors.New("cable pulled") }

func publish(t *testing.T, dst repo.Store, all []repo.File) repo.Report {
	t.Helper()
	report, err := repo.Publish(context.Background(), dst, all)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func read(t *testing.T, s repo.Store, name string) string {
	t.Helper()
	data, err := s.Get(context.Background(), name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t *testing.T, file, data string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}
