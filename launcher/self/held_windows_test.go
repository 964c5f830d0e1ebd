package self

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/internal/durable/durabletest"
)

// held demands the error of a file that somebody has open, which names it.
func held(t *testing.T, what string, err error, name string) {
	t.Helper()
	if !durable.Busy(err) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "holder unknown") && !strings.Contains(err.Error(), "held by") {
		t.Errorf("%s: %v", what, err)
	}
}

// A record that another program has open is not a missing or a damaged one: the trial goes on, nobody is condemned
// and nothing is removed. When it is free the launcher reports in.
func TestHeldRecords(t *testing.T) {
	target := digest(newBytes)
	for _, which := range []string{"trial", "current", "lock"} {
		f, exe := onTrial(t)
		if err := f.Raise(Launcher{Version: "1.0.0", Digest: digest(oldBytes), Epoch: 1}); err != nil {
			t.Fatal(err)
		}
		name := f.Dir() + `\` + which
		free := durabletest.KeepAway(t, name)
		if next, err := f.Try(target, 1); next != Stay {
			t.Errorf("%s: a start is answered %v, %v", which, next, err)
		} else {
			held(t, which+": a start", err, name)
		}
		held(t, which+": the report", f.Report(target), name)
		held(t, which+": the way back", f.Back(target, "did not report in"), name)
		held(t, which+": the end of it", f.Settle(digest(oldBytes)), name)
		free()
		leadsTo(t, f, exe, newBytes)
		if on, err := f.OnTrial(target); err != nil || !on {
			t.Errorf("%s: on trial: %v, %v", which, on, err)
		}
		if err := f.Report(target); err != nil {
			t.Errorf("%s: the report afterwards: %v", which, err)
		}
		if r, err := f.Record(); err != nil || r.Now.Digest != target || len(r.Refused) > 0 {
			t.Errorf("%s: %+v, %v", which, r, err)
		}
	}
}

// A launcher that another program has open is neither missing nor damaged: it is not written again.
func TestHeldLauncherStays(t *testing.T) {
	f, exe := onTrial(t)
	name := f.File(digest(newBytes))
	before, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	free := durabletest.KeepAway(t, name)
	held(t, "place", f.Place(artifact(), bytes.NewReader(newBytes)), name)
	held(t, "begin", f.Begin(Trial{Target: artifact().Launcher, Previous: Launcher{Digest: digest(oldBytes)}, Link: exe}), name)
	free()
	free = durabletest.KeepAway(t, f.File(digest(oldBytes)))
	_, err = f.Keep(exe, "1.0.0")
	held(t, "keep", err, f.File(digest(oldBytes)))
	free()
	if after, err := os.Stat(name); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("it was written again: %v", err)
	}
}
