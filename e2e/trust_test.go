package e2e

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/launcher/control"
)

// forged serves the example in the versions 1.0.0 and then in each of more, and has a web server show the
// launcher whatever a forger makes of that.
func forged(t *testing.T, more ...string) (*stage.Stage, *hostile, *forger) {
	t.Helper()
	s := staged(t, quick(nil))
	publish(t, s, "1.0.0", example(t, "1.0.0", ""))
	h := &hostile{dir: s.Repo()}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	edit(t, s, s.URL, h.URL)
	launch(t, s)
	serving(t, s, "1.0.0")
	for _, version := range more {
		publish(t, s, version, example(t, version, ""))
		operator(t, s, 0, "update", "--now", "--follow")
	}
	return s, h, forgery(t, s)
}

// Trust that is over stops updates and nothing else, told before and after it ends.
func TestExpiredTrust(t *testing.T) {
	t.Parallel()
	s, h, f := forged(t)
	const soon = 20 * time.Second
	f.edit("timestamp", endsIn(soon))
	h.shows(f)
	checked(t, s, 3)
	if e := status(t, s).Trust.Ending; len(e) != 1 || e[0].Role != "timestamp" {
		t.Errorf("what ends soon: %+v", e)
	}
	says(t, operator(t, s, 0, "status"), "EXPIRES in", "(timestamp)", "the vendor must publish")
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	unmoved(t, s, func() {
		eventually(t, "trust expires", func() bool { return status(t, s).Trust.Expired })
		says(t, operator(t, s, 11, "update", "--now", "--follow"), "signed metadata has expired")
		says(t, operator(t, s, 0, "status"), "EXPIRED", "serving goes on, updates wait")
		kill(t, s)
		launch(t, s)
		if st := status(t, s); st.Health != control.Healthy || !st.Trust.Expired {
			t.Errorf("after a restart: %s, trust %+v", st.Health, st.Trust)
		}
	})
	twin := forgery(t, s)
	twin.edit("timestamp", asItWas)
	h.shows(twin)
	operator(t, s, 0, "update", "--now", "--follow")
	serving(t, s, "1.1.0")
	if st := status(t, s); st.Trust.Expired || len(st.Trust.Ending) > 0 {
		t.Errorf("trust %+v", st.Trust)
	}
}

// Whoever has the channel's key can take an offer back, and raise the least epoch; he cannot take a host back to
// what it left. The operator of the host can.
func TestDowngrade(t *testing.T) {
	s, h, f := forged(t, "1.1.0")
	f.document("stable", "stable/channel.json", func(text string) string {
		_, after, _ := strings.Cut(text, `"offers": [`)
		newest, _, _ := strings.Cut(after, "},")
		return strings.Replace(text, newest+"},", "", 1)
	})
	h.shows(f)
	checked(t, s, 3)
	says(t, operator(t, s, 3, "update", "1.0.0", "--now", "--follow"), "1.1.0 is active and newer")
	serving(t, s, "1.1.0")

	raised := f.copy()
	renamed(`"min_epoch": 0`, `"min_epoch": 2`)(raised)
	h.shows(raised)
	g := refused(checked(t, s, 3), "1.0.0")
	says(t, g["epoch"].Text, "the least that the vendor still allows")
	operator(t, s, 0, "rollback", "--follow")
	serving(t, s, "1.0.0")
}
