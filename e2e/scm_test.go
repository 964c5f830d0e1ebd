package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
)

// The launcher as a service of Wine's own service control manager: nothing here is faked but what
// docs/WINDOWS.md names. The repository and the clients are on Linux.

// States of a service, winsvc.h.
const (
	scmStopped = 1
	scmRunning = 4
	scmPaused  = 7
)

// What the service control manager and Windows say, in numbers.
const (
	errorNoService       = 1060 & 0xff // as Linux sees an exit code
	errorProcessAborted  = 1067
	errorServiceSpecific = 1066
)

// scmState is what scmctl prints.
type scmState struct {
	State, Checkpoint, HintMS, PID, Win32, Specific, Accepts uint32
}

// service is one installation in a machine.
type service struct {
	*stage.Stage
	machine *stage.Machine
	mode    string
	scmctl  string
}

func TestServiceOfWindows(t *testing.T) {
	programs, m := windows(t)
	programs.Launcher = copied(t, programs.Launcher)
	scmctl := windowsTool(t, "./scmctl")
	for mode, user := range map[string]string{"proxy": "same", "handoff": "restricted"} {
		t.Run(mode, func(t *testing.T) {
			s, err := stage.New(t.Context(), programs, stage.Options{Machine: m, Config: map[string]string{
				"traffic": fmt.Sprintf("mode = %q\n", mode),
				"payload": fmt.Sprintf("kind = \"sdk\"\ncommand = [\"{{.Exe}}\"]\nuser = %q\n", user),
			}})
			if err != nil {
				t.Fatal(err)
			}
			sv := &service{s, m, mode, scmctl}
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the service's log:\n%s", sv.log(t))
				}
				_, _ = sv.Operator(context.Background(), "uninstall") // for the next one, if this failed in the middle
				_ = s.Close()                                         // only a repository is left
			})
			sv.life(t)
		})
	}
}

// What Wine cannot do is tried each time: a line of docs/WINDOWS.md that is not true any more, in either
// direction, fails here. On a real Windows the same program must pass every line.
func TestWhatWineCannot(t *testing.T) {
	_, m := windows(t)
	wincheck := windowsTool(t, "../scripts/wincheck")
	doc, err := os.ReadFile("../docs/WINDOWS.md")
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Run(t.Context(), wincheck)
	if err == nil || strings.Count(out, "\n") < 20 {
		t.Fatalf("wincheck: %v\n%s", err, out)
	}
	t.Logf("%s", out)
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "pass" && f[0] != "FAIL" {
			continue
		}
		if listed := strings.Contains(string(doc), "| `"+f[1]+"` |"); listed != (f[0] == "FAIL") {
			t.Errorf("docs/WINDOWS.md lists %s among what Wine cannot: %v; Wine says: %s", f[1], listed, line)
		}
	}
}

// copied puts a launcher where Windows programs live: a path with a space in it. Other tests run the original.
func copied(t *testing.T, launcher string) string {
	t.Helper()
	dir := filepath.Join(filepath.Dir(launcher), "Program Files")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, filepath.Base(launcher))
	data, err := os.ReadFile(launcher)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}

// life is everything that happens to a service, from its installation to its end.
func (s *service) life(t *testing.T) {
	s.release(t, "1.0.0", "")
	s.install(t)
	s.wrongConfiguration(t)

	s.windows(t, 0, "net", "start", stage.Product)
	s.is(t, scmRunning)
	told(t, s.Stage, s.mode)
	s.update(t)
	s.pause(t)
	s.reload(t)
	s.crash(t)
	s.stop(t)
	s.uninstall(t)
}

func (s *service) release(t *testing.T, version, fault string) {
	t.Helper()
	file, err := s.Example(t.Context(), version, fault)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, s.Stage, version, file)
}

// install is refused where others can change the program, says each step, mends nothing the second time, and
// registers a quoted path. It ends with 13 each time, for the settings that Wine does not have.
func (s *service) install(t *testing.T) {
	refused := operator(t, s.Stage, 13, "install")
	if !strings.Contains(refused, `Z:\`) || !strings.Contains(refused, "Program Files") {
		t.Errorf("an unsafe place is refused without saying which:\n%s", refused)
	}
	first := operator(t, s.Stage, 13, "install", "--unprotected", "--description", "Serves acme.", "--preshutdown", "2m")
	for _, line := range []string{"service acme-agent: created", "preshutdown: changed", "event source acme-agent: created", "! service SID: failed", "? program: warning", "the service is registered; not done: service SID, recovery after an exit code, privileges;", `Program Files\launcher.exe" "run-service"`} {
		if !strings.Contains(first, line) {
			t.Errorf("install does not say %q:\n%s", line, first)
		}
	}
	again := operator(t, s.Stage, 13, "install", "--unprotected", "--description", "Serves acme.", "--preshutdown", "2m")
	for _, line := range []string{"service acme-agent: right", "description: right", "preshutdown: right", "event source acme-agent: right"} {
		if !strings.Contains(again, line) {
			t.Errorf("a second install does not say %q:\n%s", line, again)
		}
	}
	mended := operator(t, s.Stage, 13, "install", "--unprotected", "--description", "Serves Acme.", "--preshutdown", "2m")
	if !strings.Contains(mended, `description: changed from "Serves acme." to "Serves Acme."`) {
		t.Errorf("drift is not said:\n%s", mended)
	}
	s.registry(t, 0)
	t.Logf("%s: install of one service:\n%s", s.mode, first)
}

// registry looks for what install registered: 0 is there, 1 is not.
func (s *service) registry(t *testing.T, code int) {
	t.Helper()
	const services = `HKLM\SYSTEM\CurrentControlSet\Services\`
	s.windows(t, code, "reg", "query", services+`EventLog\Application\`+stage.Product, "/v", "EventMessageFile")
	s.windows(t, code, "reg", "query", services+stage.Product, "/v", "ImagePath")
}

// wrongConfiguration is an exit code of the service's own with a sentence, and no timeout.
func (s *service) wrongConfiguration(t *testing.T) {
	good, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	s.configure(t, string(good)+"\n[unknown]\nkey = 1\n")
	if out := operator(t, s.Stage, 2, "start"); !strings.Contains(out, "launcher config check") {
		t.Errorf("a start with a wrong configuration does not say what to do:\n%s", out)
	}
	if st := s.query(t); st.State != scmStopped || st.Win32 != errorServiceSpecific || st.Specific != 2 {
		t.Errorf("with a wrong configuration the service is %+v", st)
	}
	s.configure(t, string(good))
}

func (s *service) configure(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(s.Config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// update switches to 1.1.0 and back from a 1.2.0 that dies, under load.
func (s *service) update(t *testing.T) {
	serving(t, s.Stage, "1.0.0")
	l := load.Start(load.Options{Address: s.Listen, Workers: map[load.Class]int{load.KeepAlive: 8, load.Fresh: 8}})
	defer l.Stop()
	flow(t, l, 200)
	s.release(t, "1.1.0", "")
	operator(t, s.Stage, 0, "update", "--now", "--follow")
	serving(t, s.Stage, "1.1.0")
	told(t, s.Stage, s.mode)
	flow(t, l, 200)
	s.release(t, "1.2.0", "health-fail:300ms")
	operator(t, s.Stage, 20, "update", "--now", "--follow")
	serving(t, s.Stage, "1.1.0")
	told(t, s.Stage, s.mode)
	flow(t, l, 200)
	r := l.Stop()
	nothingLost(t, r)
	t.Logf("%s: as a service: %d requests over a switch and a rollback: %d refused, %d failed, %d retryable, by version %v",
		s.mode, r.Requests, r.Refused, r.Failed, r.Retryable, r.Versions)
	s.logged(t, "switch", "commit", "rollback", "quarantine")
}

// pause stops updates, not the service.
func (s *service) pause(t *testing.T) {
	s.control(t, "pause")
	s.is(t, scmPaused)
	if out := operator(t, s.Stage, 0, "status"); !strings.Contains(out, "paused through the service manager") {
		t.Errorf("status does not tell the pause:\n%s", out)
	}
	if got := s.get(t, "/"); !strings.Contains(got, "1.1.0") {
		t.Errorf("while paused the service says %q", got)
	}
	s.control(t, "interrogate")
	s.control(t, "continue")
	s.is(t, scmRunning)
	if out := operator(t, s.Stage, 0, "status"); strings.Contains(out, "paused") {
		t.Errorf("status still tells a pause:\n%s", out)
	}
}

// reload takes over what can be, by ParamChange, and names what cannot.
func (s *service) reload(t *testing.T) {
	text, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), `kill = "2s"`, `kill = "3s"`, 1)
	changed = strings.Replace(changed, `kind = "sdk"`, `kind = "sdk"`+"\nenv = { COLOUR = \"red\" }", 1)
	s.configure(t, changed)
	s.control(t, "paramchange")
	s.until(t, "the reload is not in the log", func() bool {
		log := s.log(t)
		return strings.Contains(log, `"changed":"drain.kill"`) && strings.Contains(log, `"restart_needed_for":"payload.env`)
	})
	s.configure(t, string(text))
	s.logged(t, "reloaded")
}

// crash ends the service's process. The manager notices, the payload lives, and the next start adopts it. In
// handoff mode clients notice nothing at all.
func (s *service) crash(t *testing.T) {
	before := s.payload(t)
	launcher := s.query(t).PID
	l := load.Start(load.Options{Address: s.Listen, Workers: map[load.Class]int{load.KeepAlive: 8, load.Fresh: 8}})
	defer l.Stop()
	flow(t, l, 100)
	s.windows(t, 0, "taskkill", "/f", "/pid", fmt.Sprint(launcher))
	s.until(t, "the crash is not noticed", func() bool { return s.query(t).State == scmStopped })
	if st := s.query(t); st.Win32 != errorProcessAborted {
		t.Errorf("after a crash the manager says %+v", st)
	}
	if s.mode == "handoff" {
		flow(t, l, 100)
	}
	s.windows(t, 0, "net", "start", stage.Product)
	serving(t, s.Stage, "1.1.0")
	if after := s.payload(t); after != before {
		t.Errorf("payload %d was not adopted: now %d serves", before, after)
	}
	told(t, s.Stage, s.mode)
	flow(t, l, 100)
	r := l.Stop()
	if s.mode == "handoff" {
		nothingLost(t, r)
	}
	t.Logf("%s: the launcher's process %d was ended, its payload %d went on and was adopted by process %d; %d requests meanwhile, %d refused, %d failed, %d retryable",
		s.mode, launcher, before, s.query(t).PID, r.Requests, r.Refused, r.Failed, r.Retryable)
}

// stop drains: a request under way gets its answer while the checkpoints count.
func (s *service) stop(t *testing.T) {
	answer := make(chan string, 1)
	go func() { answer <- s.get(t, "/slow?ms=8000") }()
	inside(t, s.Stage)
	out, err := s.machine.Run(t.Context(), s.scmctl, stage.Product, "stop", "-watch")
	if err != nil {
		t.Fatal(err)
	}
	if got := <-answer; !strings.Contains(got, "1.1.0") {
		t.Errorf("a request that was inside when the service stopped was answered with %q", got)
	}
	var states []scmState
	for line := range strings.Lines(out) {
		var st scmState
		if json.Unmarshal([]byte(line), &st) == nil {
			states = append(states, st)
		}
	}
	if len(states) < 3 {
		t.Fatalf("the states of the stop: %s", out)
	}
	last, pending := states[len(states)-1], states[len(states)-2]
	if last.State != scmStopped || last.Win32 != 0 || pending.Checkpoint < 2 || pending.HintMS == 0 {
		t.Errorf("the states of the stop: %+v", states)
	}
	s.logged(t, "running", "stopping", "stopped", "paused", "resumed")
	t.Logf("%s: stop with a request of 8 s inside: %d checkpoints, hint %d ms, answered", s.mode, pending.Checkpoint, pending.HintMS)
}

// uninstall leaves nothing: no service, no registry key, no file, no process.
func (s *service) uninstall(t *testing.T) {
	operator(t, s.Stage, 0, "start")
	serving(t, s.Stage, "1.1.0")
	out := operator(t, s.Stage, 0, "uninstall", "--purge")
	for _, line := range []string{"service acme-agent: removed", "event source acme-agent: removed", "state folder: removed"} {
		if !strings.Contains(out, line) {
			t.Errorf("uninstall does not say %q:\n%s", line, out)
		}
	}
	s.windows(t, errorNoService, "sc", "query", stage.Product)
	s.registry(t, 1)
	if _, err := os.Stat(s.State()); !os.IsNotExist(err) {
		t.Errorf("the state folder is left: %v", err)
	}
	if tasks := s.windows(t, 0, "tasklist"); strings.Contains(tasks, "launcher") || strings.Contains(tasks, "example") {
		t.Errorf("processes are left:\n%s", tasks)
	}
	if out := operator(t, s.Stage, 0, "uninstall"); !strings.Contains(out, "absent") {
		t.Errorf("a second uninstall:\n%s", out)
	}
}
