package host

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeSCM is a service control manager in memory. It does what Wine's does not: it keeps every setting,
// and a deleted service lives on for as long as somebody has it open.
type fakeSCM struct {
	mu       sync.Mutex // somebody else may have a service open
	services map[string]*fakeService
	denied   bool
	refuse   map[setting]error // what a set answers
	forget   map[setting]bool  // accepted and not kept, like Wine's recovery actions
	unread   map[setting]bool  // cannot be read, like Wine's service SID
}

type fakeService struct {
	basics   basics
	settings map[setting]string
	open     int
	marked   bool
	status   serviceStatus
	script   []serviceStatus // what the next questions for its state answer
	asked    bool            // to stop
	starts   int
}

func newFakeSCM() *fakeSCM { return &fakeSCM{services: map[string]*fakeService{}} }

func (f *fakeSCM) scm() scm {
	return scm{
		open: func(name string) (*entry, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			s := f.services[name]
			if s == nil {
				return nil, ErrNoService
			}
			return f.entry(name, s), nil
		},
		create: func(name string, b basics) (*entry, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			switch {
			case f.denied:
				return nil, ErrPrivilege
			case f.services[name] != nil:
				return nil, errMarked
			}
			f.services[name] = &fakeService{basics: b, settings: map[setting]string{}, status: serviceStatus{State: stateStopped}}
			return f.entry(name, f.services[name]), nil
		},
	}
}

func (f *fakeSCM) entry(name string, s *fakeService) *entry {
	s.open++
	return &entry{
		basics: func() (basics, error) { return s.basics, nil },
		change: func(b basics) error {
			if s.marked {
				return errMarked
			}
			s.basics = b
			return nil
		},
		get: func(k setting) (string, error) {
			if f.unread[k] {
				return "", errors.New("invalid level")
			}
			return s.settings[k], nil
		},
		set: func(k setting, v string) error {
			if f.refuse[k] == nil && !f.forget[k] {
				s.settings[k] = v
			}
			return f.refuse[k]
		},
		status: func() (serviceStatus, error) {
			if len(s.script) > 0 {
				s.status, s.script = s.script[0], s.script[1:]
			}
			return s.status, nil
		},
		start: func() error { s.starts++; return nil },
		stop: func() error {
			if s.status.State == stateStopped {
				return errNotActive
			}
			s.asked = true
			return nil
		},
		remove: func() error { s.marked = true; return nil },
		close: func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			if s.open--; s.open == 0 && s.marked {
				delete(f.services, name)
			}
		},
	}
}

// top is the root folder of this machine.
var top = filepath.VolumeName(os.TempDir()) + string(filepath.Separator)

func spec() Spec {
	s, err := Spec{
		Name: "acme-agent", Display: "Acme Agent", Description: "Serves.", Exe: top + "Acme Inc" + top[len(top)-1:] + "launcher.exe",
		Args: []string{Verb, "--config", "launcher.toml"}, Start: Delayed, Needs: []string{"Tcpip"}, State: top + "state",
	}.check()
	if err != nil {
		panic(err)
	}
	return s
}

func results(steps []Step) map[string]Result {
	all := map[string]Result{}
	for _, s := range steps {
		all[s.Name] = s.Result
	}
	return all
}

// The first install creates everything, the second changes nothing, and the third mends what was changed
// by hand and says so.
func TestInstallRepairsDrift(t *testing.T) {
	f := newFakeSCM()
	steps, err := f.scm().register(t.Context(), spec(), false)
	if err != nil || results(steps)["service acme-agent"] != Created || len(steps) != 8 {
		t.Fatalf("%v: %v", err, steps)
	}
	if s := f.services["acme-agent"]; s.settings[settingDelay] != "yes" || s.basics.Start != Automatic ||
		s.basics.Command != `"`+spec().Exe+`" "run-service" "--config" "launcher.toml"` {
		t.Errorf("registered %+v %v", s.basics, s.settings)
	}
	again, err := f.scm().register(t.Context(), spec(), false)
	if err != nil || slices.ContainsFunc(again, func(s Step) bool { return s.Result != Right }) {
		t.Errorf("a second install: %v: %v", err, again)
	}
	f.services["acme-agent"].settings[settingRecovery] = "none"
	f.services["acme-agent"].basics.Command = `C:\Program Files\evil.exe`
	look, err := f.scm().register(t.Context(), spec(), true)
	if r := results(look); err != nil || r["recovery"] != Differs || r["service acme-agent"] != Differs {
		t.Errorf("a look at what drifted: %v: %v", err, look)
	}
	mended, err := f.scm().register(t.Context(), spec(), false)
	if r := results(mended); err != nil || r["recovery"] != Changed || r["service acme-agent"] != Changed {
		t.Errorf("a repair: %v: %v", err, mended)
	}
	if text := mended[0].String(); !strings.Contains(text, "evil.exe") || !strings.Contains(text, "launcher.exe") {
		t.Errorf("the repair does not say what it changed: %s", text)
	}
}

// A step that the manager refuses, forgets or cannot tell is said to be so, and the others are done.
func TestInstallReportsEachStep(t *testing.T) {
	f := newFakeSCM()
	f.refuse = map[setting]error{settingSID: errors.New("invalid level")}
	f.forget = map[setting]bool{settingRecovery: true}
	f.unread = map[setting]bool{settingFailures: true}
	steps, err := f.scm().register(t.Context(), spec(), false)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Result{
		"service acme-agent": Created, "description": Changed, "service SID": Failed, "delayed start": Changed,
		"recovery": NotKept, "recovery after an exit code": Accepted, "privileges": Changed, "preshutdown": Changed,
	}
	if got := results(steps); !maps.Equal(got, want) {
		t.Errorf("steps %v, want %v", got, want)
	}
	f.denied = true
	delete(f.services, "acme-agent")
	if _, err := f.scm().register(t.Context(), spec(), false); !errors.Is(err, ErrPrivilege) {
		t.Errorf("without the right: %v", err)
	}
}

func TestUninstallWaitsForTheStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSCM()
		if _, err := f.scm().register(t.Context(), spec(), false); err != nil {
			t.Fatal(err)
		}
		s := f.services["acme-agent"]
		s.status.State = "running"
		for i := range 300 { // half a minute of drain
			s.script = append(s.script, serviceStatus{State: "stopping", Check: uint32(i / 10), Hint: 2 * time.Second})
		}
		s.script = append(s.script, serviceStatus{State: stateStopped})
		begun := time.Now()
		step, err := f.scm().unregister(t.Context(), "acme-agent")
		if err != nil || step.Result != Removed || !s.asked || f.services["acme-agent"] != nil {
			t.Errorf("%v: %v", err, step)
		}
		if took := time.Since(begun); took < 29*time.Second {
			t.Errorf("did not wait for the drain: %s", took)
		}
		if step, err := f.scm().unregister(t.Context(), "acme-agent"); err != nil || step.Result != Absent {
			t.Errorf("again: %v: %v", err, step)
		}
	})
}

// A service whose checkpoint stands still is given up in time, and said to be so.
func TestStopOfAHungServiceIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSCM()
		if _, err := f.scm().register(t.Context(), spec(), false); err != nil {
			t.Fatal(err)
		}
		f.services["acme-agent"].status = serviceStatus{State: "stopping", Check: 7, PID: 42}
		begun := time.Now()
		step, err := f.scm().unregister(t.Context(), "acme-agent")
		if err != nil || step.Result != Failed || !strings.Contains(step.Err, "42") {
			t.Errorf("no word of the process that hangs: %v: %v", err, step)
		}
		if took := time.Since(begun); took > 2*patience {
			t.Errorf("waited %s", took)
		}
	})
}

// What fails is said in the step, so that the rest can be done; only without the right nothing is.
func TestUnregisterSaysWhatFailed(t *testing.T) {
	m := newFakeSCM().scm()
	for _, opens := range []error{errors.New("no answer"), ErrPrivilege} {
		m.open = func(string) (*entry, error) { return nil, opens }
		step, err := m.unregister(t.Context(), "acme-agent")
		if denied := errors.Is(opens, ErrPrivilege); errors.Is(err, ErrPrivilege) != denied || !denied && (err != nil || step.Result != Failed) {
			t.Errorf("%v: %v: %s", opens, err, step)
		}
	}
	f := newFakeSCM()
	if _, err := f.scm().register(t.Context(), spec(), false); err != nil {
		t.Fatal(err)
	}
	m.open = func(name string) (*entry, error) {
		e, err := f.scm().open(name)
		e.remove = func() error { return errors.New("boom") }
		return e, err
	}
	if step, err := m.unregister(t.Context(), "acme-agent"); err != nil || step.Result != Failed || !strings.Contains(step.Err, "boom") {
		t.Errorf("%v: %s", err, step)
	}
}

// Somebody has the service open while it is deleted: uninstall says so, and an install afterwards waits
// until it is gone, or says what to do.
func TestMarkedForDeletion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSCM()
		if _, err := f.scm().register(t.Context(), spec(), false); err != nil {
			t.Fatal(err)
		}
		window, err := f.scm().open("acme-agent")
		if err != nil {
			t.Fatal(err)
		}
		step, err := f.scm().unregister(t.Context(), "acme-agent")
		if err != nil || step.Result != Accepted || !strings.Contains(step.Err, "marked for deletion") {
			t.Errorf("%v: %v", err, step)
		}
		if _, err := f.scm().register(t.Context(), spec(), false); !errors.Is(err, errMarked) || !strings.Contains(err.Error(), "close") {
			t.Errorf("install while it is marked: %v", err)
		}
		time.AfterFunc(5*time.Second, window.close)
		steps, err := f.scm().register(t.Context(), spec(), false)
		if err != nil || steps[0].Result != Created {
			t.Errorf("install after it is gone: %v: %v", err, steps)
		}
	})
}

// A service that somebody has disabled, is stopping, or has deleted meanwhile would not be started again.
func TestRestarts(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*fakeService)
		word   string // of the refusal, "" for none
	}{
		"as installed": {func(*fakeService) {}, ""},
		"manual":       {func(s *fakeService) { s.basics.Start = Manual }, ""},
		"disabled":     {func(s *fakeService) { s.basics.Start = Disabled }, "disabled"},
		"stopping":     {func(s *fakeService) { s.status.State = "stopping" }, "stopping"},
		"deleted":      {func(s *fakeService) { s.marked = true }, "marked for deletion"},
	} {
		f := newFakeSCM()
		if _, err := f.scm().register(t.Context(), spec(), false); err != nil {
			t.Fatal(err)
		}
		s := f.services["acme-agent"]
		s.status.State = "running"
		tc.change(s)
		before := s.basics
		err := f.scm().restarts("acme-agent")
		if (err == nil) != (tc.word == "") || err != nil && !strings.Contains(err.Error(), tc.word) {
			t.Errorf("%s: %v", name, err)
		}
		if s.basics.Start != before.Start || s.basics.Command != before.Command {
			t.Errorf("%s: the service was changed", name)
		}
	}
	if err := newFakeSCM().scm().restarts("acme-agent"); !errors.Is(err, ErrNoService) {
		t.Errorf("without a service: %v", err)
	}
}

func TestStartSaysWhyItEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSCM()
		if _, err := f.scm().register(t.Context(), spec(), false); err != nil {
			t.Fatal(err)
		}
		e, _ := f.scm().open("acme-agent")
		f.services["acme-agent"].script = []serviceStatus{{State: "starting", Check: 1}, {State: stateStopped, Win32: errSpecificCode, Specific: 2}}
		if err := e.launch(t.Context()); err == nil || !strings.Contains(err.Error(), "config check") {
			t.Errorf("a wrong configuration is told as %v", err)
		}
		f.services["acme-agent"].script = []serviceStatus{{State: "starting", Check: 1}, {State: "running"}}
		if err := e.launch(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestSpecsThatCannotBe(t *testing.T) {
	good := spec()
	for name, change := range map[string]func(*Spec){
		"relative": func(s *Spec) { s.Exe = "launcher.exe" },
		"quote":    func(s *Spec) { s.Args = []string{`a"b`} },
		"variable": func(s *Spec) { s.Exe = top + "%TEMP%" },
		"name":     func(s *Spec) { s.Name = `a\b` },
		"start":    func(s *Spec) { s.Start = "sometimes" },
	} {
		s := good
		if change(&s); func() error { _, err := s.check(); return err }() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// The guard of a new launcher is a service that starts with the machine. One of an earlier trial ends first and is
// given its new work; after the trial nothing is left, and taking out what is not there is no mistake.
func TestGuardService(t *testing.T) {
	f := newFakeSCM()
	g := Spec{Name: GuardName("acme-agent"), Exe: top + "old.exe", Args: []string{"guard-service"}, Start: Automatic}
	start, err := f.scm().guard(t.Context(), g)
	s := f.services[g.Name]
	if err != nil || s == nil || s.starts != 0 || s.basics.Start != Automatic || s.basics.Command != g.command() {
		t.Fatalf("%v: %+v", err, s)
	}
	s.script = []serviceStatus{{State: "running"}}
	if err := start(); err != nil || s.starts != 1 {
		t.Errorf("%d starts, %v", s.starts, err)
	}
	g.Exe = top + "older.exe"
	s.script = []serviceStatus{{State: "stopping"}, {State: stateStopped}}
	if _, err := f.scm().guard(t.Context(), g); err != nil || !s.asked || s.basics.Command != g.command() {
		t.Errorf("%v, asked to stop: %v, %+v", err, s.asked, s.basics)
	}
	for range 2 {
		if err := f.scm().forget(g.Name); err != nil || f.services[g.Name] != nil {
			t.Errorf("%v, left %v", err, f.services)
		}
	}
}

// What ended is started, also after the manager has noticed its end late, and not what somebody stopped.
func TestRevive(t *testing.T) {
	for name, c := range map[string]struct {
		script []serviceStatus
		starts int
	}{
		"runs":              {[]serviceStatus{{State: "running"}}, 0},
		"stopped in order":  {[]serviceStatus{{State: stateStopped}}, 0},
		"ended":             {[]serviceStatus{{State: stateStopped, Win32: 1067}, {State: "running"}}, 1},
		"made room":         {[]serviceStatus{{State: stateStopped, Win32: errSpecificCode, Specific: 75}, {State: "running"}}, 1},
		"hung in its start": {[]serviceStatus{{State: "starting"}, {State: stateStopped, Win32: 1053}, {State: stateStopped, Win32: 1053}, {State: "running"}}, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeSCM()
			e := certainly(t, f)
			s := f.services["acme-agent"]
			s.script = c.script
			if err := e.revive(t.Context()); err != nil || s.starts != c.starts {
				t.Errorf("%s: %d starts, should be %d; %v", name, s.starts, c.starts, err)
			}
		})
	}
}

// A guard that comes with the machine does not count the time before the service is started: its start may be delayed.
func TestAwaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSCM()
		e := certainly(t, f)
		s := f.services["acme-agent"]
		never := serviceStatus{State: stateStopped, Win32: errNeverStarted}
		s.script = append(slices.Repeat([]serviceStatus{never}, int(2*time.Minute/lookEvery)), serviceStatus{State: "starting"})
		begun := time.Now()
		if err := e.awaken(t.Context()); err != nil || time.Since(begun) < 2*time.Minute {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
	})
}

// certainly is the service of the tests, which is there.
func certainly(t *testing.T, f *fakeSCM) *entry {
	t.Helper()
	e, err := f.scm().create("acme-agent", spec().basics())
	if err != nil {
		t.Fatal(err)
	}
	return e
}
