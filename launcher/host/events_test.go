package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type event struct {
	t    eventType
	id   uint32
	text string
}

func TestEventsGoToTheSystemsLogUnderTheirIDs(t *testing.T) {
	var events []event
	var file bytes.Buffer
	h := newEventHandler(slog.NewJSONHandler(&file, &slog.HandlerOptions{Level: slog.LevelDebug}), func(t eventType, id uint32, text string) error {
		events = append(events, event{t, id, text})
		return nil
	})
	log := slog.New(h).With("product", "acme")
	log.Debug("details")
	log.Info("a probe", "kind", "probe")
	log.Info("1.1.0 serves", "kind", "switch", "version", "1.1.0")
	log.Warn("slow", "kind", "check")
	log.Error("cannot", "err", errors.New("boom"))
	want := []event{
		{typeInformation, 103, "1.1.0 serves\r\nproduct: acme\r\nkind: switch\r\nversion: 1.1.0"},
		{typeWarning, 120, "slow\r\nproduct: acme\r\nkind: check"},
		{typeError, otherError, "cannot\r\nproduct: acme\r\nerr: boom"},
	}
	if len(events) != len(want) {
		t.Fatalf("%d events: %+v", len(events), events)
	}
	for i := range want {
		if events[i] != want[i] {
			t.Errorf("event %d is %+v, want %+v", i, events[i], want[i])
		}
	}
	var ids []float64
	for line := range strings.Lines(file.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m["event_id"].(float64))
	}
	if fmt.Sprint(ids) != fmt.Sprint([]float64{otherInfo, 116, 103, 120, otherError}) {
		t.Errorf("ids in the file: %v", ids)
	}
}

// The ids are a promise: one meaning each, within what EventCreate.exe can show, and in the table of the docs.
func TestEventIDsAreStable(t *testing.T) {
	doc, err := os.ReadFile("../../docs/WINDOWS.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint32]string{}
	for kind, id := range eventIDs {
		if seen[id] != "" || id < 1 || id > 1000 {
			t.Errorf("id %d of %s: used by %q, or out of 1 to 1000", id, kind, seen[id])
		}
		seen[id] = kind
		if !strings.Contains(string(doc), fmt.Sprintf("| %d | %s |", id, kind)) {
			t.Errorf("docs/WINDOWS.md has no line for id %d, %s", id, kind)
		}
	}
	for kind := range told {
		if eventIDs[kind] == 0 {
			t.Errorf("%s has no id", kind)
		}
	}
	for code, s := range sentences {
		if !strings.Contains(string(doc), fmt.Sprintf("| %d | %s |", code, s)) {
			t.Errorf("docs/WINDOWS.md has no line for exit code %d", code)
		}
	}
}

// No line is lost or split while files turn, and there are never more than were meant.
func TestLogRotates(t *testing.T) {
	name := filepath.Join(t.TempDir(), "launcher.log")
	r, err := openRotating(name)
	if err != nil {
		t.Fatal(err)
	}
	r.most, r.kept = 100, 2
	for i := range 20 {
		if _, err := fmt.Fprintf(r, "line %02d of thirty bytes or so..\n", i); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for i := r.kept; i >= 0; i-- {
		b, err := os.ReadFile(r.older(i))
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 100 {
			t.Errorf("%s has %d bytes", r.older(i), len(b))
		}
		lines = append(lines, strings.Split(strings.TrimSpace(string(b)), "\n")...)
	}
	for i, l := range lines {
		if want := fmt.Sprintf("line %02d", 20-len(lines)+i); !strings.HasPrefix(l, want) {
			t.Errorf("line %q, want %s", l, want)
		}
	}
	if files, _ := filepath.Glob(filepath.Dir(name) + "/*"); len(files) != 3 {
		t.Errorf("files %v", files)
	}
}
