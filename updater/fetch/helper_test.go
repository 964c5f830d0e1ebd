package fetch

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
)

const name = "artifacts/abc"

// server is a static web server with Range and ETag that counts what it serves. Handle, if set, sees each
// request first, with its number from 1, and returns whether it has answered.
type server struct {
	*httptest.Server
	handle func(w http.ResponseWriter, r *http.Request, n int) bool

	mu       sync.Mutex
	data     []byte
	etag     string
	requests []*http.Request
	served   int64
}

func newServer(t testing.TB, data []byte) *server {
	s := &server{data: data, etag: `"v1"`}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r)
	n, data, etag, handle := len(s.requests), s.data, s.etag, s.handle
	s.mu.Unlock()
	cw := &countingWriter{w, s}
	if handle != nil && handle(cw, r, n) {
		return
	}
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	http.ServeContent(cw, r, "", time.Time{}, bytes.NewReader(data))
}

func (s *server) count() (requests int, served int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests), s.served
}

type countingWriter struct {
	http.ResponseWriter
	s *server
}

func (w *countingWriter) Write(b []byte) (int, error) {
	w.count(len(b)) // before the client can have them, and ask
	n, err := w.ResponseWriter.Write(b)
	w.count(n - len(b))
	return n, err
}

func (w *countingWriter) count(n int) {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.served += int64(n)
}

// cutAfter answers as usual but breaks the connection after n bytes of the body.
func (s *server) cutAfter(n int) func(http.ResponseWriter, *http.Request, int) bool {
	return func(w http.ResponseWriter, r *http.Request, attempt int) bool {
		if attempt > 1 {
			return false
		}
		if s.etag != "" {
			w.Header().Set("ETag", s.etag)
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(s.data)))
		w.Write(s.data[:n])
		w.(*countingWriter).ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(n)})
	rng.Read(b)
	return b
}

func want(data []byte) Want {
	sum := sha256.Sum256(data)
	return Want{Name: name, SizeBytes: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
}

// quick is options for tests: real bounds, short pauses between attempts.
var quick = Options{Timeout: 10 * time.Second, Backoff: time.Millisecond}

func open(t testing.TB, address string, o Options) *Repository {
	t.Helper()
	r, err := Open(address, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func part1(t testing.TB) string { return filepath.Join(t.TempDir(), "abc.part") }

// mustHold checks that a finished download left the file and nothing beside it.
func mustHold(t testing.TB, dst string, data []byte) {
	t.Helper()
	got, err := os.ReadFile(dst)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("the file holds %d bytes, %v; want %d", len(got), err, len(data))
	}
	entries, err := os.ReadDir(filepath.Dir(dst))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func mustBeGone(t testing.TB, dst string) {
	t.Helper()
	if entries, err := os.ReadDir(filepath.Dir(dst)); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// limited is the machine's disk, on which writing beyond a length is a test's failure.
type limited struct {
	durable.Disk
	t     testing.TB
	limit int64
	err   error // of every write, if set
}

func (l limited) OpenFile(name string, flag int, perm os.FileMode) (durable.File, error) {
	f, err := l.Disk.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &limitedFile{File: f, l: l}, nil
}

type limitedFile struct {
	durable.File
	l limited
}

func (f *limitedFile) Write(b []byte) (int, error) {
	if f.l.err != nil {
		return 0, f.l.err
	}
	n, err := f.File.Write(b)
	if info, serr := f.Stat(); serr == nil && info.Size() > f.l.limit {
		f.l.t.Errorf("%s has %d bytes on disk, %d are signed", f.Name(), info.Size(), f.l.limit)
	}
	return n, err
}

func answer(status int) func(http.ResponseWriter, *http.Request, int) bool {
	return func(w http.ResponseWriter, _ *http.Request, _ int) bool {
		w.WriteHeader(status)
		fmt.Fprintln(w, "a page for people")
		return true
	}
}
