package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
)

// windowsLauncher is a launcher of that version for Windows, with a fault inside or none.
func windowsLauncher(t *testing.T, version, fault string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "launcher.exe")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", "trialfault",
		"-ldflags", "-s -w -X main.version="+version+" -X main.trialFault="+fault, "-o", out, "../launcher")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=windows")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

// renewableOnWindows is a service whose launcher, of version 100.0.0, follows a channel of launchers and serves 1.0.0.
func renewableOnWindows(t *testing.T, trial string) *service {
	t.Helper()
	programs, m := windows(t)
	programs.Launcher = windowsLauncher(t, "100.0.0", "")
	s, err := stage.New(t.Context(), programs, stage.Options{Machine: m, Service: true, Channels: []string{"launcher"}, Config: map[string]string{
		"launcher": "channel = \"launcher\"\ntrial = \"" + trial + "\"\n",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the launcher's log:\n%s", s.Log())
		}
		_ = s.Close() // it was ended
	})
	sv := &service{Stage: s, machine: m, mode: "handoff", scmctl: windowsTool(t, "./scmctl")}
	publish(t, s, "1.0.0", windowsExample(t, programs, "1.0.0"))
	launch(t, s)
	serving(t, s, "1.0.0")
	told(t, s, "handoff")
	return sv
}

// The launcher replaces itself as a service of Windows: the manager is told another program, the payload goes on
// meanwhile, and a launcher that does not come up is taken back by the guard. Wine's manager starts no
// service again, so net start does what its recovery does on Windows.
func TestSelfUpdateOnWindows(t *testing.T) {
	sv := renewableOnWindows(t, "20s")
	s, m := sv.Stage, sv.machine
	payload, before := sv.payload(t), sv.image(t)
	l := load.Start(load.Options{Address: s.Listen, Workers: map[load.Class]int{load.KeepAlive: 8, load.Fresh: 4}})
	defer l.Stop()

	sv.offer(t, "100.1.0", "")
	operator(t, s, 0, "self-update")
	sv.until(t, "the launcher does not make room for the next one", func() bool { return sv.query(t).State == scmStopped })
	good := sv.image(t)
	if good == before || !strings.Contains(good, `\launcher\`) {
		t.Errorf("the manager starts %s, before it was %s", good, before)
	}
	flow(t, l, 50) // without a launcher
	sv.windows(t, 0, "net", "start", stage.Product)
	serving(t, s, "1.0.0")
	operator(t, s, 3, "self-update") // nothing newer

	sv.offer(t, "100.2.0", "hang")
	operator(t, s, 0, "self-update")
	sv.until(t, "the launcher does not make room for the next one", func() bool { return sv.query(t).State == scmStopped })
	_, _ = m.Run(t.Context(), "net", "start", stage.Product) // it hangs, and the manager gives it up
	sv.untilLong(t, "the guard does not take the launcher back", func() bool { return sv.image(t) == good })
	sv.untilLong(t, "the guard does not start the launcher before it", func() bool { return sv.query(t).State == scmRunning })
	serving(t, s, "1.0.0")
	told(t, s, "handoff")
	if now := sv.payload(t); now != payload {
		t.Errorf("process %d serves, before it was %d", now, payload)
	}
	r := l.Stop()
	nothingLost(t, r)
	t.Logf("handoff: two launchers took over, one of them was taken back; payload %d served all the time: %d requests, %d refused, %d failed, %d retryable",
		payload, r.Requests, r.Refused, r.Failed, r.Retryable)
}

// Power fails in the trial of a launcher that hangs before it has done anything, with every process and the guard. The
// guard comes with the machine, gives the service its launcher back, starts it, and takes out its own service.
func TestPowerCutInATrialOnWindows(t *testing.T) {
	sv := renewableOnWindows(t, "5s")
	before := sv.image(t)
	sv.offer(t, "100.1.0", "hang")
	operator(t, sv.Stage, 0, "self-update")
	sv.until(t, "the launcher does not make room for the next one", func() bool { return sv.query(t).State == scmStopped })
	if sv.image(t) == before {
		t.Fatal("no trial began")
	}
	if err := sv.machine.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	sv.untilLong(t, "the launcher before it does not run", func() bool { return sv.query(t).State == scmRunning })
	sv.until(t, "nobody serves", func() bool { return strings.Contains(sv.get(t, "/"), "1.0.0") })
	says(t, operator(t, sv.Stage, 10, "self-update"), "did not report in here before")
	sv.until(t, "the guard's service stays", func() bool {
		_, err := sv.machine.Run(t.Context(), "sc", "query", stage.Product+".guard")
		return err != nil
	})
}

func (s *service) offer(t *testing.T, version, fault string) {
	t.Helper()
	s.offerFile(t, version, windowsLauncher(t, version, fault))
}

func (s *service) offerFile(t *testing.T, version, file string) {
	t.Helper()
	if err := s.Change(t.Context(), "add", version, "--platform", "windows/amd64="+file, "--channel", "launcher", "--patches", "0"); err != nil {
		t.Fatal(err)
	}
}

// image is the command that the manager starts.
func (s *service) image(t *testing.T) string {
	t.Helper()
	out := s.windows(t, 0, "reg", "query", `HKLM\SYSTEM\CurrentControlSet\Services\`+stage.Product, "/v", "ImagePath")
	_, command, ok := strings.Cut(out, "_SZ")
	if !ok {
		t.Fatalf("no ImagePath: %s", out)
	}
	return strings.TrimSpace(command)
}

func (s *service) untilLong(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 3 {
		for range 100 {
			if cond() {
				return
			}
			stage.Wait(t.Context(), 200*time.Millisecond)
		}
	}
	t.Fatalf("%s\n%s", what, s.log(t))
}
