package e2e

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

// A repository that holds the line and says nothing, or a byte now and then, is given up within a minute and told as
// what it is; when it answers again all is well.
func TestSlowRepository(t *testing.T) {
	t.Parallel()
	s := staged(t, quick(nil))
	publish(t, s, "1.0.0", example(t, "1.0.0", ""))
	var slow atomic.Pointer[string]
	honest := http.FileServer(http.Dir(s.Repo()))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		how := slow.Load()
		if how == nil || !strings.HasSuffix(r.URL.Path, "timestamp.json") {
			honest.ServeHTTP(w, r)
			return
		}
		for *how == "drip" && r.Context().Err() == nil {
			if _, err := w.Write([]byte(" ")); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			stage.Wait(r.Context(), time.Second)
		}
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	edit(t, s, s.URL, server.URL)
	launch(t, s)
	serving(t, s, "1.0.0")
	for how, want := range map[string]struct {
		code int
		says string
	}{"silence": {12, "silence"}, "drip": {11, "a drip below the least rate"}} {
		slow.Store(&how)
		unmoved(t, s, func() { says(t, asked(t, s, want.code, "check").Error, want.says, "serving goes on") })
	}
	slow.Store(nil)
	checked(t, s, 3)
}

// An https repository that sends its hosts to an address without it is not followed; to another https address it is.
func TestRedirectFromHTTPS(t *testing.T) {
	t.Parallel()
	s := staged(t, quick(nil))
	publish(t, s, "1.0.0", example(t, "1.0.0", ""))
	files := http.FileServer(http.Dir(s.Repo()))
	plain := httptest.NewServer(files)
	t.Cleanup(plain.Close)
	var away atomic.Pointer[string]
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := away.Load(); to != nil && !strings.HasPrefix(r.URL.Path, "/elsewhere/") {
			http.Redirect(w, r, *to+r.URL.Path, http.StatusFound)
			return
		}
		r.URL.Path = strings.TrimPrefix(r.URL.Path, "/elsewhere")
		files.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	ca := filepath.Join(s.Home, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	edit(t, s, "url = \""+s.URL+"\"\n", "url = \""+server.URL+"\"\nca = \""+ca+"\"\n")
	launch(t, s)
	serving(t, s, "1.0.0")
	away.Store(&plain.URL)
	unmoved(t, s, func() { says(t, asked(t, s, 11, "check").Error, "refused a redirect from https") })
	elsewhere := server.URL + "/elsewhere"
	away.Store(&elsewhere)
	checked(t, s, 3)
}
