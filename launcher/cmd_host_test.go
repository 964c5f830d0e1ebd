package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/launcher/host"
)

// What is wrong with a service has the exit code that scripts rely on, and says what to do.
func TestExitCodesOfServiceCommands(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code control.Code
		says string
	}{
		{privileged(fmt.Errorf("create it: %w", host.ErrPrivilege), "install"), control.NoPrivilege, "run it again"},
		{privileged(host.ErrNoService, "start"), control.Usage, "run install first"},
		{fmt.Errorf("start: %w", &host.Ended{Code: 2}), control.Usage, ""},
		{fmt.Errorf("state: %w", host.ErrUnsafe), control.NotPrepared, ""},
		{privileged(fmt.Errorf("%w: use run", host.ErrNoManager), "install"), control.NotPrepared, "use run"},
		{privileged(errors.New("boom"), "start"), control.Internal, "boom"},
	} {
		if got := codeOf(tc.err); got != tc.code || !strings.Contains(tc.err.Error(), tc.says) {
			t.Errorf("%v is exit code %d, want %d", tc.err, got, tc.code)
		}
	}
}

func TestStepsAreMarkedWhenTheyAreNotAsWanted(t *testing.T) {
	var b bytes.Buffer
	stepsAnswer{Steps: []host.Step{
		{Name: "service x", Result: host.Created}, {Name: "recovery", Result: host.NotKept, Was: "none", Now: "restart"},
	}, Text: "installed"}.text(&b, time.Time{})
	if got, want := b.String(), "  service x: created\n! recovery: not kept: is \"none\", should be \"restart\"\n1 step not as wanted, marked with !\ninstalled\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A step that fails is named, what can be done beside it is done, and a script is told.
func TestUninstallSaysWhatItCouldNotDo(t *testing.T) {
	if runtime.GOOS == "windows" && !host.Privileged() {
		t.Skip("only an administrator may ask the service control manager of Windows")
	}
	dir, config := install(t)
	ours, theirs := filepath.Join(dir, "state", "host-id"), filepath.Join(dir, "state", "somebody's")
	write(t, ours, "x")
	write(t, theirs, "x")
	code, out, errs := cli(t, config, "uninstall", "--purge")
	if code != control.NotPrepared || !strings.Contains(out, "! state folder: failed") || strings.Contains(out, "uninstalled") || !strings.Contains(errs, "not done: state folder;") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	if _, err := os.Stat(ours); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what could be removed is still there: %v", err)
	}
	if err := os.Remove(theirs); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := cli(t, config, "uninstall", "--purge"); code != control.OK || !strings.Contains(out, "uninstalled") {
		t.Errorf("again: exit code %d\n%s%s", code, out, errs)
	}
}

// So does install, which registers the service whatever becomes of the steps after it, and says with which file.
func TestInstallSaysWhatItCouldNotDo(t *testing.T) {
	a, cfg := &app{program: "acme"}, Config{File: "/etc/acme/launcher.toml"}
	made := host.Step{Name: "service acme", Result: host.Created}
	for _, tc := range []struct {
		step host.Step
		code control.Code
		says string
	}{
		{host.Step{Name: "state folder", Result: host.Created}, control.OK, "<nil>"},
		{host.Step{Name: "program", Result: host.Warned}, control.OK, "<nil>"},
		{host.Step{Name: "service SID", Result: host.Failed}, control.NotPrepared, "the service is registered; not done: service SID; mend"},
		{host.Step{Name: "recovery", Result: host.NotKept}, control.NotPrepared, "not done: recovery;"},
	} {
		said, err := a.installed(cfg, []host.Step{made, tc.step})
		if got := codeOf(err); got != tc.code || !strings.Contains(fmt.Sprint(err), tc.says) {
			t.Errorf("%s: exit code %d: %v", tc.step, got, err)
		}
		var b bytes.Buffer
		said.text(&b, time.Time{})
		if out := b.String(); !strings.HasPrefix(out, "  configuration: right (/etc/acme/launcher.toml)\n  service acme: created\n") || strings.Contains(out, "start it") != (tc.code == control.OK) {
			t.Errorf("%s: %s", tc.step, out)
		}
	}
}

// A payload with the launcher's rights is what the configuration says: doctor warns of it and does not fail.
func TestDoctorWarnsOfTheLaunchersAccount(t *testing.T) {
	for _, tc := range []struct {
		user       string
		privileged bool
		want       host.Result
	}{{child.Same, true, host.Warned}, {child.Same, false, host.Right}, {"acme", true, host.Right}} {
		s := accountStep(tc.user, tc.privileged)
		if s.Result != tc.want || s.Bad() {
			t.Errorf("%+v: %s", tc, s)
		}
	}
	var b bytes.Buffer
	stepsAnswer{Steps: []host.Step{accountStep(child.Same, true)}}.text(&b, time.Time{})
	if got := b.String(); !strings.HasPrefix(got, `? account of the payload: warning (same): a broken payload`) || !strings.HasSuffix(got, "\n1 warning, marked with ?\n") {
		t.Errorf("%q", got)
	}
}

// An account that is not there is wrong in the line about it too, and mistakes in the file stay one line.
func TestDoctorOfAnAccountThatIsNotThere(t *testing.T) {
	_, config := install(t)
	write(t, config, smallest+"[payload]\nuser = \"turnstone-nobody\"\n")
	code, out, _ := cli(t, config, "doctor")
	if code != control.NotPrepared || !strings.Contains(out, "has mistakes: acme config check shows them\n") || !strings.Contains(out, "! account of the payload: failed") {
		t.Errorf("%d\n%s", code, out)
	}
}

// Only the words of the registered command make a service of a process, and they come first.
func TestRegisteredCommandIsAService(t *testing.T) {
	var r registration
	s, err := r.spec(Config{Product: "acme", File: "/etc/acme/launcher.toml"})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Args) == 0 || s.Args[0] != host.Verb || strings.Join(s.Args[1:3], " ") != "--config /etc/acme/launcher.toml" {
		t.Errorf("the registered arguments are %v", s.Args)
	}
}

// A file that is not there is a person's mistake; under a manager its disk may only be late, and the launcher is
// started again until it is there.
func TestFileThatIsNotThere(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "launcher.toml")
	for verb, want := range map[string]control.Code{"status": control.Usage, "run": control.Usage, host.Verb: control.Internal} {
		if code, _, errs := cli(t, missing, verb); code != want || !strings.Contains(errs, "use --config FILE") {
			t.Errorf("%s: exit code %d, want %d: %s", verb, code, want, errs)
		}
	}
}
