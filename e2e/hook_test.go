package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// hooked serves 1.0.0 and has a program for update.before_switch, which is text; more are other keys of the table.
func hooked(t *testing.T, text, more string) (s *stage.Stage, told string) {
	t.Helper()
	dir := t.TempDir()
	file, told := filepath.Join(dir, "hook"), filepath.Join(dir, "told")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n"+strings.ReplaceAll(text, "TOLD", told)), 0o755); err != nil {
		t.Fatal(err)
	}
	return launched(t, quick(map[string]string{
		"update": fmt.Sprintf("before_switch = [%q, \"{{.Data}}\"]\n%s\n", file, more),
	})), told
}

func contents(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return string(b)
}

// The program is told both versions and has its turn before the new one serves, on the way back too, and not when
// there is nothing to switch from.
func TestHookBeforeSwitch(t *testing.T) {
	s, told := hooked(t, `echo "$TURNSTONE_FROM to $TURNSTONE_TO in $1, $PWD" >>TOLD`, "")
	if got := contents(t, told); got != "" {
		t.Errorf("it was run for the first version of all: %s", got)
	}
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	d := follow(t, s)
	operator(t, s, 0, "update", "--now", "--follow")
	hook, moved := d.await(t, "hook", "1.1.0"), d.await(t, "switch", "1.1.0")
	if !hook.At.Before(moved.At) {
		t.Errorf("the hook ended at %s, the switch was at %s", hook.At, moved.At)
	}
	operator(t, s, 0, "rollback", "--follow")
	data := filepath.Join(s.State(), "data")
	want := fmt.Sprintf("1.0.0 to 1.1.0 in %[1]s, %[1]s\n1.1.0 to 1.0.0 in %[1]s, %[1]s\n", data)
	if got := contents(t, told); got != want {
		t.Errorf("it was told\n%s, want\n%s", got, want)
	}
	eventually(t, "one program runs", func() bool { return len(running(t, s)) == 1 })
}

// A program that fails, or hangs, or has no room, keeps the new version from serving, which is not its fault: it is
// tried again, and is not in quarantine when that does not help. What serves goes on.
func TestHookThatFails(t *testing.T) {
	for name, tc := range map[string]struct{ text, more, says string }{
		"code":  {"test -e TOLD && exit 0; echo no snapshot today; exit 7", "", "exit code 7"},
		"hangs": {"sleep 1000 & sleep 1000", `before_switch_timeout = "300ms"`, "before_switch_timeout"},
		"space": {"echo >>TOLD", "before_switch_space_mb = 1073741824", "not enough space"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, told := hooked(t, tc.text, tc.more)
			publish(t, s, "1.1.0", example(t, "1.1.0", ""))
			d := follow(t, s)
			update := background(t, s, "update", "--now", "--follow")
			says(t, d.await(t, "hook", "1.1.0").Err, tc.says)
			if st := status(t, s); st.Active.Number != "1.0.0" || st.Phase != journal.Warming || len(st.Quarantine) > 0 {
				t.Errorf("active %v in %s, quarantine %v", st.Active, st.Phase, st.Quarantine)
			}
			switch name {
			case "code": // it is well at the next try
				if err := os.WriteFile(told, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				update.ends(t, 0)
				return
			case "space":
				if got := contents(t, told); got != "" {
					t.Errorf("without room it was run: %q", got)
				}
				return
			}
			eventually(t, "nothing of the hook is left", func() bool { return len(running(t, s)) == 2 })
			says(t, update.ends(t, 13), tc.says)
			if st := status(t, s); st.Active.Number != "1.0.0" || len(st.Quarantine) > 0 {
				t.Errorf("active %v, quarantine %v", st.Active, st.Quarantine)
			}
			if e := last(t, s, "1.1.0"); e.Verdict != journal.World || e.Failed != journal.Warming {
				t.Errorf("history says %s in %s", e.Verdict, e.Failed)
			}
		})
	}
}

// A version that says of itself that it cannot work here never has traffic: quarantined, exit code 14.
func TestUnfitVersion(t *testing.T) {
	file := filepath.Join(t.TempDir(), "fit")
	if err := os.WriteFile(file, []byte("#!/bin/sh\n[ \"$TURNSTONE_VERSION\" = 1.0.0 ] || { echo no licence; exit 3; }\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := launched(t, quick(map[string]string{
		"health": fmt.Sprintf("interval = \"100ms\"\ngood = 2\nready_timeout = \"10s\"\nself_check = [%q]\n", file),
	}))
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	unmoved(t, s, func() { says(t, operator(t, s, 14, "update", "--now", "--follow"), "unfit", "exit status 3") })
	if st := status(t, s); len(st.Quarantine) != 1 {
		t.Errorf("quarantine %v", st.Quarantine)
	}
}
