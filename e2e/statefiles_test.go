package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

// stateFiles are all kinds of files that a launcher keeps, by a pattern below its state folder. Where there is
// none at the moment, one is made with the text, in the place of the star the digest of nothing.
var stateFiles = []struct{ name, pattern, made string }{
	{"the older slot of the journal", "journal/slot-older", ""},
	{"the newer slot of the journal", "journal/slot-newer", ""},
	{"the seal of the active version", "store/1.1.0-*/seal.json", ""},
	{"a proof", "store/1.1.0-*/proven.json", ""},
	{"the record of a process", "run/*", ""},
	{"the timestamp", "trust/metadata/timestamp.json", ""},
	{"the snapshot", "trust/metadata/*snapshot.json", ""},
	{"the channel", "trust/targets/stable/*", ""},
	{"the clock", "trust/clock", ""},
	{"the host's name", "host-id", ""},
	{"the history", "history.jsonl", ""},
	{"a download", "store/staging/" + nothing + ".part", "half of some program"},
	{"the launcher's trial", "launcher/trial", `{"target":{"version":"2.0.0","digest":"` + nothing + `","epoch":2},"previous":{"version":"1.0.0","digest":"` + nothing + `","epoch":1},"link":"/nowhere","tries":1,"pid":1}`},
	{"the launcher's record", "launcher/current", `{"now":{"version":"1.0.0","digest":"` + nothing + `","epoch":1},"previous":"","highwater":1,"refused":null}`},
	{"the seal of the version before", "store/1.0.0-*/seal.json", ""}, // last: there is no way back to it after this
}

const nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256 of no bytes

var damages = []struct {
	name string
	do   func(b []byte) []byte
}{
	{"cut short", func(b []byte) []byte { return b[:len(b)/2] }},
	{"zeroed", func(b []byte) []byte { return make([]byte, len(b)) }},
	{"newer", func(b []byte) []byte {
		for _, field := range []string{"schema=", `"schema": `, `"spec_version": "`, `"spec_version":"`} {
			b = bytes.Replace(b, []byte(field+"1"), []byte(field+"9"), 1)
		}
		return bytes.Replace(b, []byte("{"), []byte(`{"of_tomorrow":[{"a":1}],`), 1)
	}},
	{"hostile", func([]byte) []byte { return bytes.Repeat([]byte(`[{"a":`), 64<<10) }},
}

// One bad file among those that the launcher keeps, of whatever kind and however bad, stops neither the service nor
// the way back nor the next update.
func TestOneBadFile(t *testing.T) {
	s := updated(t)
	for _, f := range stateFiles {
		for _, d := range damages {
			name := f.name + " " + d.name
			file := stateFile(t, s, f.pattern, f.made)
			if strings.HasPrefix(f.pattern, "run/") {
				kill(t, s) // else there is no process to be recorded
			} else if err := s.Quit(); err != nil {
				t.Fatal(err)
			}
			good, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := os.WriteFile(file, d.do(good), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := s.Launch(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
				if err := os.WriteFile(file, good, 0o600); err != nil {
					t.Fatal(err)
				}
				launch(t, s)
				continue
			}
			eventually(t, name+": somebody serves", func() bool {
				_, err := answer(t.Context(), s)
				return err == nil
			})
			goOn(t, s, name, d.name == "hostile" || strings.HasPrefix(f.pattern, "journal/"))
		}
	}
}

// goOn demands that the host gets to 1.1.0, from wherever the damage has left it, or with all that it can also go
// back from there and come again.
func goOn(t *testing.T, s *stage.Stage, name string, all bool) {
	t.Helper()
	follow := func(args ...string) int {
		out, code := s.Operator(t.Context(), args...)
		if code != 0 && code != 3 {
			t.Errorf("%s: launcher %s: exit code %d\n%s", name, strings.Join(args, " "), code, out)
		}
		return code
	}
	follow("update", "--now", "--follow")
	if all {
		if strings.HasPrefix(name, "the seal of the version before") {
			operator(t, s, 14, "rollback", "--follow") // what is not known to be whole is not started
			return
		}
		follow("rollback", "--follow")
		follow("quarantine", "clear", "--all")
		follow("update", "--now", "--follow")
	}
	serving(t, s, "1.1.0")
}

// stateFile finds a file of the launcher's, or makes it.
func stateFile(t *testing.T, s *stage.Stage, pattern, made string) string {
	t.Helper()
	switch pattern {
	case "journal/slot-newer":
		return slots(t, s)[0]
	case "journal/slot-older":
		return slots(t, s)[1]
	}
	path := filepath.Join(s.State(), filepath.FromSlash(pattern))
	if made != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(made), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var found []string
	for range 100 {
		if found, _ = filepath.Glob(path); len(found) > 0 {
			return found[len(found)-1]
		}
		stage.Wait(t.Context(), 50*time.Millisecond)
	}
	t.Fatalf("there is no %s", pattern)
	return ""
}
