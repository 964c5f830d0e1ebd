package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// stored lists the versions that the store holds.
func stored(t *testing.T, s *stage.Stage) (numbers []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.State(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if number, _, ok := strings.Cut(e.Name(), "-"); ok {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// keeps demands that the store holds these versions, and at most one that the journal still names from the
// last update: garbage goes one update late.
func keeps(t *testing.T, s *stage.Stage, chain ...string) {
	t.Helper()
	held := stored(t, s)
	for _, number := range chain {
		if !slices.Contains(held, number) {
			t.Errorf("%s is gone from the store, which holds %v", number, held)
		}
	}
	if len(held) > len(chain)+1 {
		t.Errorf("the store holds %v, wanted are %v", held, chain)
	}
}

// After any number of updates, and whatever the launcher went through, the store holds what is active, what
// can be gone back to, and the chain of the last good ones behind these. A version that failed is gone, and
// nothing is left of a download.
func TestGarbageIsCollected(t *testing.T) {
	s := launched(t, quick(nil))
	for _, number := range []string{"1.1.0", "1.2.0"} {
		publish(t, s, number, example(t, number, ""))
		operator(t, s, 0, "update", "--now", "--follow")
	}
	keeps(t, s, "1.0.0", "1.1.0", "1.2.0")
	kill(t, s) // the next launcher adopts 1.2.0 and knows as well what may go
	launch(t, s)
	serving(t, s, "1.2.0")
	for _, number := range []string{"1.3.0", "1.4.0"} {
		publish(t, s, number, example(t, number, ""))
		operator(t, s, 0, "update", "--now", "--follow")
	}
	byOrder(t, s)
	publish(t, s, "1.5.0", example(t, "1.5.0", "never-ready"))
	edit(t, s, `ready_timeout = "10s"`, `ready_timeout = "4s"`)
	kill(t, s)
	launch(t, s)
	operator(t, s, 14, "update", "--now", "--follow")
	publish(t, s, "1.6.0", example(t, "1.6.0", ""))
	operator(t, s, 0, "update", "--now", "--follow")
	keeps(t, s, "1.2.0", "1.3.0", "1.4.0", "1.6.0")
	if held := stored(t, s); slices.Contains(held, "1.0.0") || slices.Contains(held, "1.5.0") {
		t.Errorf("the store still holds what is too old or failed: %v", held)
	}
	if n := parts(t, s); n != 0 {
		t.Errorf("%d bytes of downloads are left", n)
	}
	operator(t, s, 0, "rollback", "--follow") // what is kept is good
	serving(t, s, "1.4.0")
}

// A version with a living process stays, even one that failed and is wanted no more: a client that does not
// leave keeps it draining, and the store whole.
func TestRunningVersionStays(t *testing.T) {
	s := launched(t, quick(map[string]string{
		"probation": "time = \"8s\"\nmin_requests = 0\n",
		"drain":     "deadline = \"5m\"\nidle = \"1s\"\nstream = \"5m\"\nkill = \"1s\"\n",
	}))
	publish(t, s, "1.1.0", example(t, "1.1.0", "health-fail:5s"))
	update := background(t, s, "update", "--now", "--follow")
	phase(t, s, journal.Probation)
	client := load.Start(load.Options{Address: s.Listen, Upgrade: "/upgrade?stay", Workers: map[load.Class]int{load.Stream: 2}})
	defer client.Stop()
	eventually(t, "a client is inside 1.1.0", func() bool { return client.InFlight().Streams == 2 })
	update.ends(t, 20)
	publish(t, s, "1.2.0", example(t, "1.2.0", ""))
	operator(t, s, 0, "update", "--now", "--follow")
	keeps(t, s, "1.0.0", "1.1.0", "1.2.0")
	draining := func() bool {
		return slices.ContainsFunc(status(t, s).Processes, func(p control.Process) bool { return p.Number == "1.1.0" })
	}
	if r := client.Report(); !draining() || r.StreamsCut+r.StreamsTold > 0 {
		t.Errorf("1.1.0 did not wait for its client: %+v", r)
	}
	client.Stop()
	eventually(t, "1.1.0 has ended", func() bool { return !draining() })
	publish(t, s, "1.3.0", example(t, "1.3.0", ""))
	operator(t, s, 0, "update", "--now", "--follow")
	if held := stored(t, s); !slices.Equal(held, []string{"1.0.0", "1.2.0", "1.3.0"}) {
		t.Errorf("the store holds %v", held)
	}
}
