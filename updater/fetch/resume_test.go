package fetch

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

// A broken transfer goes on where it stopped: the server serves each byte once.
func TestDownloadGoesOn(t *testing.T) {
	data := random(1 << 20)
	for _, etag := range []string{`"v1"`, "", `W/"weak"`} {
		t.Run("within a call, ETag "+etag, func(t *testing.T) {
			s := newServer(t, data)
			s.etag = etag
			s.handle = s.cutAfter(600_000)
			dst := part1(t)
			if err := open(t, s.URL, quick).Download(t.Context(), durable.OS(), want(data), dst, nil); err != nil {
				t.Fatal(err)
			}
			mustHold(t, dst, data)
			checkGoneOn(t, s)
		})
		t.Run("in a later call, ETag "+etag, func(t *testing.T) {
			s := newServer(t, data)
			s.etag = etag
			s.handle = s.cutAfter(600_000)
			dst := part1(t)
			once := quick
			once.Attempts = 1
			err := open(t, s.URL, once).Download(t.Context(), durable.OS(), want(data), dst, nil)
			if !errors.Is(err, ErrTruncated) {
				t.Fatalf("the first call: %v", err)
			}
			if err := open(t, s.URL, once).Download(t.Context(), durable.OS(), want(data), dst, nil); err != nil {
				t.Fatal(err)
			}
			mustHold(t, dst, data)
			checkGoneOn(t, s)
		})
	}
}

func checkGoneOn(t *testing.T, s *server) {
	t.Helper()
	n, served := s.count()
	if n != 2 || served != int64(len(s.data)) {
		t.Errorf("%d requests served %d bytes of %d", n, served, len(s.data))
	}
	second := s.requests[1].Header
	if second.Get("Range") != "bytes=600000-" || second.Get("If-Range") != strong(s.etag) {
		t.Errorf("asked Range %q, If-Range %q", second.Get("Range"), second.Get("If-Range"))
	}
}

// Between two calls power may have failed, the file on the server may have changed, anything may have
// happened to the part: the result is right all the same.
func TestDownloadMakesTheBestOfWhatItFinds(t *testing.T) {
	data := random(500_000)
	for _, c := range []struct {
		name      string
		part, tag string
		ignore    bool // the server ignores Range
		etag      string
		served    int
	}{
		{name: "nothing", served: len(data)},
		{name: "a half", part: string(data[:200_000]), tag: `"v1"`, etag: `"v1"`, served: 300_000},
		{name: "a half without a tag", part: string(data[:200_000]), etag: `"v1"`, served: 300_000},
		{name: "a half of another file", part: strings.Repeat("x", 200_000), tag: `"old"`, etag: `"v1"`, served: len(data)},
		{name: "a half full of zeros", part: strings.Repeat("\x00", 200_000), tag: `"v1"`, etag: `"v1"`, served: 300_000 + len(data)},
		{name: "a spoiled tag", part: string(data[:200_000]), tag: "\x00\r\nX: y", etag: `"v1"`, served: 300_000},
		{name: "a half, and a server without ranges", part: string(data[:200_000]), ignore: true, served: len(data)},
		{name: "all of it", part: string(data), served: 0},
		{name: "all of it, wrong", part: strings.Repeat("x", len(data)), served: len(data)},
		{name: "more than all", part: string(data) + "x", served: len(data)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t, data)
			s.etag = c.etag
			if c.ignore {
				s.handle = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
					r.Header.Del("Range")
					return false
				}
			}
			dst := part1(t)
			if c.part != "" {
				os.WriteFile(dst, []byte(c.part), 0o600)
			}
			if c.tag != "" {
				os.WriteFile(dst+".etag", []byte(c.tag+"\n"+s.URL), 0o600)
			}
			if err := open(t, s.URL, quick).Download(t.Context(), durable.OS(), want(data), dst, nil); err != nil {
				t.Fatal(err)
			}
			mustHold(t, dst, data)
			if _, served := s.count(); served != int64(c.served) {
				t.Errorf("served %d, expected %d", served, c.served)
			}
		})
	}
}

// Pieces of two files under one name, from a server without tags, do not condemn the signed bytes.
func TestDownloadStartsOverWhenPiecesDoNotFit(t *testing.T) {
	data := random(1 << 20)
	s := newServer(t, data)
	s.etag = ""
	other := random(1<<20 + 1)[:1<<20]
	s.handle = func(w http.ResponseWriter, _ *http.Request, n int) bool {
		if n > 1 {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(other)))
		w.Write(other[:700_000])
		panic(http.ErrAbortHandler)
	}
	dst := part1(t)
	if err := open(t, s.URL, quick).Download(t.Context(), durable.OS(), want(data), dst, nil); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dst, data)
}

// A server that answers with another range than the one asked for is asked for the whole file.
func TestDownloadChecksTheRangeThatComes(t *testing.T) {
	data := random(300_000)
	for _, header := range []string{"bytes 0-299999/300000", "bytes 100001-299999/300000", "nonsense", ""} {
		s := newServer(t, data)
		s.handle = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if r.Header.Get("Range") == "" {
				return false
			}
			w.Header().Set("Content-Range", header)
			w.WriteHeader(206)
			w.Write(data[100_000:])
			return true
		}
		dst := part1(t)
		os.WriteFile(dst, data[:100_000], 0o600)
		if err := open(t, s.URL, quick).Download(t.Context(), durable.OS(), want(data), dst, nil); err != nil {
			t.Errorf("%q: %v", header, err)
		}
		mustHold(t, dst, data)
		if n, _ := s.count(); n != 2 {
			t.Errorf("%q: %d requests", header, n)
		}
	}
}

// A page that is no answer to the question (of a captive portal, say) does not cost what has come before.
func TestDownloadKeepsItsPartFromAWrongAnswer(t *testing.T) {
	data := random(100_000)
	for _, size := range []int{10, 200_000} {
		s := newServer(t, random(size))
		s.handle = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Header().Set("Content-Length", strconv.Itoa(size))
			w.Write(s.data)
			return true
		}
		dst := part1(t)
		os.WriteFile(dst, data[:60_000], 0o600)
		if err := open(t, s.URL, quick).Download(t.Context(), durable.OS(), want(data), dst, nil); err == nil {
			t.Error("took the page")
		}
		mustHold(t, dst, data[:60_000])
	}
}

// The power may fail at any moment: nothing but time is lost, and what was reported done is done.
func TestDownloadSurvivesPowerCuts(t *testing.T) {
	data := random(2*chunkBytes + 100)
	s := newServer(t, data)
	dst := "/staging/abc.part"
	fresh := func() *durabletest.Disk {
		d := durabletest.New()
		if err := durable.MkdirAll(d, "/staging", 0o755); err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := fresh()
	before := d.Ops()
	r := open(t, s.URL, quick)
	if err := r.Download(t.Context(), d, want(data), dst, nil); err != nil {
		t.Fatal(err)
	}
	ops := d.Ops() - before
	s.etag = "" // without a tag beside it, nothing else syncs the folder
	d = fresh()
	if err := r.Download(t.Context(), d, want(data), dst, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := durable.ReadFile(d.Crash(0), dst, 1<<30); err != nil || !bytes.Equal(got, data) {
		t.Errorf("reported done, but after a power cut: %d bytes, %v", len(got), err)
	}
	s.etag = `"v1"`
	for k := range ops {
		for seed := range uint64(6) {
			d := fresh()
			d.CutAt(k, durabletest.Cut(seed%3))
			err := r.Download(t.Context(), d, want(data), dst, nil)
			if (err != nil) != d.Dead() { // the number of writes depends on how the bytes arrive
				t.Fatalf("cut at %d of %d: %v", k, ops, err)
			}
			d = d.Crash(seed)
			if err := r.Download(t.Context(), d, want(data), dst, nil); err != nil {
				t.Fatalf("after a cut at %d, seed %d: %v", k, seed, err)
			}
			if got, err := durable.ReadFile(d.Crash(0), dst, 1<<30); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("after a cut at %d, seed %d: %d bytes, %v", k, seed, len(got), err)
			}
		}
	}
}

// A Sync that failed is not made good by another that says nothing: what is reported done after it is on the disk.
func TestDownloadAfterAFailedSync(t *testing.T) {
	data := random(2*chunkBytes + 100)
	s := newServer(t, data)
	for failures := 1; failures <= 4; failures++ {
		d, dst := durabletest.New(), "/part"
		begun, left := false, failures
		d.Fail(func(op durabletest.Op) error {
			begun = begun || op.Kind == "sync" && op.Name == dst
			if begun && left > 0 {
				left--
				return syscall.EIO
			}
			return nil
		})
		r := open(t, s.URL, quick)
		err := r.Download(t.Context(), d, want(data), dst, nil)
		if err == nil {
			t.Fatal("a failed Sync was not reported")
		}
		for range 5 {
			if err = r.Download(t.Context(), d, want(data), dst, nil); err == nil {
				break
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, err := durable.ReadFile(d.Crash(0), dst, 1<<30); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d operations failed: reported done, but after a power cut: %d bytes, %v", failures, len(got), err)
		}
	}
}

// A disk that is full from any operation on costs the download, which says so and asks nobody else, and nothing of
// what came before: when there is room again it goes on, and is right.
func TestDownloadOnADiskThatFillsUp(t *testing.T) {
	data := random(2*chunkBytes + 100)
	s, mirror := newServer(t, data), newServer(t, data)
	dst := "/staging/abc.part"
	r := mirrored(t, quick, s, mirror)
	for k := 0; ; k++ {
		d := durabletest.New()
		if err := durable.MkdirAll(d, "/staging", 0o755); err != nil {
			t.Fatal(err)
		}
		n := 0
		d.Fail(func(op durabletest.Op) error {
			switch op.Kind {
			case "create", "allocate", "write":
				if n++; n > k {
					return &durable.Shortage{Dir: "/staging"} // each system has numbers of its own for it
				}
			}
			return nil
		})
		err := r.Download(t.Context(), d, want(data), dst, nil)
		if err == nil {
			if k < 4 {
				t.Errorf("only %d operations need space", k)
			}
			break
		}
		if !durable.Full(err) {
			t.Fatalf("full at %d: %v", k, err)
		}
		d.Fail(nil)
		if err := r.Download(t.Context(), d, want(data), dst, nil); err != nil {
			t.Fatalf("full at %d, and then not any more: %v", k, err)
		}
		if got, err := durable.ReadFile(d.Crash(0), dst, 1<<30); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("full at %d: %d bytes, %v", k, len(got), err)
		}
	}
	if n, _ := mirror.count(); n != 0 {
		t.Errorf("a mirror was asked %d times", n)
	}
}
