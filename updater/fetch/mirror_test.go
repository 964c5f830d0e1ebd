package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// mirrored opens the first server with the others as its mirrors.
func mirrored(t *testing.T, o Options, list ...*server) *Repository {
	t.Helper()
	for _, s := range list[1:] {
		o.Mirrors = append(o.Mirrors, s.URL)
	}
	return open(t, list[0].URL, o)
}

// Every way in which one source cannot or will not serve a file, and another that does. Its twin has no mirror
// and fails, with the error of its own.
func TestMirrorServesWhatTheFirstDoesNot(t *testing.T) {
	data := random(600_000)
	wrong := bytes.Clone(data)
	wrong[300_000] ^= 1
	secure := httptest.NewTLSServer(http.NotFoundHandler()) // its certificate is trusted by nobody
	defer secure.Close()
	elsewhere := newServer(t, data)
	for _, c := range []struct {
		name   string
		handle func(http.ResponseWriter, *http.Request, int) bool
		err    error
		sent   int64 // by the mirror
	}{
		{"does not have it", answer(404), ErrNotFound, 600_000},
		{"always 500", answer(500), nil, 600_000},
		{"wrong bytes", func(w http.ResponseWriter, _ *http.Request, _ int) bool { w.Write(wrong); return true }, ErrDigest, 600_000},
		{"another length", func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.Header().Set("Content-Length", "599999")
			w.Write(data[1:])
			return true
		}, ErrTruncated, 600_000},
		{"breaks off, always", func(w http.ResponseWriter, r *http.Request, n int) bool {
			if n > 1 {
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("Content-Length", "600000")
			w.Header().Set("ETag", `"v1"`)
			w.Write(data[:400_000])
			w.(*countingWriter).ResponseWriter.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, nil, 200_000},
		{"breaks off after wrong bytes", func(w http.ResponseWriter, r *http.Request, n int) bool {
			w.Header().Set("Content-Length", "600000")
			w.Write(wrong[:400_000])
			w.(*countingWriter).ResponseWriter.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, nil, -1}, // pieces of both do not fit, and it starts over
	} {
		t.Run(c.name, func(t *testing.T) {
			first, second := newServer(t, data), newServer(t, data)
			first.handle = c.handle
			second.etag = `"another"` // mirrors share no tags
			dst := part1(t)
			var skipped []string
			o := quick
			o.Skipped = func(address string, err error) { skipped = append(skipped, address) }
			if err := mirrored(t, o, first, second).Download(t.Context(), durable.OS(), want(data), dst, nil); err != nil {
				t.Fatal(err)
			}
			mustHold(t, dst, data)
			if _, sent := second.count(); sent != c.sent && c.sent >= 0 {
				t.Errorf("the mirror sent %d bytes, want %d", sent, c.sent)
			}
			if len(skipped) == 0 || skipped[0] != first.URL {
				t.Errorf("passed over: %q", skipped)
			}
			alone := newServer(t, data)
			alone.handle = c.handle
			err := open(t, alone.URL, quick).Download(t.Context(), durable.OS(), want(data), part1(t), nil)
			if err == nil || c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("without a mirror: %v, want %v", err, c.err)
			}
		})
	}
	t.Run("untrusted certificate", func(t *testing.T) {
		o := quick
		o.Mirrors = []string{elsewhere.URL}
		dst := part1(t)
		if err := open(t, secure.URL, o).Download(t.Context(), durable.OS(), want(data), dst, nil); err != nil {
			t.Fatal(err)
		}
		mustHold(t, dst, data)
	})
}

// The first is asked first, for every file anew; a mirror is not asked while it serves.
func TestMirrorIsTheSecondChoice(t *testing.T) {
	data := random(1000)
	first, second := newServer(t, data), newServer(t, data)
	first.handle = func(w http.ResponseWriter, r *http.Request, n int) bool { return n == 2 && answer(404)(w, r, n) }
	r := mirrored(t, quick, first, second)
	for want := range 3 {
		if b, err := r.Get(t.Context(), name, 1000); err != nil || !bytes.Equal(b, data) {
			t.Fatal(err)
		}
		if n, _ := second.count(); n != min(want, 1) {
			t.Errorf("after file %d the mirror was asked %d times", want, n)
		}
	}
	if n, _ := first.count(); n != 3 {
		t.Errorf("the first was asked %d times", n)
	}
	for i, s := range r.Sources() {
		if want := []string{first.URL, second.URL}[i]; s.Address() != want || len(s.Sources()) != 1 {
			t.Errorf("source %d is %s, want %s", i, s.Address(), want)
		}
	}
}

// When every one fails, each is named with what came of it, and wrong bytes among it are told as such.
func TestAllMirrorsFail(t *testing.T) {
	data := random(1000)
	gone, lies := newServer(t, data), newServer(t, data)
	gone.handle = answer(404)
	lies.handle = func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		w.Write(bytes.Repeat([]byte("x"), 1000))
		return true
	}
	dst := part1(t)
	err := mirrored(t, quick, gone, lies).Download(t.Context(), durable.OS(), want(data), dst, nil)
	if !errors.Is(err, ErrDigest) || !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), gone.URL) || !strings.Contains(err.Error(), lies.URL) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	mustBeGone(t, dst)
	if n, _ := lies.count(); n != 1 {
		t.Errorf("the liar was asked %d times", n)
	}
	honest := newServer(t, data) // the twin
	if err := mirrored(t, quick, gone, honest).Download(t.Context(), durable.OS(), want(data), dst, nil); err != nil {
		t.Error(err)
	}
}

// A mirror that redirects from https to http is passed over; nothing goes over the open line.
func TestMirrorThatRedirectsToHTTP(t *testing.T) {
	data := random(1000)
	plain := newServer(t, data)
	for _, scheme := range []string{"http", "https"} {
		var target string
		secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/there") {
				w.Write(data)
				return
			}
			http.Redirect(w, r, target, http.StatusFound)
		}))
		defer secure.Close()
		target = plain.URL + "/" + name
		if scheme == "https" {
			target = secure.URL + "/there/" + name
		}
		down := newServer(t, data)
		down.handle = answer(500)
		o := quick
		o.Client = secure.Client()
		o.Mirrors = []string{secure.URL}
		err := open(t, down.URL, o).Download(t.Context(), durable.OS(), want(data), part1(t), nil)
		if scheme == "https" && err != nil || scheme == "http" && !errors.Is(err, ErrInsecure) {
			t.Errorf("redirect to %s: %v", scheme, err)
		}
		if n, _ := plain.count(); n != 0 {
			t.Error("the address without https was asked")
		}
	}
}

// The disk's fault is no source's: nobody else is asked.
func TestMirrorsShareTheDisk(t *testing.T) {
	data := random(1000)
	first, second := newServer(t, data), newServer(t, data)
	full := errors.New("no space left on device")
	err := mirrored(t, quick, first, second).Download(t.Context(), limited{Disk: durable.OS(), t: t, err: full}, want(data), part1(t), nil)
	if n, _ := second.count(); !errors.Is(err, full) || n != 0 {
		t.Errorf("%v, and the mirror was asked %d times", err, n)
	}
}

// A line that breaks again and again, and brings something each time, gets there; one that brings nothing is
// given up after a few tries.
func TestDownloadOverALineThatBreaks(t *testing.T) {
	data := random(12 * chunkBytes)
	for _, c := range []struct {
		name string
		each int
		ok   bool
	}{{"a chunk each time", chunkBytes, true}, {"a byte each time", 1, false}} {
		s := newServer(t, data)
		s.handle = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			w.Header().Set("ETag", s.etag)
			from, _, _ := parseRange(strings.TrimSuffix(strings.Replace(r.Header.Get("Range"), "=", " ", 1), "-") + "-999999999/*")
			if from > 0 {
				w.Header().Set("Content-Range", "bytes "+strconv.FormatInt(from, 10)+"-"+strconv.FormatInt(int64(len(data))-1, 10)+"/"+strconv.FormatInt(int64(len(data)), 10))
				w.WriteHeader(206)
			}
			w.Write(data[from:min(int(from)+c.each, len(data))])
			w.(*countingWriter).ResponseWriter.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		err := open(t, s.URL, quick).Download(t.Context(), durable.OS(), want(data), part1(t), nil)
		if n, _ := s.count(); (err == nil) != c.ok || n > 20 {
			t.Errorf("%s: %v after %d requests", c.name, err, n)
		}
	}
}

// What is capped takes its time, for all transfers together.
func TestRate(t *testing.T) {
	for _, transfers := range []int{1, 3} {
		synctest.Test(t, func(t *testing.T) {
			srcs := []named{{still(1_000_000), "a"}, {still(1_000_000), "b"}}
			meter(srcs, 100_000)
			begun := time.Now()
			done := make(chan int64)
			for i := range transfers {
				go func() {
					s, err := srcs[i%2].open(t.Context(), "x", 0, "")
					if err != nil {
						t.Error(err)
					}
					n, err := io.Copy(io.Discard, s.body)
					if err != nil {
						t.Error(err)
					}
					done <- n
				}()
			}
			var all int64
			for range transfers {
				all += <-done
			}
			took := time.Since(begun).Seconds()
			if want := float64(transfers) * 10; math.Abs(took-want) > 0.5 || all != int64(transfers)*1_000_000 {
				t.Errorf("%d bytes at 100000 a second took %v s, want %v", all, took, want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // and it ends with its context
		srcs := []named{{still(1_000_000), "a"}}
		meter(srcs, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s, err := srcs[0].open(ctx, "x", 0, "")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, s.body); !errors.Is(err, context.DeadlineExceeded) || n > 62 {
			t.Errorf("%d bytes in a minute, %v", n, err)
		}
	})
}

// still is a source of so many zeros.
type still int

func (n still) open(context.Context, string, int64, string) (*stream, error) {
	return &stream{body: io.NopCloser(bytes.NewReader(make([]byte, n))), total: int64(n)}, nil
}

// The cap holds for a repository that was opened with it.
func TestRateIsUsed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), make([]byte, 100_000), 0o644); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		if _, err := open(t, dir, Options{MaxRate: 10_000}).Get(t.Context(), "x", 100_000); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took < 9*time.Second {
			t.Errorf("took %s", took)
		}
	})
}
