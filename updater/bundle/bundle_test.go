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

// hostile is an archive that must be refused, and its twin, made by the same change with a legal value.
type hostile struct {
	name       string
	want       error
	evil, twin []byte
}

func by[T any](name string, want error, change func(T) []byte, evil, twin T) hostile {
	return hostile{name, want, change(evil), change(twin)}
}

func hostiles(t *testing.T) []hostile {
	good := raw(t, plainFile("a"), plainFile("b"))
	second := func(name string) []byte { return raw(t, plainFile("a"), plainFile(name)) }
	order := func(names [2]string) []byte { return raw(t, plainFile(names[0]), plainFile(names[1])) }
	typed := func(h tar.Header) []byte { h.Name, h.Mode = "b", 0o644; return raw(t, plainFile("a"), h) }
	mode := func(mode int64) []byte { return raw(t, plainFile("a", func(h *tar.Header) { h.Mode = mode })) }
	owner := func(uid int) []byte { return raw(t, plainFile("a", func(h *tar.Header) { h.Uid = uid })) }
	records := func(m map[string]string) []byte {
		return raw(t, plainFile("a", func(h *tar.Header) { h.PAXRecords = m }))
	}
	spelled := func(f tar.Format) []byte { return raw(t, plainFile("a", func(h *tar.Header) { h.Format = f })) }
	set := func(at int) func(byte) []byte {
		return func(x byte) []byte { b := bytes.Clone(good); b[at] = x; return b }
	}
	return []hostile{
		by("leaves the tree", ErrName, second, "a/../../b", "a/b"),
		by("absolute", ErrName, second, "/b", "b"),
		by("backslash", ErrName, second, `a\b`, "a/b"),
		by("drive", ErrName, second, "c:b", "c/b"),
		by("hidden", ErrName, second, "a/.b", "a/b"),
		by("too long a name", ErrName, second, "a"+strings.Repeat("b", 600), "a"+strings.Repeat("b", 300)),
		by("twice", ErrOrder, second, "a", "b"),
		by("descending", ErrOrder, order, [2]string{"b", "a"}, [2]string{"a", "b"}),
		by("symbolic link", ErrFormat, typed, tar.Header{Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, tar.Header{Typeflag: tar.TypeReg}),
		by("hard link", ErrFormat, typed, tar.Header{Typeflag: tar.TypeLink, Linkname: "a"}, tar.Header{Typeflag: tar.TypeReg}),
		by("folder", ErrFormat, typed, tar.Header{Typeflag: tar.TypeDir}, tar.Header{Typeflag: tar.TypeReg}),
		by("device", ErrFormat, typed, tar.Header{Typeflag: tar.TypeChar}, tar.Header{Typeflag: tar.TypeReg}),
		by("another mode", ErrFormat, mode, 0o4755, 0o644),
		by("an owner", ErrFormat, owner, 1, 0),
		by("an attribute", ErrFormat, records, map[string]string{"SCHILY.xattr.a": "b"}, nil),
		by("holes", ErrFormat, records, map[string]string{"TURN.sparse": "1"}, nil),
		by("another spelling", ErrFormat, spelled, tar.FormatGNU, tar.FormatUSTAR),
		by("padding", ErrFormat, set(blockBytes+3), 1, 0),
		by("in the end", ErrFormat, set(len(good)-1), 1, 0),
		by("checksum", ErrFormat, set(0), 'c', 'a'),
		by("behind the end", ErrFormat, func(more int) []byte { return append(bytes.Clone(good), make([]byte, more)...) }, blockBytes, 0),
		by("nothing at all", ErrTruncated, func(n int) []byte { return good[:n] }, 0, len(good)),
		by("a gzip", ErrFormat, func(data []byte) []byte { return data }, []byte(strings.Repeat("\x1f\x8b\x08\x00", 512)), good),
	}
}

func TestHostile(t *testing.T) {
	for _, h := range hostiles(t) {
		if _, err := opened(h.twin); err != nil {
			t.Errorf("%s: the twin is refused: %v", h.name, err)
		}
		if _, err := opened(h.evil); !errors.Is(err, h.want) || !errors.Is(err, ErrBundle) {
			t.Errorf("%s: %v, want %v", h.name, err, h.want)
		}
	}
	good := raw(t, plainFile("a"), plainFile("b"))
	for n := range good {
		if _, err := opened(good[:n]); !errors.Is(err, ErrTruncated) {
			t.Fatalf("cut at %d of %d: %v", n, len(good), err)
		}
	}
}

// The size in a header is not believed beyond the end of the file.
func TestOversized(t *testing.T) {
	for _, sizeBytes := range []int64{0, 4, 1 << 20, 1 << 40, 1<<63 - 1} { // the first is the twin
		head, err := header("a", sizeBytes)
		if err != nil {
			t.Fatal(err)
		}
		data := append(head, make([]byte, endBytes)...)
		if _, err := opened(data); errors.Is(err, ErrTruncated) != (sizeBytes > 0) || err == nil != (sizeBytes == 0) {
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
