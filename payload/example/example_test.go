package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestParseFault(t *testing.T) {
	f, err := parseFault("exit:2s")
	if err != nil || f.kind != "exit" || f.after != 2*time.Second {
		t.Errorf("got %+v, %v", f, err)
	}
	for _, bad := range []string{"exit:2", "exit:-1s", "no-such-fault"} {
		if _, err := parseFault(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestAddOneCountsAndRefusesOldFence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "count")
	for want := uint64(1); want <= 3; want++ {
		if n, err := addOne(file, 7); err != nil || n != want {
			t.Fatalf("got %d, %v, want %d", n, err, want)
		}
	}
	if _, err := addOne(file, 6); err == nil {
		t.Error("a write under a fence that is over is taken")
	}
	if got, _ := os.ReadFile(file); string(got) != "3 7\n" {
		t.Errorf("the file says %q", got)
	}
}

// Each fault that shows in answers shows in the right ones.
func TestFaultsInAnswers(t *testing.T) {
	for _, c := range []struct {
		fault          string
		public, health int
	}{{"", 200, 200}, {"500s", 500, 200}, {"health-fail", 200, 503}} {
		f, err := parseFault(c.fault)
		if err != nil {
			t.Fatal(err)
		}
		f.strike()
		h := (&service{version: "1.0.0", fault: f}).routes()
		for path, want := range map[string]int{"/": c.public, "/healthz": c.health, "/no-such-page": max(404, c.public)} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if w.Code != want {
				t.Errorf("fault %q: %s answers %d, want %d", c.fault, path, w.Code, want)
			}
		}
	}
}
