package e2e

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// counting is a stage whose payloads count in a file without a lock while they hold the lease.
func counting(t *testing.T, more map[string]string, first string) *stage.Stage {
	t.Helper()
	tables := map[string]string{
		"payload": "kind = \"sdk\"\nuser = \"same\"\ncommand = [\"{{.Exe}}\"]\nenv = { EXAMPLE_LEASE_FILE = \"{{.Data}}/count\" }\n",
	}
	for k, v := range more {
		tables[k] = v
	}
	s := staged(t, quick(tables))
	publish(t, s, "1.0.0", example(t, "1.0.0", first))
	launch(t, s)
	serving(t, s, "1.0.0")
	return s
}

// counted is what the file says now; a writer may be in the middle of it, and then it is asked again.
func counted(t *testing.T, s *stage.Stage) (n, fence uint64) {
	t.Helper()
	eventually(t, "somebody counts", func() bool {
		b, err := os.ReadFile(filepath.Join(s.State(), "data", "count"))
		_, err2 := fmt.Sscan(string(b), &n, &fence)
		return err == nil && err2 == nil
	})
	return n, fence
}

// goesOn waits until the count has grown under a larger fence than before.
func goesOn(t *testing.T, s *stage.Stage, after uint64) (fence uint64) {
	t.Helper()
	eventually(t, "the next owner counts", func() bool {
		_, fence = counted(t, s)
		return fence > after
	})
	return fence
}

// tenure is the time of one owner, as it printed it.
type tenure struct{ fence, added, first, last uint64 }

// tenures reads the output of every payload of the stage, in the order of the fences.
func tenures(t *testing.T, s *stage.Stage) (all []tenure) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(s.State(), "log", "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range logs {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			var n tenure
			if _, err := fmt.Sscanf(line, "example: lease %d counted %d, from %d to %d", &n.fence, &n.added, &n.first, &n.last); err == nil {
				all = append(all, n)
			} else if strings.Contains(line, "count:") {
				t.Errorf("an owner met another one: %s", line)
			}
		}
	}
	slices.SortFunc(all, func(a, b tenure) int { return cmp.Compare(a.fence, b.fence) })
	return all
}

// oneOwner stops the launcher and demands that the owners' counts fit together without a gap or an overlap:
// two owners at once would each have added what the file shows only once.
func oneOwner(t *testing.T, s *stage.Stage, least int) {
	t.Helper()
	if err := s.Quit(); err != nil {
		t.Fatal(err)
	}
	all := tenures(t, s)
	if len(all) < least {
		t.Errorf("%d owners, want at least %d", len(all), least)
	}
	end := uint64(0)
	for i, n := range all {
		if n.first != end+1 || n.added != n.last-n.first+1 || i > 0 && n.fence <= all[i-1].fence {
			t.Errorf("owner %d does not follow from the one before, which ended at %d: %+v", i, end, n)
		}
		end = n.last
	}
	if n, _ := counted(t, s); n != end {
		t.Errorf("the file says %d, the owners %d", n, end)
	}
}

// backAndForth moves the traffic, and the lease with it, ten times.
func backAndForth(t *testing.T, s *stage.Stage) {
	t.Helper()
	_, fence := counted(t, s)
	fence = goesOn(t, s, fence-1)
	for range 5 {
		operator(t, s, 0, "update", "--now", "--follow")
		fence = goesOn(t, s, fence)
		operator(t, s, 0, "rollback", "--follow")
		fence = goesOn(t, s, fence)
		operator(t, s, 0, "pause") // or it would come back by itself, before the order
		operator(t, s, 0, "quarantine", "clear", "1.1.0")
	}
}

// The work that has one owner has one at every moment, however often the versions change.
func TestLeaseHasOneOwner(t *testing.T) {
	s := counting(t, nil, "")
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	nothingLost(t, underLoad(t, s, some, func(*load.Load) { backAndForth(t, s) }))
	oneOwner(t, s, 11)
}

// So it is when a candidate dies with the lease in its hand, and when one is sent back in probation.
func TestLeaseComesBack(t *testing.T) {
	s := counting(t, nil, "")
	fence := goesOn(t, s, 0)
	byOrder(t, s)
	publish(t, s, "1.1.0", example(t, "1.1.0", "health-fail:100ms"))
	edit(t, s, `time = "300ms"`, `time = "20s"`)
	kill(t, s)
	launch(t, s)
	operator(t, s, 20, "update", "--now", "--follow")
	fence = goesOn(t, s, fence+1)
	publish(t, s, "1.2.0", example(t, "1.2.0", ""))
	update := background(t, s, "update", "--now", "--follow")
	phase(t, s, journal.Probation)
	fence = goesOn(t, s, fence)
	kill(t, s) // the owner goes on while nobody is there, and keeps its fence
	n, _ := counted(t, s)
	eventually(t, "the owner counts without a launcher", func() bool {
		now, same := counted(t, s)
		return now > n+20 && same == fence
	})
	update.ends(t, 5)
	launch(t, s)
	operator(t, s, 0, "rollback", "--follow")
	goesOn(t, s, fence)
	oneOwner(t, s, 4)
}

// An owner that does not give the lease back is ended, and the next one gets it.
func TestStuckOwnerIsEnded(t *testing.T) {
	s := counting(t, nil, "keep-lease")
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	before := pids(t, s)["1.0.0"]
	d := follow(t, s)
	light := load.Options{NoSlow: true, Workers: map[load.Class]int{load.KeepAlive: 8, load.Fresh: 4}}
	r := underLoad(t, s, light, func(*load.Load) {
		fence := goesOn(t, s, 0)
		operator(t, s, 0, "update", "--now", "--follow")
		goesOn(t, s, fence)
	})
	nothingLost(t, r)
	d.await(t, "alarm", "1.0.0")
	for _, p := range status(t, s).Processes {
		if p.PID == before {
			t.Errorf("the stuck owner lives: %+v", p)
		}
	}
	oneOwner(t, s, 2)
}
