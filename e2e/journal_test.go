package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// updated serves 1.1.0 and has 1.0.0 to go back to.
func updated(t *testing.T) *stage.Stage {
	t.Helper()
	s := launched(t, quick(nil))
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	operator(t, s, 0, "update", "--now", "--follow")
	return s
}

// slots returns the journal's two files, the newer first.
func slots(t testing.TB, s *stage.Stage) (names [2]string) {
	t.Helper()
	var seqs [2]uint64
	for i := range names {
		names[i] = filepath.Join(s.State(), "journal", fmt.Sprintf("slot%d", i))
		seqs[i], _ = record(t, names[i])
	}
	if seqs[0] < seqs[1] {
		names[0], names[1] = names[1], names[0]
	}
	return names
}

// record reads a slot by its documented form.
func record(t testing.TB, name string) (seq uint64, body []byte) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := bytes.Cut(b, []byte("\n"))
	var size int
	if _, err := fmt.Sscanf(string(head), "turnstone-journal schema=1 seq=%d bytes=%d ", &seq, &size); err != nil {
		t.Fatalf("%s: %v: %.100q", name, err, b)
	}
	return seq, rest[:size]
}

// overwrite puts bytes at the beginning of a file.
func overwrite(t testing.TB, name string, b []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
}

// spoil flips one bit in the middle of a slot's record.
func spoil(t testing.TB, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[120] ^= 1
	overwrite(t, name, b)
}

// forge writes a right record with another phase into the newer slot, as a newer launcher would.
func forge(t testing.TB, s *stage.Stage, phase string) {
	t.Helper()
	name := slots(t, s)[0]
	seq, body := record(t, name)
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(body, &fields); err != nil {
		t.Fatal(err)
	}
	fields["phase"] = json.RawMessage(`"` + phase + `"`)
	body, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	head := fmt.Sprintf("turnstone-journal schema=1 seq=%d bytes=%d", seq, len(body))
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s", head, body))
	overwrite(t, name, fmt.Appendf(nil, "%s sha256=%x\n%s\n", head, sum, body))
}

// Bytes of a version that are gone, or are not what was sealed, are never started. What runs goes on; a way
// back that is damaged is refused; and after a restart the next good version serves in its place.
func TestProgramGoneFromStore(t *testing.T) {
	s := updated(t)
	file := func(number string) string {
		names, err := filepath.Glob(filepath.Join(s.State(), "store", number+"-*", "tree", "*"))
		if err != nil || len(names) != 1 {
			t.Fatalf("files of %s: %v, %v", number, names, err)
		}
		return names[0]
	}
	previous := file("1.0.0")
	saved, err := os.ReadFile(previous)
	if err != nil {
		t.Fatal(err)
	}
	unmoved(t, s, func() {
		if err := os.Remove(previous); err != nil {
			t.Fatal(err)
		}
		says(t, operator(t, s, 14, "rollback", "--follow"), "1.0.0", "damaged", "launcher")
		if st := status(t, s); st.Active.Number != "1.1.0" || st.Phase != journal.Idle {
			t.Errorf("active %v in %s, want 1.1.0 in idle", st.Active, st.Phase)
		}
	})
	if err := os.WriteFile(previous, saved, 0o755); err != nil {
		t.Fatal(err)
	}
	active := file("1.1.0")
	unmoved(t, s, func() {
		replace(t, active, []byte("not what was sealed"))
		operator(t, s, 0, "status")
	})
	byOrder(t, s)
	if err := s.Quit(); err != nil {
		t.Fatal(err)
	}
	launch(t, s)
	eventually(t, "1.0.0 serves in place of 1.1.0", func() bool {
		got, err := answer(t.Context(), s)
		return err == nil && strings.Contains(got, `"version":"1.0.0"`)
	})
	var st control.Status
	eventually(t, "so says the launcher", func() bool { st = status(t, s); return st.Active.Number == "1.0.0" })
	says(t, st.Alarm, "1.0.0 serves in place of 1.1.0")
	operator(t, s, 0, "update", "--now", "--follow") // the bytes were bad, not the release
	serving(t, s, "1.1.0")
}

// replace puts another file under a name, as a careless person would: what runs keeps the old one open.
func replace(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o755); err != nil {
		t.Fatal(err)
	}
}
