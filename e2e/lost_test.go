package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/launcher/control"
)

// A host whose store is gone says what is wrong, offers no way back that is not there, and gets the active
// version again, with no order and no mark, as soon as the channel can be read.
func TestStoreIsLost(t *testing.T) {
	s := launched(t, quick(nil))
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	operator(t, s, 0, "update", "--now", "--follow")
	serving(t, s, "1.1.0")
	if err := s.Quit(); err != nil {
		t.Fatal(err)
	}
	timestamp := filepath.Join(s.Repo(), "metadata", "timestamp.json")
	if err := os.RemoveAll(filepath.Join(s.State(), "store")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(timestamp, timestamp+".away"); err != nil {
		t.Fatal(err)
	}
	launch(t, s)
	var st control.Status
	eventually(t, "the trouble is told", func() bool {
		st = status(t, s)
		return strings.Contains(st.Trouble, "1.1.0 is missing or damaged on disk")
	})
	if st.Health != control.Unhealthy || st.Previous != nil {
		t.Errorf("health %s, previous %v; want unhealthy and none", st.Health, st.Previous)
	}
	operator(t, s, 4, "status")
	if err := os.Rename(timestamp+".away", timestamp); err != nil {
		t.Fatal(err)
	}
	operator(t, s, 0, "update", "--now")
	eventually(t, "1.1.0 serves again", func() bool {
		_, err := answer(t.Context(), s)
		return err == nil && status(t, s).Health == control.Healthy
	})
	if st = status(t, s); st.Health != control.Healthy || st.Trouble != "" || len(st.Quarantine)+len(st.Held) != 0 {
		t.Errorf("%s, trouble %q, quarantine %v, held %v", st.Health, st.Trouble, st.Quarantine, st.Held)
	}
}
