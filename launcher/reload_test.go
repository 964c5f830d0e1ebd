package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/updater"
)

// reloadText is a configuration of which a test changes a little.
const reloadText = `product = "acme-agent"
[repository]
url = "https://example.com/releases"
root = "root.json"
poll = "5m"
[state]
dir = "state"
[payload]
user = "same"
env = { COLOUR = "red" }
[drain]
kill = "2s"
[[listen]]
name = "http"
address = "127.0.0.1:8080"
`

func TestReloadTellsWhatCountsNowAndWhatLater(t *testing.T) {
	old := parsed(t, reloadText)
	changed := strings.NewReplacer(`"5m"`, `"1m"`, `"2s"`, `"3s"`, `8080`, `9090`, `COLOUR = "red"`, `SIZE = "9"`).Replace(reloadText) +
		"[log]\nlevel = \"debug\"\n[health]\npath = \"/ready\"\n"
	now, later := differences(old, parsed(t, changed))
	if want := []string{"drain.kill", "health.path", "log.level", "repository.poll"}; !slices.Equal(now, want) {
		t.Errorf("taken over at once: %v, want %v", now, want)
	}
	if want := []string{"listen[0].address", "payload.env"}; !slices.Equal(later, want) {
		t.Errorf("wait for a restart: %v, want %v", later, want)
	}
	if now, later := differences(old, old); len(now)+len(later) > 0 {
		t.Errorf("nothing changed, and yet %v %v", now, later)
	}
}

func parsed(t *testing.T, text string) Config {
	t.Helper()
	c, err := parseConfig(filepath.Join(t.TempDir(), "launcher.toml"), []byte(text), false)
	if err != nil {
		t.Fatal(err)
	}
	c.File, c.State.Dir, c.Payload.Data, c.Repository.Root, c.Control.Socket = "", "", "", "", "" // of the folder alone
	return c
}

// Every key of the configuration is in the documented table, in the right half.
func TestReloadTableIsComplete(t *testing.T) {
	doc, err := os.ReadFile("../docs/SERVICE.md")
	if err != nil {
		t.Fatal(err)
	}
	var yes, no string
	for line := range strings.Lines(string(doc)) {
		cells := strings.Split(line, "|")
		if len(cells) > 3 && strings.TrimSpace(cells[2]) == "yes" {
			yes += cells[1]
		} else if len(cells) > 3 && strings.TrimSpace(cells[2]) == "no" {
			no += cells[1]
		}
	}
	for table, i := range fields(reflect.TypeFor[Config]()) {
		f := reflect.TypeFor[Config]().Field(i).Type
		if table == "repository" || f.Kind() != reflect.Struct {
			continue // key by key, below
		}
		if half := map[bool]string{true: yes, false: no}[reloadsTable(table)]; !strings.Contains(half, table+".*") {
			t.Errorf("docs/SERVICE.md has %s.* not where it belongs (reloads: %v)", table, reloadsTable(table))
		}
	}
	for _, name := range []string{"product", "repository.url", "listen"} {
		if !strings.Contains(no, name) {
			t.Errorf("docs/SERVICE.md does not say that %s waits", name)
		}
	}
	if !strings.Contains(yes, "repository.poll") {
		t.Error("docs/SERVICE.md does not say that repository.poll reloads")
	}
}

func reloadsTable(table string) bool { return reloadable(table + ".x") }

// A reload reaches the site, the log and the engine; a file with a mistake reaches nothing.
func TestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "launcher.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(reloadText)
	cfg, err := parseConfig(file, []byte(reloadText), false)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	s := &service{cfg: cfg, level: new(slog.LevelVar), site: &site{cfg: cfg}, engine: updater.New(updater.Parts{})}
	s.log = slog.New(slog.NewTextHandler(&log, nil))
	write(strings.Replace(reloadText, `"2s"`, `"3s"`, 1) + "[log]\nlevel = \"debug\"\n")
	if err := s.reload(); err != nil {
		t.Fatal(err)
	}
	if got := s.site.tuned(); got.Drain.Kill != 3*time.Second || s.level.Level() != slog.LevelDebug {
		t.Errorf("after the reload drain.kill is %s and the level %s", got.Drain.Kill, s.level.Level())
	}
	write("nonsense = 1\n")
	if err := s.reload(); err == nil || s.site.tuned().Drain.Kill != 3*time.Second {
		t.Errorf("a wrong file: %v, drain.kill %s", err, s.site.tuned().Drain.Kill)
	}
}

// A stop that the manager bounds cuts the drain, not the end of processes.
func TestDrainFitsIntoTheTimeLeft(t *testing.T) {
	d := DrainConfig{Deadline: 30 * time.Second, Idle: 5 * time.Second, Stream: 5 * time.Minute, Kill: 10 * time.Second}
	if got := d.fit(time.Hour); got != d {
		t.Errorf("enough time changes %+v", got)
	}
	for _, within := range []time.Duration{30 * time.Second, 3 * time.Second, time.Millisecond} {
		got := d.fit(within)
		if max(got.Deadline, got.Stream)+got.Kill > within || got.Idle > got.Deadline || got.Kill <= 0 {
			t.Errorf("within %s: %+v", within, got)
		}
	}
}
