package e2e

import (
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// onTrial is a stage that serves the example 1.0.0 and whose next probation lasts long enough to be disturbed.
func onTrial(t *testing.T, probation string) *stage.Stage {
	t.Helper()
	s := launched(t, quick(nil))
	if err := s.Quit(); err != nil {
		t.Fatal(err)
	}
	edit(t, s, `time = "300ms"`, `time = "`+probation+`"`)
	launch(t, s)
	eventually(t, "1.0.0 takes connections", func() bool { return pids(t, s)["1.0.0"] != 0 && status(t, s).Processes[0].State == "accepting" })
	return s
}

// some is light load of every class but the slow ones.
var some = load.Options{NoSlow: true, Workers: map[load.Class]int{load.KeepAlive: 8, load.Fresh: 4, load.H2: 2, load.Stream: 2}}

// A probation is counted and not dated: what was left when the launcher stopped is what is left when it
// comes back, however long that took, and then the candidate is committed.
func TestProbationSurvivesStop(t *testing.T) {
	s := onTrial(t, "10s")
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	operator(t, s, 0, "update", "--now")
	phase(t, s, journal.Probation)
	eventually(t, "a second of the probation has passed", func() bool { return status(t, s).ProbationLeftMS < 9000 })
	if err := s.Quit(); err != nil {
		t.Fatal(err)
	}
	down := into[control.Status](t, asked(t, s, 5, "status"))
	if down.Phase != journal.Probation || down.Candidate == nil || down.Candidate.Number != "1.1.0" || down.ProbationLeftMS <= 0 || down.ProbationLeftMS >= 9000 {
		t.Errorf("the journal says %s of %v with %d ms left, want probation of 1.1.0 with less than 9000", down.Phase, down.Candidate, down.ProbationLeftMS)
	}
	stage.Wait(t.Context(), time.Second) // does not count
	begun := time.Now()
	launch(t, s)
	phase(t, s, journal.Probation) // the first answers may come before the journal was read
	if st := status(t, s); st.Phase != journal.Probation || st.ProbationLeftMS > down.ProbationLeftMS {
		t.Errorf("resumed in %s with %d ms left, want probation and at most %d", st.Phase, st.ProbationLeftMS, down.ProbationLeftMS)
	}
	if got, err := answer(t.Context(), s); err != nil {
		t.Errorf("nobody answers in the resumed probation: %v", err)
	} else {
		says(t, got, `"version":"1.1.0"`)
	}
	serving(t, s, "1.1.0")
	left := time.Duration(down.ProbationLeftMS) * time.Millisecond
	if took := time.Since(begun); took < left-500*time.Millisecond {
		t.Errorf("committed after %s, %s were left", took, left)
	}
	if e := last(t, s, "1.1.0"); e.To != "1.1.0" || e.Outcome != "committed" {
		t.Errorf("history says %s %s", e.To, e.Outcome)
	}
}

// A launcher that is killed is no outage: the payload goes on, the next launcher adopts it with its port,
// and can update it.
func TestKillInIdle(t *testing.T) {
	s := launched(t, quick(nil))
	before := pids(t, s)["1.0.0"]
	r := underLoad(t, s, some, func(l *load.Load) {
		for range 2 { // the second launcher has adopted, and is no worse off than the first
			kill(t, s)
			flow(t, l, 100) // nobody is there, and it goes on
			launch(t, s)
			serving(t, s, "1.0.0")
			if now := pids(t, s)["1.0.0"]; now != before {
				t.Errorf("pid %d serves, before it was %d", now, before)
			}
		}
		publish(t, s, "1.1.0", example(t, "1.1.0", ""))
		operator(t, s, 0, "update", "--now", "--follow")
	})
	nothingLost(t, r)
	if r.Versions["1.1.0"] == 0 {
		t.Errorf("no client ever met 1.1.0: %v", r.Versions)
	}
}

// The same in probation: candidate and parked version are adopted both, and the candidate is committed.
func TestKillInProbation(t *testing.T) {
	s := onTrial(t, "8s")
	r := underLoad(t, s, some, func(l *load.Load) {
		publish(t, s, "1.1.0", example(t, "1.1.0", ""))
		operator(t, s, 0, "update", "--now")
		phase(t, s, journal.Probation)
		before := pids(t, s)
		kill(t, s)
		flow(t, l, 100)
		launch(t, s)
		if now := pids(t, s); now["1.1.0"] != before["1.1.0"] || now["1.0.0"] != before["1.0.0"] {
			t.Errorf("processes %v, before %v", now, before)
		}
		phase(t, s, journal.Probation)
		serving(t, s, "1.1.0")
		publish(t, s, "1.2.0", example(t, "1.2.0", ""))
		operator(t, s, 0, "update", "--now", "--follow")
	})
	nothingLost(t, r)
	if r.Versions["1.2.0"] == 0 {
		t.Errorf("no client ever met 1.2.0: %v", r.Versions)
	}
}

// A candidate that fails after its launcher was killed goes back all the same, by its health or by its death,
// to the parked process that waited.
func TestKillInProbationOfBadRelease(t *testing.T) {
	for _, fault := range []string{"health-fail:8s", "exit:8s"} {
		t.Run(fault[:4], func(t *testing.T) {
			s := onTrial(t, "30s")
			before := pids(t, s)["1.0.0"]
			r := underLoad(t, s, some, func(l *load.Load) {
				publish(t, s, "1.1.0", example(t, "1.1.0", fault))
				operator(t, s, 0, "update", "--now")
				phase(t, s, journal.Probation)
				kill(t, s)
				launch(t, s)
				follower, err := s.Watch(t.Context(), l)
				if err != nil {
					t.Fatal(err)
				}
				defer follower.Close()
				serving(t, s, "1.0.0")
			})
			if r.Lost() || fault[:4] != "exit" && r.CutByCrash > 0 {
				t.Errorf("lost requests: %+v", r)
			}
			if now := pids(t, s)["1.0.0"]; now != before {
				t.Errorf("pid %d serves, before it was %d", now, before)
			}
			if st := status(t, s); len(st.Quarantine) != 1 || st.Quarantine[0].Number != "1.1.0" {
				t.Errorf("quarantine %v, want 1.1.0", st.Quarantine)
			}
		})
	}
}

// A version that was adopted and then dies is started again: the next launcher knows all that it needs.
func TestAdoptedVersionDies(t *testing.T) {
	s := staged(t, quick(nil))
	publish(t, s, "1.0.0", example(t, "1.0.0", "exit:4s"))
	launch(t, s)
	serving(t, s, "1.0.0")
	before := pids(t, s)["1.0.0"]
	kill(t, s)
	launch(t, s)
	d := follow(t, s)
	d.await(t, "exit", "1.0.0")
	eventually(t, "another process serves", func() bool {
		pid := pids(t, s)["1.0.0"]
		_, err := answer(t.Context(), s)
		return pid != 0 && pid != before && err == nil
	})
}
