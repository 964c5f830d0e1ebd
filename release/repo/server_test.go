package repo_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/release/repo"
)

const artifact = "artifacts/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// site serves a folder with an artifact and a pointer.
func site(t *testing.T, bytesPerSecond int64) (url, path string) {
	t.Helper()
	path = t.TempDir()
	for name, data := range map[string]string{artifact: "0123456789", repo.Pointer: `{"n":1}`, ".hidden": "x"} {
		file := filepath.Join(path, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, file, data)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(repo.Handler(root, bytesPerSecond))
	t.Cleanup(func() { server.Close(); root.Close() })
	return server.URL, path
}

func TestServerRangesAndETags(t *testing.T) {
	url, path := site(t, 0)
	whole, body := fetch(t, "GET", url+"/"+artifact, nil)
	tag := whole.Header.Get("ETag")
	if whole.StatusCode != 200 || body != "0123456789" || tag != `"`+strings.TrimPrefix(artifact, "artifacts/")+`"` {
		t.Fatalf("got %d %q with ETag %s", whole.StatusCode, body, tag)
	}
	cases := []struct {
		name, header, value string
		extra               string
		status              int
		body                string
	}{
		{"a range", "Range", "bytes=4-", "", 206, "456789"},
		{"a range of what it was", "Range", "bytes=4-", tag, 206, "456789"},
		{"a range of something else", "Range", "bytes=4-", `"other"`, 200, "0123456789"},
		{"a range past the end", "Range", "bytes=10-", "", 416, ""},
		{"not changed", "If-None-Match", tag, "", 304, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, body := fetch(t, "GET", url+"/"+artifact, map[string]string{c.header: c.value, "If-Range": c.extra})
			if got.StatusCode != c.status || c.status < 300 && body != c.body {
				t.Errorf("got %d %q, want %d %q", got.StatusCode, body, c.status, c.body)
			}
		})
	}
	first, _ := fetch(t, "GET", url+"/"+repo.Pointer, nil)
	write(t, filepath.Join(path, filepath.FromSlash(repo.Pointer)), `{"n":2}`)
	second, _ := fetch(t, "HEAD", url+"/"+repo.Pointer, nil)
	if first.Header.Get("ETag") == second.Header.Get("ETag") {
		t.Error("a pointer of the same size has the same ETag")
	}
	if got := second.Header.Get("Cache-Control"); got != "no-cache" {
		t.Errorf("the pointer may be cached: %q", got)
	}
}

func TestServerShowsOnlyTheRepository(t *testing.T) {
	url, path := site(t, 0)
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "secret")
	if err := os.Symlink(secret, filepath.Join(path, "link")); err != nil {
		t.Skip("no symbolic links here: ", err)
	}
	for _, name := range []string{"", "metadata", "metadata/", ".hidden", "link", "missing", "..%2f" + filepath.Base(secret), "a%00b"} {
		if got, body := fetch(t, "GET", url+"/"+name, nil); got.StatusCode != 404 {
			t.Errorf("%q: got %d %q", name, got.StatusCode, body)
		}
	}
	if got, _ := fetch(t, "PUT", url+"/"+repo.Pointer, nil); got.StatusCode != 405 {
		t.Errorf("PUT: got %d", got.StatusCode)
	}
}

func TestThrottle(t *testing.T) {
	url, _ := site(t, 100)
	began := time.Now()
	_, body := fetch(t, "GET", url+"/"+artifact, nil)
	if took := time.Since(began); body != "0123456789" || took < 80*time.Millisecond {
		t.Errorf("10 bytes at 100 a second: %q after %v", body, took)
	}
}

func fetch(t *testing.T, method, url string, header map[string]string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		if v != "" {
			req.Header.Set(k, v)
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}
