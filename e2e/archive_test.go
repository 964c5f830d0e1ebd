package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
)

// archived packs a program as bin/example, with a file beside it, as tar.gz or tar.zst by the name's ending.
func archived(t *testing.T, name, program, motto string) string {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	var packer io.WriteCloser = gzip.NewWriter(&b)
	if strings.HasSuffix(name, ".zst") {
		z, err := zstd.NewWriter(&b)
		must(err)
		packer = z
	}
	w := tar.NewWriter(packer)
	content, err := os.ReadFile(program)
	must(err)
	for path, c := range map[string][]byte{"./bin/example": content, "./share/motto.txt": []byte(motto)} {
		must(w.WriteHeader(&tar.Header{Name: path, Size: int64(len(c)), Mode: 0o644, Typeflag: tar.TypeReg}))
		_, err := w.Write(c)
		must(err)
	}
	must(errors.Join(w.Close(), packer.Close()))
	file := filepath.Join(t.TempDir(), name)
	must(os.WriteFile(file, b.Bytes(), 0o600))
	return file
}

// A version that is an archive is served like any other, on the way there, back to it, and after a restart.
func TestArchives(t *testing.T) {
	s := launched(t, stage.Options{})
	add := func(version, file string) {
		t.Helper()
		if err := s.Change(t.Context(), "add", version, "--platform", "linux/"+runtime.GOARCH+"="+file, "--main", "bin/example", "--pack=false"); err != nil {
			t.Fatal(err)
		}
	}
	add("1.1.0", archived(t, "example.tar.gz", example(t, "1.1.0", ""), "one"))
	r := underLoad(t, s, load.Options{Workers: everyone}, func(*load.Load) {
		operator(t, s, 0, "update", "--now", "--follow")
		serving(t, s, "1.1.0")
	})
	nothingLost(t, r)
	motto := func(want string) {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(s.State(), "store", "1.1.0-*", "tree", "share", "motto.txt"))
		if err != nil || len(found) != 1 {
			t.Fatalf("%v, %v", found, err)
		}
		if b, err := os.ReadFile(found[0]); err != nil || string(b) != want {
			t.Errorf("%q, %v", b, err)
		}
	}
	motto("one")
	add("1.2.0", archived(t, "example.tar.zst", example(t, "1.2.0", "exit:200ms"), "two"))
	operator(t, s, 20, "update", "--now", "--follow")
	serving(t, s, "1.1.0")
	if err := s.Quit(); err != nil {
		t.Fatal(err)
	}
	launch(t, s)
	serving(t, s, "1.1.0")
	motto("one")
}
