package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

// throughMiddle serves the example 1.0.0 and has 1.1.0 published, behind a server that is to misbehave.
func throughMiddle(t *testing.T) (*stage.Stage, *middle) {
	t.Helper()
	s := staged(t, quick(nil))
	m := behind(t, s)
	publish(t, s, "1.0.0", example(t, "1.0.0", ""))
	launch(t, s)
	serving(t, s, "1.0.0")
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	return s, m
}

// parts are the files of unfinished downloads and their bytes.
func parts(t *testing.T, s *stage.Stage) (bytes int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.State(), "store", "staging", "*.part"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if st, err := os.Stat(f); err == nil {
			bytes += st.Size()
		}
	}
	return bytes
}

// A server that has more, or less, than was signed gets nothing onto the disk beyond the signed length, and
// nothing run; when it is right again the update goes on by itself.
func TestWrongLength(t *testing.T) {
	t.Parallel()
	s, m := throughMiddle(t)
	size := fileSize(t, example(t, "1.1.0", ""))
	m.is(endless)
	unmoved(t, s, func() {
		out := operator(t, s, 11, "update", "--now", "--follow")
		says(t, out, "longer than it may be", "launcher history show")
		if n := parts(t, s); n > size {
			t.Errorf("%d bytes are on the disk, %d are signed", n, size)
		}
	})
	if st := status(t, s); len(st.Quarantine) != 0 {
		t.Errorf("the release is blamed for its server: %v", st.Quarantine)
	}
	m.is(truncated)
	d := follow(t, s)
	var update *ordered
	unmoved(t, s, func() {
		update = background(t, s, "update", "--now", "--follow")
		says(t, d.await(t, "retry", "1.1.0").Err, "shorter than it must be")
	})
	m.is(nil)
	update.ends(t, 0)
}

func fileSize(t *testing.T, name string) int64 {
	t.Helper()
	st, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// A server that goes away in the middle of a download costs time and nothing else: what had come is not
// fetched again, even when the launcher died in between.
func TestServerGoneMidway(t *testing.T) {
	s, m := throughMiddle(t)
	const half = 3 << 20
	m.is(cutAfter(half))
	update := background(t, s, "update", "--now", "--follow")
	eventually(t, "half of the file is on the disk", func() bool { return parts(t, s) == half })
	m.is(gone)
	eventually(t, "the server is asked again", func() bool { ranges, _ := m.seen(); return len(ranges) > 0 })
	m.is(nil)
	update.ends(t, 0)
	ranges, sent := m.seen()
	if len(ranges) != 1 || !strings.HasPrefix(ranges[0], "bytes=3145728-") {
		t.Errorf("asked for %q, want one request from byte %d on", ranges, half)
	}
	if want := fileSize(t, example(t, "1.1.0", "")) - half; sent != want {
		t.Errorf("%d bytes were sent for the rest, want %d", sent, want)
	}
	serving(t, s, "1.1.0")
}

// The same when the launcher itself dies in the middle of the download.
func TestLauncherGoneMidway(t *testing.T) {
	s, m := throughMiddle(t)
	const half = 3 << 20
	m.is(cutAfter(half))
	before := pids(t, s)
	operator(t, s, 0, "update", "--now")
	eventually(t, "half of the file is on the disk", func() bool { return parts(t, s) == half })
	unmoved(t, s, func() {
		kill(t, s)
		m.is(gone)
		launch(t, s)
		if now := pids(t, s); now["1.0.0"] != before["1.0.0"] {
			t.Errorf("pid %d serves, before it was %d", now["1.0.0"], before["1.0.0"])
		}
		eventually(t, "the rest is asked for", func() bool { ranges, _ := m.seen(); return len(ranges) > 0 })
	})
	m.is(nil)
	serving(t, s, "1.1.0")
	if ranges, _ := m.seen(); ranges[0] != "bytes=3145728-" {
		t.Errorf("asked for %q, want what was missing", ranges)
	}
}

// A repository that is gone is told as such; serving goes on.
func TestRepositoryGone(t *testing.T) {
	s, m := throughMiddle(t)
	unmoved(t, s, func() {
		m.dies()
		r := asked(t, s, 12, "check")
		says(t, r.Error, "the channel cannot be used now; serving goes on")
		operator(t, s, 12, "update", "--now", "--follow")
		operator(t, s, 0, "status")
	})
}

// Killed while bytes flow, with no word to anybody: the next launcher asks for what the part lacks, to the byte,
// and the server sends that once.
func TestLauncherKilledWhileBytesFlow(t *testing.T) {
	s, m := throughMiddle(t)
	whole := fileSize(t, example(t, "1.1.0", ""))
	m.is(slowed(time.Minute))
	operator(t, s, 0, "update", "--now")
	eventually(t, "a good part has come", func() bool { return parts(t, s) > 1<<20 })
	kill(t, s)
	have := parts(t, s)
	m.is(nil)
	launch(t, s)
	serving(t, s, "1.1.0")
	ranges, sent := m.seen()
	if len(ranges) != 1 || ranges[0] != fmt.Sprintf("bytes=%d-", have) || sent != whole-have {
		t.Errorf("asked for %q and was sent %d bytes; had %d of %d", ranges, sent, have, whole)
	}
}

// A download is told as it goes, in bytes, to who watches and to who follows.
func TestDownloadIsShown(t *testing.T) {
	t.Parallel()
	s, m := throughMiddle(t)
	m.is(slowed(8 * time.Second))
	d := follow(t, s)
	out := operator(t, s, 0, "update", "--now", "--follow")
	says(t, out, "download", " % ", " MiB of ")
	if n := strings.Count(out, " MiB of "); n < 5 {
		t.Errorf("%d lines on the way:\n%s", n, out)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	whole, last := fileSize(t, example(t, "1.1.0", "")), int64(0)
	for _, ev := range d.events {
		if ev.Kind == "download" && ev.Total != 0 {
			if ev.Total != whole || ev.Done < last {
				t.Errorf("%d of %d after %d of %d", ev.Done, ev.Total, last, whole)
			}
			last = ev.Done
		}
	}
}
