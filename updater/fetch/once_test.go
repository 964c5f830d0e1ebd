package fetch

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// A server that says nothing is not asked for the same small file once more: whoever waits would wait twice as long.
// One that breaks the line is.
func TestSilenceIsEnough(t *testing.T) {
	for name, tc := range map[string]struct {
		answer func(*http.Request)
		limit  time.Duration
		asked  int32
		silent bool
	}{
		"silence": {func(r *http.Request) { <-r.Context().Done() }, 2 * time.Second, 1, true},
		"broken":  {func(*http.Request) { panic(http.ErrAbortHandler) }, time.Minute, 2, false},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				asked.Add(1)
				tc.answer(r)
			}))
			defer s.Close()
			r, err := Open(s.URL, Options{Timeout: tc.limit, Backoff: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Get(t.Context(), "metadata/timestamp.json", 100); err == nil || errors.Is(err, ErrSilent) != tc.silent {
				t.Errorf("%v", err)
			}
			if n := asked.Load(); n != tc.asked {
				t.Errorf("asked %d times, want %d", n, tc.asked)
			}
		})
	}
}
