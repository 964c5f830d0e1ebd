package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
)

func TestOpen(t *testing.T) {
	for _, good := range []string{"http://h", "https://h/a/b?sas=1", "file:///a/b", "file://localhost/a", t.TempDir()} {
		if _, err := Open(good, Options{}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "relative/path", "ftp://h/", "http://", "h:80", "http://a b/"} {
		if _, err := Open(bad, Options{}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if _, err := Open("ftp://user:secret@h/", Options{}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a password in the error: %v", err)
	}
}

func TestGet(t *testing.T) {
	s := newServer(t, []byte("twelve bytes"))
	r := open(t, s.URL+"/repo?sas=token", quick)
	b, err := r.Get(t.Context(), "timestamp.json", 12)
	if err != nil || string(b) != "twelve bytes" {
		t.Errorf("%q, %v", b, err)
	}
	if u := s.requests[0].URL; u.Path != "/repo/timestamp.json" || u.RawQuery != "sas=token" {
		t.Errorf("asked for %s", u)
	}
	if _, err := r.Get(t.Context(), "timestamp.json", 11); !errors.Is(err, ErrTooLong) {
		t.Errorf("too long: %v", err)
	}
	if _, err := r.Get(t.Context(), "../x", 11); err == nil {
		t.Error("a climbing name was accepted")
	}
	s.handle = answer(404)
	n0, _ := s.count()
	if _, err := r.Get(t.Context(), "2.root.json", 11); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, ErrNotFound) {
		t.Errorf("missing: %v", err)
	}
	if n, _ := s.count(); n != n0+1 {
		t.Errorf("a missing file was asked for %d times", n-n0)
	}
	s.handle = func(w http.ResponseWriter, _ *http.Request, _ int) bool { // endless, and no length given
		for {
			if _, err := w.Write(make([]byte, 1000)); err != nil {
				return true
			}
		}
	}
	if _, err := r.Get(t.Context(), "timestamp.json", 5000); !errors.Is(err, ErrTooLong) {
		t.Errorf("endless: %v", err)
	}
	s.handle = func(w http.ResponseWriter, r *http.Request, _ int) bool { // its own word is enough
		w.Header().Set("Content-Length", "1000000000")
		w.(*countingWriter).ResponseWriter.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	if _, err := r.Get(t.Context(), "timestamp.json", 5000); !errors.Is(err, ErrTooLong) {
		t.Errorf("announced as too long: %v", err)
	}
	s.handle = s.cutAfter(3)
	s.mu.Lock()
	s.requests = nil
	s.mu.Unlock()
	if b, err := r.Get(t.Context(), "timestamp.json", 12); err != nil || string(b) != "twelve bytes" {
		t.Errorf("cut once: %q, %v", b, err)
	}
	s.Close()
	if _, err := r.Get(t.Context(), "timestamp.json", 12); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("server down: %v", err)
	}
}

func TestRedirects(t *testing.T) {
	data := []byte("moved bytes")
	plain := newServer(t, data)
	var target string
	moved := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "x.json") && !strings.HasPrefix(r.URL.Path, "/there") {
			http.Redirect(w, r, target, http.StatusFound)
			return
		}
		w.Write(data)
	})
	secure := httptest.NewTLSServer(moved)
	defer secure.Close()
	insecure := httptest.NewServer(moved)
	defer insecure.Close()
	o := quick
	o.Client = secure.Client()

	for _, c := range []struct {
		name, base, target string
		ok                 bool
	}{
		{"https to https", secure.URL, secure.URL + "/there/x.json", true},
		{"http to http", insecure.URL, insecure.URL + "/there/x.json", true},
		{"http to https", insecure.URL, secure.URL + "/there/x.json", true},
		{"https to http", secure.URL, plain.URL + "/there/x.json", false},
		{"for ever", secure.URL, secure.URL + "/x.json", false},
	} {
		target = c.target
		b, err := open(t, c.base, o).Get(t.Context(), "x.json", 100)
		if c.ok != (err == nil) || c.ok && !bytes.Equal(b, data) {
			t.Errorf("%s: %q, %v", c.name, b, err)
		}
		if c.name == "https to http" && !errors.Is(err, ErrInsecure) {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.name == "for ever" && (err == nil || !strings.Contains(err.Error(), fmt.Sprintf("more than %d redirects", maxRedirects))) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if n, _ := plain.count(); n != 0 {
		t.Error("the insecure address was asked")
	}
	// A certificate that nobody vouches for is not tried again.
	target = secure.URL + "/there/x.json"
	if _, err := open(t, secure.URL, quick).Get(t.Context(), "x.json", 100); err == nil || strings.Contains(err.Error(), "tried") {
		t.Errorf("untrusted certificate: %v", err)
	}
}

func TestFolder(t *testing.T) {
	data := random(700_000)
	dir := t.TempDir()
	for name, b := range map[string][]byte{"artifacts/abc": data, "timestamp.json": []byte("{}"), "../secret": []byte("s")} {
		file := filepath.Join(dir, "repo", name)
		os.MkdirAll(filepath.Dir(file), 0o755)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	repo := filepath.Join(dir, "repo")
	slashed := filepath.ToSlash(repo)
	if !strings.HasPrefix(slashed, "/") {
		slashed = "/" + slashed
	}
	for _, address := range []string{repo, "file://" + slashed} {
		r := open(t, address, quick)
		if b, err := r.Get(t.Context(), "timestamp.json", 10); err != nil || string(b) != "{}" {
			t.Errorf("%s: %q, %v", address, b, err)
		}
		if _, err := r.Get(t.Context(), "timestamp.json", 1); !errors.Is(err, ErrTooLong) {
			t.Errorf("too long: %v", err)
		}
		if _, err := r.Get(t.Context(), "missing.json", 10); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("missing: %v", err)
		}
		if _, err := r.Get(t.Context(), "artifacts", 10); err == nil {
			t.Error("read a folder")
		}
		dst := part1(t)
		os.WriteFile(dst, data[:300_000], 0o600)
		var first int64 = -1
		err := r.Download(t.Context(), durable.OS(), want(data), dst, func(done, _ int64) {
			if first < 0 {
				first = done
			}
		})
		if err != nil || first != 300_000 {
			t.Errorf("download: %v, began at %d", err, first)
		}
		mustHold(t, dst, data)
	}
	if err := os.Symlink("../secret", filepath.Join(repo, "link")); err == nil {
		if b, err := open(t, repo, quick).Get(t.Context(), "link", 10); err == nil {
			t.Errorf("a link led out of the folder to %q", b)
		}
	}
	// A stick that is not there is not a repository without files.
	if _, err := open(t, filepath.Join(dir, "unplugged"), quick).Get(t.Context(), "x", 10); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open(t, repo, quick).Download(ctx, durable.OS(), want(data), part1(t), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// trickle gives n bytes after each pause, until its request is cancelled.
type trickle struct {
	ctx   context.Context
	n     int
	pause func(read int) time.Duration
	reads int
}

func (tr *trickle) Read(b []byte) (int, error) {
	tr.reads++
	select {
	case <-time.After(tr.pause(tr.reads)):
		return min(tr.n, len(b)), nil
	case <-tr.ctx.Done():
		return 0, tr.ctx.Err()
	}
}

func (tr *trickle) Close() error { return nil }

func TestPace(t *testing.T) {
	always := func(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }
	for _, c := range []struct {
		name  string
		n     int
		pause func(int) time.Duration
		end   time.Duration // when it must have ended, 0 if it must go on
		want  error
	}{
		{"just fast enough", 1000, always(time.Second), 0, nil},
		{"half of that", 500, always(time.Second), 62 * time.Second, ErrSlow},
		{"nothing at all", 1, always(time.Hour), 30 * time.Second, ErrSilent},
		{"one byte, then nothing", 1, func(n int) time.Duration {
			if n > 1 {
				return time.Hour
			}
			return time.Second
		}, 31 * time.Second, ErrSilent},
		{"a byte now and then", 1, always(20 * time.Second), 31 * time.Second, ErrSlow},
		{"fast, then nothing", 1 << 20, func(n int) time.Duration {
			if n > 100 {
				return time.Hour
			}
			return time.Second
		}, 130 * time.Second, ErrSilent},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				p := &paced{body: &trickle{ctx: ctx, n: c.n, pause: c.pause}, ctx: ctx, cancel: cancel, o: Options{Timeout: 30 * time.Second, MinRate: 1000}}
				defer p.Close()
				begun := time.Now()
				_, err := io.CopyN(io.Discard, p, int64(c.n)*600) // ten minutes' worth
				took := time.Since(begun)
				if c.end == 0 && err != nil || c.end > 0 && (!errors.Is(err, c.want) || took > c.end) {
					t.Errorf("%v after %s", err, took)
				}
			})
		})
	}
}

// The time that a reader spends elsewhere is not the server's.
func TestPaceIgnoresTheReadersOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		tr := &trickle{ctx: ctx, n: 1, pause: func(int) time.Duration { return time.Millisecond }}
		p := &paced{body: tr, ctx: ctx, cancel: cancel, o: Options{Timeout: 30 * time.Second, MinRate: 1000}}
		defer p.Close()
		for range 10 {
			if _, err := p.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
	})
}

func TestParseRange(t *testing.T) {
	for in, want := range map[string][2]int64{
		"bytes 100-199/200": {100, 200}, "bytes 0-0/1": {0, 1}, "bytes 5-9/*": {5, -1}, "bytes 5-7/200": {5, 200},
	} {
		if from, total, ok := parseRange(in); !ok || from != want[0] || total != want[1] {
			t.Errorf("%q: %d %d %v", in, from, total, ok)
		}
	}
	for _, bad := range []string{"", "bytes", "bytes */200", "bytes 5-4/200", "bytes 100-200/200", "bytes -5-9/200", "items 0-1/2", "bytes 0-1", "bytes 0-99999999999999999999/*"} {
		if _, _, ok := parseRange(bad); ok {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestStrong(t *testing.T) {
	for in, want := range map[string]string{
		`"a"`: `"a"`, `""`: `""`, `W/"a"`: "", `a`: "", `"`: "", "": "", "\"a\r\nX: b\"": "", `"a"b"`: "", `"` + strings.Repeat("a", 300) + `"`: "",
	} {
		if got := strong(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
