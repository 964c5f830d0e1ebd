package bundle

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func made(t testing.TB, all map[string]string) []byte {
	t.Helper()
	var files []File
	for name, data := range all { // in whatever order the map has
		files = append(files, File{name, int64(len(data)), func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(data)), nil
		}})
	}
	var b bytes.Buffer
	if err := Write(&b, files); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func opened(data []byte) (*Bundle, error) { return Read(bytes.NewReader(data), int64(len(data))) }

var small = map[string]string{
	"metadata/1.root.json": "root", "metadata/timestamp.json": "pointer", "artifacts/aa": strings.Repeat("x", 600),
	"targets/stable/" + strings.Repeat("0", 64) + "." + strings.Repeat("1.2.3-a", 12) + ".json": "a name that needs a longer header",
	"empty": "", "block": strings.Repeat("y", 512),
}

// What was written is read; the same files make the same bytes; another tool reads them too.
func TestRoundTrip(t *testing.T) {
	data := made(t, small)
	for range 5 {
		if !bytes.Equal(made(t, small), data) {
			t.Fatal("the same files made other bytes")
		}
	}
	name := filepath.Join(t.TempDir(), "x.tsb")
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	b, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if len(b.Names()) != len(small) || !slices.IsSorted(b.Names()) {
		t.Errorf("names %v", b.Names())
	}
	for name, want := range small {
		got, err := b.Get(t.Context(), name, 600)
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if streamed, err := fs.ReadFile(b, name); err != nil || string(streamed) != want {
			t.Errorf("%s streamed: %q, %v", name, streamed, err)
		}
	}
	if _, err := b.Get(t.Context(), "artifacts/aa", 599); !errors.Is(err, ErrTooLong) {
		t.Errorf("longer than allowed: %v", err)
	}
	if _, err := b.Get(t.Context(), "artifacts", 599); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	tr := tar.NewReader(bytes.NewReader(data))
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF && n == len(small) {
			break
		}
		if err != nil || len(small[h.Name]) != int(h.Size) {
			t.Fatalf("as a tar archive: %v, %+v", err, h)
		}
	}
}

// raw is an archive that no Write makes.
func raw(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range headers {
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func plainFile(name string, change ...func(*tar.Header)) tar.Header {
	h := tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: 3}
	for _, c := range change {
		c(&h)
	}
	return h
}

// Each attack differs from the archive that is accepted in one thing.
func TestHostile(t *testing.T) {
	if _, err := opened(raw(t, plainFile("a"), plainFile("b"))); err != nil {
		t.Fatalf("the twin is refused: %v", err)
	}
	good := raw(t, plainFile("a"), plainFile("b"))
	changed := func(change func([]byte) []byte) []byte { return change(bytes.Clone(good)) }
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"leaves the tree":  {raw(t, plainFile("a"), plainFile("a/../../b")), ErrName},
		"absolute":         {raw(t, plainFile("/b")), ErrName},
		"backslash":        {raw(t, plainFile(`a\b`)), ErrName},
		"drive":            {raw(t, plainFile(`c:b`)), ErrName},
		"hidden":           {raw(t, plainFile("a/.b")), ErrName},
		"too long a name":  {raw(t, plainFile("a"+strings.Repeat("b", 600))), ErrName},
		"twice":            {raw(t, plainFile("a"), plainFile("a")), ErrOrder},
		"descending":       {raw(t, plainFile("b"), plainFile("a")), ErrOrder},
		"symbolic link":    {raw(t, plainFile("a"), tar.Header{Typeflag: tar.TypeSymlink, Name: "b", Linkname: "/etc/passwd", Mode: 0o644}), ErrFormat},
		"hard link":        {raw(t, plainFile("a"), tar.Header{Typeflag: tar.TypeLink, Name: "b", Linkname: "a", Mode: 0o644}), ErrFormat},
		"folder":           {raw(t, tar.Header{Typeflag: tar.TypeDir, Name: "a", Mode: 0o644}), ErrFormat},
		"device":           {raw(t, tar.Header{Typeflag: tar.TypeChar, Name: "a", Mode: 0o644}), ErrFormat},
		"another mode":     {raw(t, plainFile("a", func(h *tar.Header) { h.Mode = 0o4755 })), ErrFormat},
		"an owner":         {raw(t, plainFile("a", func(h *tar.Header) { h.Uid = 1 })), ErrFormat},
		"an attribute":     {raw(t, plainFile("a", func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.a": "b"} })), ErrFormat},
		"another spelling": {raw(t, plainFile("a", func(h *tar.Header) { h.Format = tar.FormatGNU })), ErrFormat},
		"holes":            {raw(t, plainFile("a", func(h *tar.Header) { h.PAXRecords = map[string]string{"TURN.sparse": "1"}; h.Format = tar.FormatPAX })), ErrFormat},
		"padding":          {changed(func(b []byte) []byte { b[blockBytes+3] = 1; return b }), ErrFormat},
		"in the end":       {changed(func(b []byte) []byte { b[len(b)-1] = 1; return b }), ErrFormat},
		"behind the end":   {changed(func(b []byte) []byte { return append(b, make([]byte, blockBytes)...) }), ErrFormat},
		"checksum":         {changed(func(b []byte) []byte { b[0] = 'c'; return b }), ErrFormat},
		"nothing at all":   {nil, ErrTruncated},
		"a gzip":           {[]byte(strings.Repeat("\x1f\x8b\x08\x00", 512)), ErrFormat},
	} {
		if _, err := opened(c.data); !errors.Is(err, c.want) || !errors.Is(err, ErrBundle) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for n := range good {
		if _, err := opened(good[:n]); !errors.Is(err, ErrTruncated) {
			t.Fatalf("cut at %d of %d: %v", n, len(good), err)
		}
	}
}

// The size in a header is not believed beyond the end of the file.
func TestOversized(t *testing.T) {
	for _, sizeBytes := range []int64{4, 1 << 20, 1 << 40, 1<<63 - 1} {
		head, err := header("a", sizeBytes)
		if err != nil {
			t.Fatal(err)
		}
		data := append(head, make([]byte, endBytes)...)
		if _, err := opened(data); !errors.Is(err, ErrTruncated) {
			t.Errorf("%d bytes are promised: %v", sizeBytes, err)
		}
	}
}

func TestTooManyFiles(t *testing.T) {
	var b bytes.Buffer
	for n := range maxFiles + 1 {
		head, err := header(fmt.Sprintf("%06d", n), 0)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(head)
	}
	b.Write(make([]byte, endBytes))
	if _, err := opened(b.Bytes()); !errors.Is(err, ErrTooMany) {
		t.Errorf("%v", err)
	}
	twin := append(bytes.Clone(b.Bytes()[:maxFiles*blockBytes]), make([]byte, endBytes)...)
	if _, err := opened(twin); err != nil {
		t.Errorf("one less: %v", err)
	}
}

func TestWriteRefuses(t *testing.T) {
	open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("abc")), nil }
	for name, files := range map[string][]File{
		"name": {{"../a", 3, open}}, "twice": {{"a", 3, open}, {"a", 3, open}}, "short": {{"a", 4, open}}, "long": {{"a", 2, open}},
	} {
		if err := Write(io.Discard, files); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := Write(io.Discard, []File{{"a", 3, open}}); err != nil {
		t.Errorf("the twin: %v", err)
	}
}

// What Read accepts, Write makes: the same bytes again.
func FuzzRead(f *testing.F) {
	f.Add(made(f, small))
	f.Add(made(f, nil))
	f.Add([]byte("x"))
	f.Add(made(f, map[string]string{"a": "1", "b/c": "2"})[:1500])
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := opened(data)
		if err != nil {
			if !errors.Is(err, ErrBundle) {
				t.Fatalf("no error of a bundle: %v", err)
			}
			return
		}
		all := map[string]string{}
		for _, name := range b.Names() {
			content, err := b.Get(t.Context(), name, 1<<40)
			if err != nil {
				t.Fatal(err)
			}
			all[name] = string(content)
		}
		if !bytes.Equal(made(t, all), data) {
			t.Fatal("written again it has other bytes")
		}
	})
}

var _ fs.FS = (*Bundle)(nil)
