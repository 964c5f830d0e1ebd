package e2e

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/manifest"
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
	f.edit("timestamp", func(signed object) { ends(signed, soon) })
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
		eventually(t, "a restart does not matter", func() bool {
			st := status(t, s)
			return st.Health == control.Healthy && st.Trust.Expired
		})
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
// what it left, nor take the floor away that he has set. The operator of the host can go back.
func TestDowngrade(t *testing.T) {
	s, h, f := forged(t, "1.1.0")
	var whole string
	cut := func(text string) string {
		whole = text
		_, after, _ := strings.Cut(text, `"offers": [`)
		newest, _, _ := strings.Cut(after, "},")
		return strings.Replace(text, newest+"},", "", 1)
	}
	f.document("stable", "stable/channel.json", cut)
	h.shows(f)
	checked(t, s, 3)
	says(t, operator(t, s, 3, "update", "1.0.0", "--now", "--follow"), "1.1.0 is active and newer")

	f.document("stable", "stable/channel.json", func(string) string { return whole })
	states("min_epoch")(f, "2")
	h.shows(f)
	checked(t, s, 3)
	says(t, operator(t, s, 10, "update", "1.0.0", "--now", "--follow"), "use rollback to go back")

	f.document("stable", "stable/channel.json", cut)
	for floor, want := range map[string]error{"2": manifest.ErrDowngrade, "1": manifest.ErrFloor} {
		evil := f.copy()
		states("min_epoch")(evil, floor)
		h.shows(evil)
		says(t, operator(t, s, 11, "update", "1.0.0", "--now", "--follow"), want.Error())
		serving(t, s, "1.1.0")
	}
	operator(t, s, 0, "rollback", "--follow")
	serving(t, s, "1.0.0")
}
