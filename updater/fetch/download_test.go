package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
)

func TestDownload(t *testing.T) {
	for _, size := range []int{0, 1, chunkBytes, 3*chunkBytes + 7} {
		data := random(size)
		s := newServer(t, data)
		dst := part1(t)
		last := int64(-1)
		err := open(t, s.URL+"/repo", quick).Download(t.Context(), durable.OS(), want(data), dst, func(done, total int64) {
			if done < last || done > total || total != int64(size) {
				t.Errorf("progress %d of %d after %d", done, total, last)
			}
			last = done
		})
		if err != nil || last != int64(size) {
			t.Errorf("%d bytes: %v, progress ended at %d", size, err, last)
		}
		mustHold(t, dst, data)
		if p := s.requests[0].URL.Path; p != "/repo/"+name {
			t.Errorf("asked for %s", p)
		}
	}
}

// answering is what a server does with a request.
type answering = func(http.ResponseWriter, *http.Request, int) bool

// refusal is an answer that must be refused, and its twin, made by the same function from a legal value.
type refusal struct {
	name       string
	want       error  // nil for any
	says       string // what is told of it
	requests   int
	gone       bool  // the part
	limit      int64 // bytes that may be written
	evil, twin answering
}

func (r refusal) by(evil, twin answering) refusal { r.evil, r.twin = evil, twin; return r }

func refusals(data []byte) []refusal {
	size := int64(len(data))
	flipped := func(mask byte) answering {
		return func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			wrong := bytes.Clone(data)
			wrong[150_000] ^= mask
			w.Write(wrong)
			return true
		}
	}
	longer := func(more string) answering {
		return func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Header().Set("Content-Length", strconv.Itoa(len(data)+len(more)))
			w.Write(data)
			w.Write([]byte(more))
			return true
		}
	}
	chunked := func(more string) answering {
		return func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.WriteHeader(200)
			w.(*countingWriter).ResponseWriter.(http.Flusher).Flush() // no Content-Length from here on
			w.Write(append(bytes.Clone(data), more...))
			return true
		}
	}
	times := func(n int) answering {
		return func(w http.ResponseWriter, r *http.Request, _ int) bool {
			for ; n > 0 && r.Context().Err() == nil; n-- {
				if _, err := w.Write(data); err != nil {
					break
				}
			}
			return true
		}
	}
	shorter := func(n int) answering {
		return func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Header().Set("Content-Length", strconv.Itoa(n))
			w.Write(data[:n])
			return true
		}
	}
	status := func(code int) answering {
		return func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(data)-1, len(data)))
			w.WriteHeader(code)
			w.Write(data)
			return true
		}
	}
	encoded := func(as string) answering {
		return func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Header().Set("Content-Encoding", as)
			w.Write(data)
			return true
		}
	}
	headed := func(sizeBytes int) answering {
		return func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Header().Set("X-Long", strings.Repeat("x", sizeBytes))
			w.Write(data)
			return true
		}
	}
	return []refusal{
		refusal{name: "wrong bytes", want: ErrDigest, requests: 1, gone: true, limit: size}.by(flipped(1), flipped(0)),
		refusal{name: "longer by its own word", want: ErrTooLong, requests: 1}.by(longer("x"), longer("")),
		refusal{name: "longer without a word", want: ErrTooLong, requests: 1, limit: size}.by(chunked("x"), chunked("")),
		refusal{name: "endless", want: ErrTooLong, requests: 1, limit: size}.by(times(math.MaxInt), times(1)),
		refusal{name: "shorter by its own word", want: ErrTruncated, requests: 1}.by(shorter(1000), shorter(len(data))),
		refusal{name: "an empty file", want: ErrTruncated, requests: 1}.by(shorter(0), shorter(len(data))),
		refusal{name: "not there", want: ErrNotFound, requests: 1}.by(status(404), status(200)),
		refusal{name: "not listed", want: ErrNotFound, requests: 1}.by(status(403), status(200)),
		refusal{name: "gone", want: fs.ErrNotExist, requests: 1}.by(status(410), status(200)),
		refusal{name: "endless header", says: "response headers exceeded", requests: 5}.by(headed(65<<10), headed(62<<10)),
		refusal{name: "always 500", says: "answered 500", requests: 5}.by(status(500), status(200)),
		refusal{name: "who are you", says: "answered 401", requests: 1}.by(status(401), status(200)),
		refusal{name: "encoded", says: `encoded as "gzip"`, requests: 1}.by(encoded("gzip"), encoded("identity")),
		refusal{name: "a range that nobody asked for", says: "answered 206", requests: 1}.by(status(206), status(200)),
	}
}

func TestDownloadRefuses(t *testing.T) {
	data := random(300_000)
	for _, c := range refusals(data) {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t, data)
			s.handle = c.evil
			dst := part1(t)
			disk := limited{Disk: durable.OS(), t: t, limit: c.limit}
			err := open(t, s.URL, quick).Download(t.Context(), disk, want(data), dst, nil)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v, %s", err, c.want, c.says)
			}
			if n, _ := s.count(); n != c.requests {
				t.Errorf("%d requests, want %d", n, c.requests)
			}
			if c.gone {
				mustBeGone(t, dst)
			} else if info, err := os.Stat(dst); err != nil || info.Size() != 0 {
				t.Errorf("kept of another file: %v, %v", info, err)
			}
			twin := newServer(t, data)
			twin.handle = c.twin
			if err := open(t, twin.URL, quick).Download(t.Context(), durable.OS(), want(data), part1(t), nil); err != nil {
				t.Errorf("the twin is refused: %v", err)
			}
		})
	}
}

// A file that ends early without saying so is asked for again from there, and then the server must admit it.
func TestDownloadOfATruncatedFileEnds(t *testing.T) {
	data := random(300_000)
	s := newServer(t, data[:100_000])
	s.handle = func(w http.ResponseWriter, r *http.Request, _ int) bool {
		if r.Header.Get("Range") != "" {
			return false
		}
		w.WriteHeader(200)
		w.(*countingWriter).ResponseWriter.(http.Flusher).Flush()
		w.Write(s.data)
		return true
	}
	err := open(t, s.URL, quick).Download(t.Context(), durable.OS(), want(data), part1(t), nil)
	if err == nil || errors.Is(err, ErrDigest) {
		t.Errorf("got %v", err)
	}
	if n, _ := s.count(); n > 5 {
		t.Errorf("%d requests", n)
	}
}

func TestDownloadSurvivesAPassingFailure(t *testing.T) {
	data := random(100_000)
	s := newServer(t, data)
	s.handle = func(w http.ResponseWriter, r *http.Request, n int) bool {
		return n <= 2 && answer(500+n)(w, r, n)
	}
	dst := part1(t)
	if err := open(t, s.URL, quick).Download(t.Context(), durable.OS(), want(data), dst, nil); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dst, data)
}

func TestDownloadRefusesADripAndASilence(t *testing.T) {
	data := random(100_000)
	for name, c := range map[string]struct {
		pause time.Duration
		limit time.Duration
		want  error
	}{"drip": {5 * time.Millisecond, 2 * time.Second, ErrSlow}, "silence": {time.Hour, 200 * time.Millisecond, ErrSilent}} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, data)
			s.handle = func(w http.ResponseWriter, r *http.Request, _ int) bool {
				w.Header().Set("Content-Length", strconv.Itoa(len(data)))
				for i := range data {
					w.Write(data[i : i+1])
					w.(*countingWriter).ResponseWriter.(http.Flusher).Flush()
					select {
					case <-time.After(c.pause):
					case <-r.Context().Done():
						return true
					}
				}
				return true
			}
			dst := part1(t)
			o := Options{Timeout: c.limit, MinRate: 10_000}
			err := open(t, s.URL, o).Download(t.Context(), durable.OS(), want(data), dst, nil)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v", err)
			}
			if info, err := os.Stat(dst); err != nil || info.Size() == 0 {
				t.Errorf("what came is not kept: %v, %v", info, err)
			}
		})
	}
	t.Run("no answer", func(t *testing.T) {
		s := newServer(t, data)
		s.handle = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
			<-r.Context().Done()
			return true
		}
		o := Options{Timeout: 50 * time.Millisecond, Attempts: 2, Backoff: time.Millisecond}
		if err := open(t, s.URL, o).Download(t.Context(), durable.OS(), want(data), part1(t), nil); !errors.Is(err, ErrSilent) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDownloadStops(t *testing.T) {
	data := random(1 << 20)
	s := newServer(t, data)
	s.handle = func(w http.ResponseWriter, r *http.Request, n int) bool {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(data[:500_000])
		w.(*countingWriter).ResponseWriter.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	order := errors.New("an operator's order")
	ctx, cancel := context.WithCancelCause(t.Context())
	dst := part1(t)
	err := open(t, s.URL, quick).Download(ctx, durable.OS(), want(data), dst, func(done, _ int64) {
		if done == 500_000 {
			cancel(order)
		}
	})
	if n, _ := s.count(); !errors.Is(err, order) || n != 1 {
		t.Errorf("got %v after %d requests", err, n)
	}
	if info, err := os.Stat(dst); err != nil || info.Size() != 500_000 {
		t.Errorf("what came is not kept: %v, %v", info, err)
	}
}

func TestDownloadReportsAFullDisk(t *testing.T) {
	data := random(100_000)
	s := newServer(t, data)
	disk := limited{Disk: durable.OS(), t: t, err: syscall.ENOSPC}
	s.etag = ""
	err := open(t, s.URL, quick).Download(t.Context(), disk, want(data), part1(t), nil)
	if n, _ := s.count(); !errors.Is(err, syscall.ENOSPC) || n != 1 {
		t.Errorf("got %v after %d requests", err, n)
	}
}

func TestDownloadIntoSomethingElse(t *testing.T) {
	data := random(10)
	s := newServer(t, data)
	dst := part1(t)
	precious := filepath.Join(filepath.Dir(dst), "precious")
	os.WriteFile(precious, []byte("data"), 0o600)
	if err := os.Symlink(precious, dst); err != nil {
		t.Skip("this system lets us make no link: ", err)
	}
	if _, err := os.Lstat(dst); err != nil {
		t.Skip("Wine says that it made a link, and made none: ", err)
	}
	if err := open(t, s.URL, quick).Download(t.Context(), durable.OS(), want(data), dst, nil); err == nil {
		t.Error("followed a planted link")
	}
	if b, _ := os.ReadFile(precious); string(b) != "data" {
		t.Errorf("overwrote %q", b)
	}
}

func TestDownloadRefusesImpossibleWants(t *testing.T) {
	r := open(t, "http://127.0.0.1:1", quick)
	good := want([]byte("x"))
	for _, w := range []Want{
		{"../escape", 1, good.SHA256}, {"/etc/passwd", 1, good.SHA256}, {"a//b", 1, good.SHA256}, {"a/", 1, good.SHA256},
		{"", 1, good.SHA256}, {"a?b", 1, good.SHA256}, {"a b", 1, good.SHA256}, {"a%2e%2e", 1, good.SHA256}, {"Upper", 1, good.SHA256},
		{name, -1, good.SHA256}, {name, 1, ""}, {name, 1, "zz"}, {name, 1, good.SHA256[:62]},
	} {
		dst := part1(t)
		if err := r.Download(t.Context(), durable.OS(), w, dst, nil); err == nil {
			t.Errorf("%+v was accepted", w)
		}
		mustBeGone(t, dst)
	}
}

// Memory does not grow with the artifact: client and server of 128 MiB allocate a few MiB together.
func TestDownloadIsFlatInMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 128 MiB; -short was given")
	}
	const size = 128 << 20
	zeros := make([]byte, 1<<20)
	s := newServer(t, nil)
	s.handle = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		w.Header().Set("Content-Length", strconv.Itoa(size))
		for range size / len(zeros) {
			w.Write(zeros)
		}
		return true
	}
	w := Want{name, size, "254bcc3fc4f27172636df4bf32de9f107f620d559b20d760197e452b97453917"} // of 128 MiB of zeros
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := open(t, s.URL, quick).Download(t.Context(), durable.OS(), w, part1(t), nil); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := (after.TotalAlloc - before.TotalAlloc) >> 20; grown > 16 {
		t.Errorf("%d MiB were allocated", grown)
	}
}
