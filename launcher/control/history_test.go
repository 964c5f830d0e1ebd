package control

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/updater"
)

func TestHistory(t *testing.T) {
	d, file := durable.OS(), filepath.Join(t.TempDir(), "history.jsonl")
	if all, err := ReadHistory(d, file, 10); err != nil || len(all) != 0 {
		t.Fatalf("%v, %v", all, err)
	}
	for _, to := range []string{"1.1.0", "1.2.0", "1.3.0"} {
		if err := AppendHistory(d, file, updater.Entry{To: to}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := ReadHistory(d, file, 2)
	if err != nil || len(all) != 2 || all[0].N != 3 || all[0].To != "1.3.0" || all[1].N != 2 {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestHistoryTorn: a line that a power cut tore costs itself, and nothing that comes after it.
func TestHistoryTorn(t *testing.T) {
	d, file := durable.OS(), filepath.Join(t.TempDir(), "history.jsonl")
	for range 2 {
		if err := AppendHistory(d, file, updater.Entry{To: "1.1.0"}); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data[:len(data)-9], 0o640); err != nil {
		t.Fatal(err)
	}
	if err := AppendHistory(d, file, updater.Entry{To: "1.2.0"}); err != nil {
		t.Fatal(err)
	}
	all, err := ReadHistory(d, file, 10)
	if err != nil || len(all) != 2 || all[0].To != "1.2.0" || all[0].N != 2 || all[1].N != 1 {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestHistoryRotates(t *testing.T) {
	d, file := durable.OS(), filepath.Join(t.TempDir(), "history.jsonl")
	if err := AppendHistory(d, file, updater.Entry{To: "1.1.0"}); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(strings.Repeat("x", maxHistory) + "\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, to := range []string{"1.2.0", "1.3.0"} {
		if err := AppendHistory(d, file, updater.Entry{To: to}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := ReadHistory(d, file, 10)
	if err != nil || len(all) != 3 || all[0].N != 3 || all[2].N != 1 {
		t.Errorf("%d entries, %v", len(all), err)
	}
	if st, err := os.Stat(file); err != nil || st.Size() > maxEntry {
		t.Errorf("not rotated: %v, %v", st.Size(), err)
	}
}

func TestHistoryEntryBound(t *testing.T) {
	d, file := durable.OS(), filepath.Join(t.TempDir(), "history.jsonl")
	e := updater.Entry{To: "1.1.0", Evidence: &updater.Evidence{Output: strings.Repeat("x", maxEntry)}}
	if err := AppendHistory(d, file, e); err != nil {
		t.Fatal(err)
	}
	all, err := ReadHistory(d, file, 10)
	if err != nil || len(all) != 1 || all[0].To != "1.1.0" || all[0].Evidence != nil {
		t.Errorf("%d entries, %v", len(all), err)
	}
}
