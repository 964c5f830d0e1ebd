package archive

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// item is one entry that a test packs.
type item struct {
	name string
	body string
	mode fs.FileMode // of the type too; 0 is 0644
	link string
}

var formats = []Format{TarGz, TarZst, Zip}

// pack makes an archive of the items as they are, sound or not.
func pack(t testing.TB, f Format, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	if f == Zip {
		z := zip.NewWriter(&b)
		for _, it := range items {
			h := &zip.FileHeader{Name: it.name, Method: zip.Deflate}
			h.SetMode(it.mode | 0o644)
			w, err := z.CreateHeader(h)
			must(err)
			_, err = io.WriteString(w, it.body+it.link)
			must(err)
		}
		must(z.Close())
		return b.Bytes()
	}
	var out io.WriteCloser = gzip.NewWriter(&b)
	if f == TarZst {
		z, err := zstd.NewWriter(&b)
		must(err)
		out = z
	}
	w := tar.NewWriter(out)
	for _, it := range items {
		h := &tar.Header{Name: it.name, Size: int64(len(it.body)), Mode: int64(it.mode.Perm() | 0o644), Typeflag: tar.TypeReg}
		switch it.mode.Type() {
		case fs.ModeDir:
			h.Typeflag = tar.TypeDir
		case fs.ModeSymlink:
			h.Typeflag, h.Linkname = tar.TypeSymlink, it.link
		case fs.ModeIrregular: // a hard link, for a tar
			h.Typeflag, h.Linkname = tar.TypeLink, it.link
		case fs.ModeDevice:
			h.Typeflag = tar.TypeChar
		}
		must(w.WriteHeader(h))
		_, err := io.WriteString(w, it.body)
		must(err)
	}
	must(errors.Join(w.Close(), out.Close()))
	return b.Bytes()
}

// read walks and returns what came, as "path mode bytes".
func read(f Format, b []byte, limit int64) (got []string, err error) {
	err = Walk(context.Background(), f, bytes.NewReader(b), int64(len(b)), limit, func(e Entry, r io.Reader) error {
		body, err := io.ReadAll(r)
		if err == nil && int64(len(body)) != e.SizeBytes {
			err = fmt.Errorf("%d bytes of %d", len(body), e.SizeBytes)
		}
		got = append(got, fmt.Sprintf("%s %v %s", e.Path, e.Exec, body))
		return err
	})
	return got, err
}

func TestWalk(t *testing.T) {
	for _, f := range formats {
		b := pack(t, f, item{name: "bin/", mode: fs.ModeDir | 0o755}, item{name: "bin/app", body: "program", mode: 0o755},
			item{name: "share/größe.txt", body: "text"}, item{name: ".config", body: ""})
		got, err := read(f, b, 11)
		want := []string{"bin/app true program", "share/größe.txt false text", ".config false "}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v %q", f, err, got)
		}
	}
	b := pack(t, TarGz, item{name: "./", mode: fs.ModeDir | 0o755}, item{name: "./app", body: "x", mode: 0o755})
	if got, err := read(TarGz, b, 1); err != nil || !slices.Equal(got, []string{"app true x"}) {
		t.Errorf("as tar -c . writes it: %v %q", err, got)
	}
}

// Each of these is refused, and the same archive with the sound name or kind in its place is read.
func TestWalkRefuses(t *testing.T) {
	file := func(name string) []item { return []item{{name: "app", body: "x"}, {name: name, body: "y"}} }
	for _, tc := range []struct {
		name, says string
		bad, twin  []item
		only       Format // "" is all of them
		limit, too int64  // bytes allowed, and those of the twin if they differ
	}{
		{name: "way out", says: "leads elsewhere", bad: file("../app2"), twin: file("a/app2")},
		{name: "way out inside", says: "leads elsewhere", bad: file("a/../../app2"), twin: file("a/b/app2")},
		{name: "absolute", says: "an empty part", bad: file("/etc/app2"), twin: file("etc/app2")},
		{name: "drive", says: "one of <", bad: file("c:/app2"), twin: file("c/app2")},
		{name: "backslash", says: "one of <", bad: file(`a\app2`), twin: file("a/app2"), only: TarGz},
		{name: "device", says: "Windows device", bad: file("a/NUL.txt"), twin: file("a/NULL.txt")},
		{name: "port", says: "Windows device", bad: file("com1"), twin: file("com10")},
		{name: "dot at the end", says: "a dot or a space", bad: file("a./b"), twin: file("a.x/b")},
		{name: "control character", says: "control character", bad: file("a\x1bb"), twin: file("ab")},
		{name: "not UTF-8", says: "bytes of UTF-8", bad: file("a\xffb"), twin: file("a\u00ffb"), only: TarGz},
		{name: "long", says: "bytes of UTF-8", bad: file(strings.Repeat("a", MaxPath+1)), twin: file(strings.Repeat("a", MaxPath))},
		{name: "deep", says: "deeper than", bad: file(strings.Repeat("a/", maxDepth) + "b"), twin: file(strings.Repeat("a/", maxDepth-1) + "b")},
		{name: "twice", says: "there twice", bad: file("app"), twin: file("app2")},
		{name: "twice in another case", says: "there twice", bad: file("APP"), twin: file("APP2")},
		{name: "file and folder", says: "a file and a folder", bad: file("app/x"), twin: file("app2/x")},
		{name: "folder and file", says: "there twice", bad: []item{{name: "a/b", body: "x"}, {name: "A", body: "x"}}, twin: []item{{name: "a/b", body: "x"}, {name: "C", body: "x"}}},
		{name: "symbolic link", says: "a link, a device", bad: []item{{name: "l", mode: fs.ModeSymlink, link: "app"}}, twin: []item{{name: "l", body: "app"}}},
		{name: "hard link", says: "a link, a device", bad: []item{{name: "l", mode: fs.ModeIrregular, link: "app"}}, twin: []item{{name: "l", body: "app"}}, only: TarGz},
		{name: "device file", says: "a link, a device", bad: []item{{name: "l", mode: fs.ModeDevice}}, twin: []item{{name: "l"}}},
		{name: "too many bytes", says: "beyond the bytes", bad: file("b"), twin: file("b"), limit: 1, too: 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, f := range formats {
				if tc.only != "" && f != tc.only {
					continue
				}
				limit, too := int64(100), int64(100)
				if tc.limit > 0 {
					limit, too = tc.limit, tc.too
				}
				if got, err := read(f, pack(t, f, tc.bad...), limit); !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("%s: want %q, got %v, %q", f, tc.says, err, got)
				}
				if _, err := read(f, pack(t, f, tc.twin...), too); err != nil {
					t.Errorf("%s: the twin is refused: %v", f, err)
				}
			}
		})
	}
}

func TestTooManyFiles(t *testing.T) {
	var items []item
	for i := range MaxFiles {
		items = append(items, item{name: fmt.Sprintf("f%d", i)})
	}
	if got, err := read(Zip, pack(t, Zip, items...), 0); err != nil || len(got) != MaxFiles {
		t.Errorf("%d files: %v", len(got), err)
	}
	for _, more := range []item{{name: "one more"}, {name: "one more/", mode: fs.ModeDir | 0o755}} {
		_, err := read(Zip, pack(t, Zip, append(slices.Clone(items), more)...), 0)
		if !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), "files and folders") {
			t.Errorf("%s: %v", more.name, err)
		}
	}
}

// The bound on all files goes by what the entries say of their sizes, so no entry has more than it says.
func TestLongerThanItsEntry(t *testing.T) {
	body := make([]byte, 1<<20)
	zipped := func(sizeBytes uint64) []byte {
		var deflated, b bytes.Buffer
		w, err := flate.NewWriter(&deflated, flate.BestSpeed)
		if err == nil {
			_, err = w.Write(body)
		}
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		z := zip.NewWriter(&b)
		h := &zip.FileHeader{Name: "app", Method: zip.Deflate, CRC32: crc32.ChecksumIEEE(body),
			CompressedSize64: uint64(deflated.Len()), UncompressedSize64: sizeBytes}
		raw, err := z.CreateRaw(h)
		if err == nil {
			_, err = raw.Write(deflated.Bytes())
		}
		if err := errors.Join(err, z.Close()); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	got := 0
	walk := func(b []byte) error {
		return Walk(t.Context(), Zip, bytes.NewReader(b), int64(len(b)), 1<<20, func(_ Entry, r io.Reader) error {
			n, err := io.Copy(io.Discard, r)
			got = int(n)
			return err
		})
	}
	if err := walk(zipped(1)); !errors.Is(err, ErrArchive) || got > 1 {
		t.Errorf("%d bytes, %v", got, err)
	}
	if err := walk(zipped(1 << 20)); err != nil || got != 1<<20 {
		t.Errorf("the twin: %d bytes, %v", got, err)
	}
}

// A folder that comes again and again costs nothing in the archive, and time at each host.
func TestTooManyEntries(t *testing.T) {
	again := func(count int) []item {
		items := []item{{name: "app", body: "x"}}
		for len(items) < count {
			items = append(items, item{name: "a/", mode: fs.ModeDir | 0o755})
		}
		return items
	}
	for _, f := range formats {
		if got, err := read(f, pack(t, f, again(maxEntries+1)...), 1); !errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), "entries") {
			t.Errorf("%s: %v, %q", f, err, got)
		}
		if _, err := read(f, pack(t, f, again(maxEntries)...), 1); err != nil {
			t.Errorf("%s: the twin is refused: %v", f, err)
		}
	}
}

// Damaged bytes are the archive's fault; what the reader, the callback or the end say is not.
func TestWhoseFault(t *testing.T) {
	for _, f := range formats {
		whole := pack(t, f, item{name: "app", body: strings.Repeat("0123456789", 10000), mode: 0o755})
		for _, cut := range []int{0, 5, len(whole) / 2, len(whole) - 1} {
			if _, err := read(f, whole[:cut], 1<<20); !errors.Is(err, ErrArchive) && (f == Zip || cut < len(whole)-1) {
				t.Errorf("%s cut at %d of %d: %v", f, cut, len(whole), err)
			}
		}
		mine := errors.New("disk full")
		err := Walk(t.Context(), f, bytes.NewReader(whole), int64(len(whole)), 1<<20, func(Entry, io.Reader) error { return mine })
		if err != mine {
			t.Errorf("%s: %v", f, err)
		}
		err = Walk(t.Context(), f, failing{mine}, int64(len(whole)), 1<<20, func(Entry, io.Reader) error { return nil })
		if !errors.Is(err, mine) || errors.Is(err, ErrArchive) {
			t.Errorf("%s: %v", f, err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(mine)
		err = Walk(ctx, f, bytes.NewReader(whole), int64(len(whole)), 1<<20, func(Entry, io.Reader) error { return nil })
		if !errors.Is(err, mine) || errors.Is(err, ErrArchive) {
			t.Errorf("%s: %v", f, err)
		}
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// A stream that wants more memory than level 19 is refused before it has it.
func TestWindowIsBounded(t *testing.T) {
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, zstd.WithWindowSize(2*window))
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	err = w.WriteHeader(&tar.Header{Name: "app", Size: 4 * window, Mode: 0o755, Typeflag: tar.TypeReg})
	if err == nil {
		_, err = io.CopyN(w, zeros{}, 4*window)
	}
	if err := errors.Join(err, w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := read(TarZst, b.Bytes(), 1<<30); !errors.Is(err, ErrArchive) {
		t.Errorf("%v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func FuzzWalk(f *testing.F) {
	for i, format := range formats {
		f.Add(uint8(i), pack(f, format, item{name: "bin/app", body: "program", mode: 0o755}, item{name: "readme"}))
		f.Add(uint8(i), pack(f, format, item{name: "../x", body: "program"}))
	}
	f.Fuzz(func(t *testing.T, n uint8, b []byte) {
		const limit = 1 << 16
		var total int64
		seen := map[string]bool{}
		err := Walk(t.Context(), formats[int(n)%len(formats)], bytes.NewReader(b), int64(len(b)), limit, func(e Entry, r io.Reader) error {
			got, err := io.Copy(io.Discard, r)
			total += got
			if err == nil && got != e.SizeBytes {
				t.Errorf("%q has %d bytes, its entry says %d", e.Path, got, e.SizeBytes)
			}
			if !fs.ValidPath(e.Path) || CheckPath(e.Path) != nil || seen[strings.ToLower(e.Path)] {
				t.Errorf("%q was let through", e.Path)
			}
			seen[strings.ToLower(e.Path)] = true
			return err
		})
		if total > limit || len(seen) > MaxFiles {
			t.Errorf("%d bytes in %d files", total, len(seen))
		}
		if err != nil && !errors.Is(err, ErrArchive) {
			t.Errorf("nobody else is at fault: %v", err)
		}
	})
}
