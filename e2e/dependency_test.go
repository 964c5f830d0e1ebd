package e2e

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// dependency is a server that both versions need to be well.
type dependency struct {
	*httptest.Server
	down  atomic.Value // of string: "all", a version, or nobody
	asked atomic.Int64 // while it was down
}

func depend(t *testing.T) *dependency {
	t.Helper()
	d := &dependency{}
	d.down.Store("")
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down := d.down.Load().(string); down == "all" || down != "" && down == r.FormValue("version") {
			d.asked.Add(1)
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	t.Cleanup(d.Close)
	return d
}
