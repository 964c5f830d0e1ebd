package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/release/repo"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// takenBack demands that 1.1.0 left without a mark against it because the vendor yanked it, and that nothing
// else than 1.0.0 serves.
func takenBack(t *testing.T, s *stage.Stage, outcome updater.Outcome, in journal.Phase) {
	t.Helper()
	st := status(t, s)
	if st.Active.Number != "1.0.0" || len(st.Quarantine)+len(st.Held) != 0 {
		t.Errorf("active %v, quarantine %v, held %v; want 1.0.0 and no mark", st.Active, st.Quarantine, st.Held)
	}
	e := last(t, s, "1.1.0")
	if e.To != "1.1.0" || e.Outcome != outcome || e.Verdict != journal.Yanked || e.Failed != in || !strings.Contains(e.Reason, "leaks memory") {
		t.Errorf("history: %s %s, verdict %s in %s: %s", e.To, e.Outcome, e.Verdict, e.Failed, e.Reason)
	}
	if g := refused(checked(t, s, 10), "1.1.0"); !strings.Contains(g["yanked"].Text, "leaks memory") {
		t.Errorf("1.1.0 is held back by %v, want yanked with its reason", g)
	}
}

// A release that the vendor takes back while it is fetched, or warmed up, never gets a connection.
func TestYankedBeforeSwitch(t *testing.T) {
	s := staged(t, quick(nil))
	m := behind(t, s)
	publish(t, s, "1.0.0", example(t, "1.0.0", ""))
	launch(t, s)
	serving(t, s, "1.0.0")
	yanked := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(yanked) })
	m.is(func(w http.ResponseWriter, whole []byte) {
		<-yanked
		_, _ = w.Write(whole) // the reader may have gone
	})
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	unmoved(t, s, func() {
		defer goOn() // or the server never ends, if the test does before
		update := background(t, s, "update", "--now", "--follow")
		phase(t, s, journal.Fetching)
		change(t, s, "yank", "1.1.0", "--reason", "leaks memory")
		goOn()
		says(t, update.ends(t, 10), "leaks memory")
	})
	takenBack(t, s, updater.Discarded, journal.Fetching)
}

func TestYankedWhileWarming(t *testing.T) {
	s, d := warmsLong(t)
	unmoved(t, s, func() {
		update := background(t, s, "update", "--now", "--follow")
		phase(t, s, journal.Warming)
		change(t, s, "yank", "1.1.0", "--reason", "leaks memory")
		d.down.Store("")
		says(t, update.ends(t, 10), "leaks memory")
	})
	takenBack(t, s, updater.Discarded, journal.Warming)
}

// warmsLong serves 1.0.0 and has published a 1.1.0 that is well when its dependency is up, and not before.
func warmsLong(t *testing.T) (*stage.Stage, *dependency) {
	t.Helper()
	d := depend(t)
	d.down.Store("1.1.0")
	s := launched(t, quick(map[string]string{
		"payload": fmt.Sprintf("kind = \"sdk\"\ncommand = [\"{{.Exe}}\"]\nuser = \"same\"\nenv = { EXAMPLE_DEPENDS = %q }\n", d.URL),
		"health":  "interval = \"100ms\"\ngood = 2\nready_timeout = \"1m\"\n",
	}))
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	return s, d
}

// One that is taken back in its probation loses the traffic again, and no client a request.
func TestYankedInProbation(t *testing.T) {
	s := onTrial(t, "30s")
	before := pids(t, s)["1.0.0"]
	r := underLoad(t, s, some, func(l *load.Load) {
		publish(t, s, "1.1.0", example(t, "1.1.0", ""))
		update := background(t, s, "update", "--now", "--follow")
		phase(t, s, journal.Probation)
		flow(t, l, 50)
		change(t, s, "yank", "1.1.0", "--reason", "leaks memory")
		operator(t, s, 10, "check") // or the next poll
		says(t, update.ends(t, 20), "leaks memory")
	})
	nothingLost(t, r)
	takenBack(t, s, updater.RolledBack, journal.Probation)
	if now := pids(t, s)["1.0.0"]; now != before {
		t.Errorf("pid %d serves, before it was %d", now, before)
	}
}

// A newer release takes the place of one that is still on its way, which is not blamed and never serves.
func TestSuperseded(t *testing.T) {
	s, d := warmsLong(t)
	r := underLoad(t, s, some, func(*load.Load) {
		update := background(t, s, "update", "--now", "--follow")
		phase(t, s, journal.Warming)
		publish(t, s, "1.2.0", example(t, "1.2.0", ""))
		d.down.Store("")
		update.ends(t, 0)
	})
	nothingLost(t, r)
	serving(t, s, "1.2.0")
	if n := r.Versions["1.1.0"]; n > 0 {
		t.Errorf("%d requests were answered by 1.1.0", n)
	}
	if st := status(t, s); st.Previous.Number != "1.0.0" || len(st.Quarantine)+len(st.Held) != 0 {
		t.Errorf("previous %v, quarantine %v, held %v; want 1.0.0 and no mark", st.Previous, st.Quarantine, st.Held)
	}
}

// A release on another channel is not for this host until it is promoted, which signs no program again.
func TestPromote(t *testing.T) {
	o := quick(nil)
	o.Channels = []string{"beta"}
	s := launched(t, o)
	platform := runtime.GOOS + "/" + runtime.GOARCH
	change(t, s, "add", "1.1.0", "--platform", platform+"="+example(t, "1.1.0", ""), "--channel", "beta")
	checked(t, s, 3)
	if err := os.RemoveAll(filepath.Join(s.Home, "product", "keys", "artifact.key")); err != nil {
		t.Fatal(err)
	}
	change(t, s, "promote", "1.1.0", "--from", "beta", "--to", "stable")
	operator(t, s, 0, "update", "--now", "--follow")
	serving(t, s, "1.1.0")
}

// A release for no share of the hosts waits, says so, and comes at once when an operator wants it.
func TestShareOfHosts(t *testing.T) {
	s := launched(t, quick(nil))
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	change(t, s, "rollout", "1.1.0", "--share", "0%")
	if v := heldBack(t, s, "1.1.0", "share"); !strings.Contains(v.Text, "0 %") {
		t.Errorf("the share is told as %+v", v)
	}
	says(t, operator(t, s, 10, "check"), "update 1.1.0 --now")
	change(t, s, "rollout", "1.1.0", "--share", "100%")
	operator(t, s, 0, "update", "--follow")
	serving(t, s, "1.1.0")
}

func TestShareIsSkippedByNow(t *testing.T) {
	s := launched(t, quick(nil))
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	change(t, s, "rollout", "1.1.0", "--share", "0%")
	operator(t, s, 0, "update", "--now", "--follow")
	serving(t, s, "1.1.0")
}

// The vendor has raised the floor above a version that is still on offer: nobody updates to it, not even by order.
func TestFloor(t *testing.T) {
	s := launched(t, quick(nil))
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	publish(t, s, "1.2.0", example(t, "1.2.0", ""))
	change(t, s, "rollout", "1.2.0", "--share", "0%")
	change(t, s, "floor", "1.2.0")
	if v := heldBack(t, s, "1.1.0", "epoch"); !strings.Contains(v.Text, "least that the vendor still allows") {
		t.Errorf("the floor is told as %+v", v)
	}
	operator(t, s, 10, "update", "1.1.0", "--now", "--follow")
	serving(t, s, "1.0.0")
	operator(t, s, 0, "update", "1.2.0", "--now", "--follow")
	serving(t, s, "1.2.0")
}

// signAndKeepAt does what the pipeline does after every change, as it would have been at another time.
func signAndKeepAt(ctx context.Context, set *manifest.Set, product string, store repo.Store, at time.Time, lifetime time.Duration) error {
	for _, role := range []string{"stable", "snapshot", "timestamp"} {
		if err := set.Bump(role, at, lifetime); err != nil {
			return err
		}
	}
	for _, role := range []string{"stable", "snapshot", "timestamp"} {
		data, err := os.ReadFile(filepath.Join(product, "keys", role+".key"))
		if err != nil {
			return err
		}
		key, err := manifest.ParseKey(data)
		if err != nil {
			return err
		}
		if err := set.Sign(role, key); err != nil {
			return err
		}
	}
	for _, f := range set.Files() {
		if err := store.Put(ctx, repo.Bytes(f.Name, f.Data)); err != nil {
			return fmt.Errorf("put %s: %w", f.Name, err)
		}
	}
	return nil
}
