package e2e

import (
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// A release whose memory grows without end is turned away at the limit, and costs clients nothing. The same release
// passes where no limit is set.
func TestMemoryGrowth(t *testing.T) {
	for limit, code := range map[int]int{100: 20, 0: 0} {
		t.Run(fmt.Sprintf("limit %d", limit), func(t *testing.T) {
			probation := map[int]string{20: "10m", 0: "3s"}[code]
			s := launched(t, quick(map[string]string{"probation": fmt.Sprintf("time = %q\nmin_requests = 0\nmemory_mb = %d\n", probation, limit)}))
			publish(t, s, "1.1.0", example(t, "1.1.0", "grow"))
			r := underLoad(t, s, some, func(*load.Load) {
				out := operator(t, s, code, "update", "--now", "--follow")
				if code != 0 {
					says(t, out, "takes too much memory", "memory_mb is 100")
				}
			})
			nothingLost(t, r)
			if q := status(t, s).Quarantine; len(q) > 0 != (code != 0) {
				t.Errorf("quarantine %v", q)
			}
			if code == 20 {
				const grows, looks = time.Second, 4 * 2 * time.Second // fall + 1 of health.timeout by default
				judged(t, s, journal.Probation, grows+looks)
			}
		})
	}
}

// How long a release takes to start is no part of its probation.
func TestStartLongerThanProbation(t *testing.T) {
	s := launched(t, quick(nil)) // a probation of 300 ms
	publish(t, s, "1.1.0", example(t, "1.1.0", "slow-start:1500ms"))
	r := underLoad(t, s, some, func(*load.Load) { operator(t, s, 0, "update", "--now", "--follow") })
	nothingLost(t, r)
	serving(t, s, "1.1.0")
	if e := last(t, s, "1.1.0"); e.Outcome != updater.Committed || e.Millis[journal.Warming] < 1500 || e.Millis[journal.Probation] < 300 {
		t.Errorf("history says %+v, want 1.5 s to start and then 300 ms of probation", e)
	}
}

// A health check that is answered by a process that is not the release's own counts for nothing: a release that only
// writes down its port, where somebody else then answers, is never ready.
func TestReadyFromTheWrongProcess(t *testing.T) {
	s := staged(t, quick(map[string]string{
		"payload": "kind = \"plain\"\ncommand = [\"/bin/sh\", \"{{.File}}\", \"127.0.0.1:{{.Port}}\"]\nuser = \"same\"\n",
		"health":  "interval = \"100ms\"\ngood = 2\nready_timeout = \"8s\"\n",
	}))
	dir := t.TempDir()
	told := filepath.Join(dir, "told")
	for version, text := range map[string]string{
		"1.0.0": "exec " + example(t, "1.0.0", "") + " -addr $1\n",
		"1.1.0": "echo $1 >" + told + ".new && mv " + told + ".new " + told + "\nexec sleep 1000\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, version), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, s, "1.0.0", filepath.Join(dir, "1.0.0"))
	launch(t, s)
	serving(t, s, "1.0.0")
	publish(t, s, "1.1.0", filepath.Join(dir, "1.1.0"))
	unmoved(t, s, func() {
		update := background(t, s, "update", "--now", "--follow")
		eventually(t, "the release has told its port", func() bool { return contents(t, told) != "" })
		ln, err := net.Listen("tcp", strings.TrimSpace(contents(t, told)))
		if err != nil {
			t.Fatal(err)
		}
		var asked atomic.Int64
		other := &httptest.Server{Listener: ln, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) })}}
		other.Start()
		defer other.Close()
		says(t, update.ends(t, 14), "does not belong to the process")
		if asked.Load() < 2 {
			t.Errorf("the other process was asked %d times", asked.Load())
		}
	})
	const ready, timeout = 8 * time.Second, 2 * time.Second
	if took := judged(t, s, journal.Warming, ready+timeout); took < ready {
		t.Errorf("turned away after %s, it had %s to become ready", took, ready)
	}
	if st := status(t, s); len(st.Quarantine) != 1 {
		t.Errorf("quarantine %v", st.Quarantine)
	}
}

// A dependency that is down for the candidate and for the version that waits condemns neither, for as long as it is
// down; the candidate is committed when it is well again and not before. When it is down for the candidate alone,
// that is the candidate's fault.
func TestDependencyDown(t *testing.T) {
	for down, code := range map[string]int{"all": 0, "1.1.0": 20} {
		t.Run(down, func(t *testing.T) {
			d := depend(t)
			s := launched(t, quick(map[string]string{
				"payload":   fmt.Sprintf("kind = \"sdk\"\ncommand = [\"{{.Exe}}\"]\nuser = \"same\"\nenv = { EXAMPLE_DEPENDS = %q }\n", d.URL),
				"probation": "time = \"6s\"\nmin_requests = 0\n",
			}))
			publish(t, s, "1.1.0", example(t, "1.1.0", ""))
			r := underLoad(t, s, some, func(l *load.Load) {
				update := background(t, s, "update", "--now", "--follow")
				phase(t, s, journal.Probation)
				d.down.Store(down)
				if down == "all" {
					eventually(t, "both were asked many times", func() bool { return d.asked.Load() > 60 })
					eventually(t, "the time of the probation is over", func() bool { return status(t, s).ProbationLeftMS == 0 })
					st := status(t, s)
					if st.Phase != journal.Probation || st.Candidate == nil || st.Candidate.Number != "1.1.0" || len(st.Quarantine) > 0 {
						t.Errorf("%s of %v, quarantine %v; want the probation of 1.1.0 to go on", st.Phase, st.Candidate, st.Quarantine)
					}
					d.down.Store("")
				}
				update.ends(t, code)
			})
			nothingLost(t, r)
		})
	}
}

// slay kills the process of a version.
func slay(t *testing.T, s *stage.Stage, version string) {
	t.Helper()
	pid := pids(t, s)[version]
	if pid == 0 {
		t.Fatalf("%s does not run", version)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, version+" is dead", func() bool { return ended(pid) })
}

// A committed version that does not stay up is started again, and after five short lives left for the version before
// it, or kept with an alarm, as the configuration says.
func TestCrashLoop(t *testing.T) {
	for policy, want := range map[string]string{"rollback": "1.0.0", "stay": "1.1.0"} {
		t.Run(policy, func(t *testing.T) {
			s := launched(t, quick(map[string]string{
				"payload": "kind = \"sdk\"\ncommand = [\"{{.Exe}}\"]\nuser = \"same\"\nrestart_pause = \"50ms\"\ncrash_loop = \"" + policy + "\"\n",
			}))
			publish(t, s, "1.1.0", example(t, "1.1.0", ""))
			operator(t, s, 0, "update", "--now", "--follow")
			serving(t, s, "1.1.0")
			d := follow(t, s)
			for n := range 5 {
				eventually(t, fmt.Sprintf("it serves in its life %d", n+1), func() bool {
					p := status(t, s).Processes
					return len(p) == 1 && p[0].Number == "1.1.0" && p[0].State == "accepting" && p[0].Restarts == n
				})
				slay(t, s, "1.1.0")
			}
			says(t, d.await(t, "alarm", "1.1.0").Text, "5 processes in a row ended within 1m")
			eventually(t, want+" serves", func() bool {
				st := status(t, s)
				return st.Active.Number == want && st.Phase == journal.Idle && st.Health == control.Healthy
			})
			if st := status(t, s); len(st.Held) > 0 != (policy == "rollback") {
				t.Errorf("held %v", st.Held)
			}
			if _, err := answer(t.Context(), s); err != nil {
				t.Error(err)
			}
		})
	}
}

// chained serves 1.2.0 before 1.1.0 and 1.0.0, and has 1.3.0 in a long probation.
func chained(t *testing.T) *stage.Stage {
	t.Helper()
	s := launched(t, quick(map[string]string{"payload": "kind = \"sdk\"\ncommand = [\"{{.Exe}}\"]\nuser = \"same\"\nrestart_pause = \"50ms\"\n"}))
	for _, v := range []string{"1.1.0", "1.2.0"} {
		publish(t, s, v, example(t, v, ""))
		operator(t, s, 0, "update", "--now", "--follow")
	}
	if err := s.Quit(); err != nil {
		t.Fatal(err)
	}
	edit(t, s, `time = "300ms"`, `time = "10m"`)
	launch(t, s)
	serving(t, s, "1.2.0")
	publish(t, s, "1.3.0", example(t, "1.3.0", ""))
	operator(t, s, 0, "update", "--now")
	phase(t, s, journal.Probation)
	return s
}

// damage changes one byte of a version on disk.
func damage(t *testing.T, s *stage.Stage, version string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s.State(), "store", version+"-*", "tree", "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	replace(t, found[0], b)
	chmod(t, found[0], 0o755)
}

// When the version to go back to is broken on disk, the next good one serves, however far down; when all are, what
// runs keeps running and an alarm says so.
func TestBrokenWayBack(t *testing.T) {
	for name, tc := range map[string]struct {
		broken []string
		serves string
	}{
		"one":  {[]string{"1.2.0"}, "1.1.0"},
		"two":  {[]string{"1.2.0", "1.1.0"}, "1.0.0"},
		"each": {[]string{"1.2.0", "1.1.0", "1.0.0"}, "1.3.0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := chained(t)
			d := follow(t, s)
			for _, v := range tc.broken {
				damage(t, s, v)
			}
			slay(t, s, "1.2.0") // it waited, and is not started again from what is broken
			d.await(t, "alarm", "1.2.0")
			slay(t, s, "1.3.0")
			eventually(t, tc.serves+" answers", func() bool {
				text, err := answer(t.Context(), s)
				return err == nil && strings.Contains(text, `"version":"`+tc.serves+`"`)
			})
			if tc.serves == "1.3.0" {
				says(t, d.await(t, "alarm", "1.3.0").Text, "cannot go back", "keeps running")
				return
			}
			serving(t, s, tc.serves)
			if st := status(t, s); len(st.Quarantine) != 1 || st.Quarantine[0].Number != "1.3.0" {
				t.Errorf("quarantine %v", st.Quarantine)
			}
			for _, v := range tc.broken { // is never started
				if ev, found := d.find("start", v); found {
					t.Errorf("%s was started at %s", v, ev.At.Format(time.StampMilli))
				}
			}
		})
	}
}

func chmod(t testing.TB, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
