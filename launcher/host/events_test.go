package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
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

// Every kind that is told anywhere has an id of its own, and every event that an operator can follow is in the table
// of docs/OPERATIONS.md, which has no other.
func TestEveryKindHasAnID(t *testing.T) {
	events, logged := kindsInSource(t)
	for _, word := range done {
		logged[word] = true
	}
	for _, kinds := range []map[string]bool{events, logged} {
		for kind := range kinds {
			if eventIDs[kind] == 0 {
				t.Errorf("%s has no id", kind)
			}
		}
	}
	for kind := range eventIDs {
		if !events[kind] && !logged[kind] {
			t.Errorf("nobody tells of %s", kind)
		}
	}
	doc, err := os.ReadFile("../../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "\n## 7. Events\n")
	table, _, _ = strings.Cut(table, "\n###")
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(table, -1) {
		for kind := range strings.SplitSeq(row[1], ", ") {
			if kind = strings.Trim(kind, "`"); !events[kind] {
				t.Errorf("docs/OPERATIONS.md has %s, which is no event", kind)
			}
			delete(events, kind)
		}
	}
	for kind := range events {
		t.Errorf("docs/OPERATIONS.md has no line for %s", kind)
	}
}

// kindsInSource reads the program: the kinds of events, and those that are in the log alone.
func kindsInSource(t *testing.T) (events, logged map[string]bool) {
	t.Helper()
	events, logged = map[string]bool{}, map[string]bool{}
	text := func(x ast.Expr) string {
		if lit, ok := x.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			s, _ := strconv.Unquote(lit.Value)
			return s
		}
		return ""
	}
	look := func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit: // updater.Event{Kind: "switch"}
			if name := types.ExprString(n.Type); name != "Event" && name != "updater.Event" {
				break
			}
			for _, x := range n.Elts {
				if kv, ok := x.(*ast.KeyValueExpr); ok && types.ExprString(kv.Key) == "Kind" {
					if kind := text(kv.Value); kind != "" {
						events[kind] = true
					} else if types.ExprString(kv.Value) != "kind" { // the parameter of event and measured
						t.Errorf("an event's kind is %s, which this test cannot read", types.ExprString(kv.Value))
					}
				}
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.SelectorExpr); ok && (f.Sel.Name == "event" || f.Sel.Name == "measured") && text(n.Args[0]) != "" {
				events[text(n.Args[0])] = true // s.event("alarm", ...)
			}
			for i := range len(n.Args) - 1 {
				if text(n.Args[i]) == "kind" && text(n.Args[i+1]) != "" {
					logged[text(n.Args[i+1])] = true // log.Info("...", "kind", "stopped")
				}
			}
		}
		return true
	}
	for _, dir := range []string{"../../launcher", "../../updater"} {
		err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err == nil {
				ast.Inspect(file, look)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return events, logged
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
