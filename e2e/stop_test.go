package e2e

import (
	"net/http"
	"testing"
)

// An orderly stop takes no longer than its own key allows, however long the drain of an update may be: the
// request here would be answered if it were waited for.
func TestStopIsBounded(t *testing.T) {
	s := launched(t, quick(map[string]string{"drain": "deadline = \"10m\"\nstream = \"10m\"\nstop = \"2s\"\n"}))
	cut := make(chan error, 1)
	go func() {
		resp, err := http.Get("http://" + s.Listen + "/slow?ms=50000")
		if err == nil {
			resp.Body.Close()
		}
		cut <- err
	}()
	eventually(t, "the request has arrived", func() bool {
		st := status(t, s)
		return len(st.Processes) == 1 && st.Processes[0].Open > 0
	})
	if err := s.Quit(); err != nil {
		t.Fatal(err)
	}
	if err := <-cut; err == nil {
		t.Error("the request was answered")
	}
}
