package main

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// An object store is read like any other place: verified whole, and refused for one byte; a mirror can be made of it.
func TestVerifyObjects(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "publisher")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	store := gofakes3.New(backend).Server()
	server := httptest.NewServer(store)
	t.Cleanup(server.Close)
	place := "s3:bucket/agent?region=us-east-1&endpoint=" + server.URL

	b := newBench(t)
	b.add("1.0.0")
	b.publish()
	b.must(0, "publish", "--to", place)
	if got := b.verify(place); got.URL != place || got.Artifacts != 1 || got.versions("stable") != "1.0.0" {
		t.Errorf("verified %+v", got)
	}
	dir := filepath.Join(t.TempDir(), "mirror")
	b.must(0, "mirror", place, dir)
	b.verify(dir)

	put := func(name, text string) {
		t.Helper()
		r := httptest.NewRequest(http.MethodPut, "/bucket/agent/"+name, strings.NewReader(text))
		r.Header.Set("Content-Length", strconv.Itoa(len(text)))
		w := httptest.NewRecorder()
		if store.ServeHTTP(w, r); w.Code != http.StatusOK {
			t.Fatalf("put %s: %d %s", name, w.Code, w.Body)
		}
	}
	for _, name := range names(t, b.public) {
		good := string(readFile(t, filepath.Join(b.public, name)))
		put(name, string(flip([]byte(good))))
		b.must(codeVerify, "verify", place)
		put(name, good)
	}
	b.verify(place)
	b.must(codeDownload, "verify", strings.Replace(place, "agent", "other", 1))
	b.must(codeUsage, "verify", "s3:bucket?colour=red")
	server.Close()
	b.must(codeDownload, "verify", place)
}
