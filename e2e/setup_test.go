package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/launcher/control"
)

// running starts the launcher and demands that it ends by itself with that exit code; what it printed is
// returned.
func refusesToRun(t *testing.T, s *stage.Stage, code int) string {
	t.Helper()
	return operator(t, s, code, "run")
}

// A mistake in the configuration is shown with its line, stops a launcher before it touches anything, and
// takes nothing from the service: it was started with the last good one.
func TestUnknownConfigKey(t *testing.T) {
	s := launched(t, quick(nil))
	before := pids(t, s)
	unmoved(t, s, func() {
		edit(t, s, "ready_timeout", "raedy_timeout")
		says(t, operator(t, s, 2, "config", "check"), "raedy_timeout", "line ", "^^^^", "ready_timeout")
		operator(t, s, 0, "status") // the running launcher can be asked all the same
		kill(t, s)
		says(t, refusesToRun(t, s, 2), "raedy_timeout", "line ")
		edit(t, s, "raedy_timeout", "ready_timeout")
		launch(t, s)
	})
	if now := pids(t, s); now["1.0.0"] != before["1.0.0"] {
		t.Errorf("pid %d serves, before it was %d", now["1.0.0"], before["1.0.0"])
	}
}

// A key file that others may use, or that cannot be read, signs nothing, and the message says how to mend it.
func TestBadKeyFile(t *testing.T) {
	s := launched(t, quick(nil))
	file := example(t, "1.1.0", "")
	unmoved(t, s, func() {
		before := tree(t, s.Repo())
		for _, key := range []string{"stable.key", "artifact.key", "timestamp.key"} {
			path := filepath.Join(s.Home, "product", "keys", key)
			for _, mode := range []fs.FileMode{0o666, 0o602, 0o000} {
				chmod(t, path, mode)
				err := s.Publish(t.Context(), "1.1.0", file)
				if err == nil || !strings.Contains(err.Error(), "exit status 13") || !strings.Contains(err.Error(), "chmod 600 "+path) {
					t.Errorf("%s with mode %04o: %v", key, mode, err)
				}
			}
			chmod(t, path, 0o600)
		}
		if after := tree(t, s.Repo()); after != before {
			t.Error("the published folder has changed")
		}
		operator(t, s, 3, "check")
	})
	publish(t, s, "1.1.0", file) // none of the failures is in the way now
	operator(t, s, 0, "update", "--now", "--follow")
}

func chmod(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// tree is a digest of every name and byte below a folder.
func tree(t *testing.T, dir string) string {
	t.Helper()
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		sum.Write([]byte(path + "\x00"))
		sum.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// A version never changes: other bytes under its number are refused, and nobody sees anything of them.
func TestVersionWithOtherBytes(t *testing.T) {
	s := launched(t, quick(nil))
	unmoved(t, s, func() {
		before := tree(t, s.Repo())
		err := s.Publish(t.Context(), "1.0.0", example(t, "1.1.0", ""))
		if err == nil || !strings.Contains(err.Error(), "exit status 13") {
			t.Fatalf("1.0.0 with other bytes: %v", err)
		}
		says(t, err.Error(), "1.0.0", "new number")
		if after := tree(t, s.Repo()); after != before {
			t.Error("the published folder has changed")
		}
		operator(t, s, 3, "check")
	})
}

// A repository of another product, with keys of its own or with the same, installs nothing here.
func TestWrongProduct(t *testing.T) {
	s := launched(t, quick(nil))
	unmoved(t, s, func() {
		kill(t, s)
		edit(t, s, "product = \""+stage.Product+"\"", "product = \"other-agent\"")
		launch(t, s)
		r := asked(t, s, 11, "check")
		says(t, r.Error, stage.Product, "other-agent", "serving goes on")
		operator(t, s, 11, "update", "--now", "--follow")
	})
	kill(t, s)
	edit(t, s, "product = \"other-agent\"", "product = \""+stage.Product+"\"")
	foreign := launched(t, quick(nil))
	edit(t, s, s.URL, foreign.URL)
	launch(t, s)
	unmoved(t, s, func() {
		says(t, asked(t, s, 11, "check").Error, "serving goes on")
	})
}

// A release without a program for this platform is not installed, whatever else it holds.
func TestWrongPlatform(t *testing.T) {
	s := launched(t, quick(nil))
	change(t, s, "add", "1.1.0", "--platform", "plan9/mips="+example(t, "1.1.0", ""), "--channel", "stable")
	unmoved(t, s, func() {
		says(t, operator(t, s, 11, "update", "--now", "--follow"), "1.1.0", "platform")
		says(t, asked(t, s, 11, "check").Error, "1.1.0", "platform")
	})
	publish(t, s, "1.2.0", example(t, "1.2.0", "")) // the next one is none the worse for it
	operator(t, s, 0, "update", "--now", "--follow")
	serving(t, s, "1.2.0")
}

// A launcher whose port, or whose state folder, another program has takes neither, and says what to do.
func TestTaken(t *testing.T) {
	s := launched(t, quick(nil))
	unmoved(t, s, func() {
		says(t, refusesToRun(t, s, 2), s.State(), "another launcher", "[state] dir")
		other := staged(t, stage.Options{Listen: s.Listen})
		says(t, refusesToRun(t, other, 13), s.Listen, "[[listen]]", "another address")
	})
	strangers, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer strangers.Close()
	other := staged(t, stage.Options{Listen: strangers.Addr().String()})
	says(t, refusesToRun(t, other, 13), strangers.Addr().String(), "[[listen]]")
}

// A program that cannot be started is no reason to touch the one that serves.
func TestProgramCannotStart(t *testing.T) {
	t.Parallel()
	s := launched(t, quick(nil))
	text := filepath.Join(t.TempDir(), "notes")
	if err := os.WriteFile(text, []byte("this is no program\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	publish(t, s, "1.1.0", text)
	unmoved(t, s, func() {
		says(t, operator(t, s, 14, "update", "--now", "--follow"), "1.1.0", "exec format error", "launcher quarantine clear 1.1.0")
		heldBack(t, s, "1.1.0", "quarantine", "--now") // no other try will make it a program
		q := into[control.Quarantine](t, asked(t, s, 0, "quarantine"))
		if len(q.Quarantine) != 1 || q.Quarantine[0].Number != "1.1.0" || q.Quarantine[0].Reason == "" {
			t.Errorf("quarantine: %+v, want 1.1.0 and why", q.Quarantine)
		}
	})
	kill(t, s)
	edit(t, s, `command = ["{{.Exe}}"]`, `command = ["/no/such/program"]`)
	publish(t, s, "1.2.0", example(t, "1.2.0", ""))
	unmoved(t, s, func() {
		launch(t, s)
		says(t, operator(t, s, 14, "update", "--now", "--follow"), "1.2.0", "/no/such/program", "payload.command")
	})
	if st := status(t, s); st.Active.Number != "1.0.0" {
		t.Errorf("active %v, want 1.0.0", st.Active)
	}
}
