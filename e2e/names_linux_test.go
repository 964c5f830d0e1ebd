package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

// A program gets a second name by root's tools: perf keeps each one that it has seen, and backups do the like. Nobody
// can write to it by that name, so the launcher starts all the same, with the same files, and updates both. (Only as
// root does a launcher in the foreground look at its folder; what it starts it always looks at.)
func TestProgramsWithASecondName(t *testing.T) {
	s := renewable(t, "1m", "20s")
	launch(t, s)
	serving(t, s, "1.0.0")
	offer(t, s, "100.1.0", "")
	operator(t, s, 0, "self-update", "--follow")
	second := secondNames(t, s)
	if err := s.Quit(); err != nil {
		t.Fatal(err)
	}
	launch(t, s)
	eventually(t, "1.0.0 answers", func() bool {
		text, err := answer(t.Context(), s)
		return err == nil && strings.Contains(text, "1.0.0")
	})
	if got := registered(t, s); got != "100.1.0" {
		t.Errorf("registered is %s", got)
	}
	for file, name := range second {
		if !sameFile(t, file, name) {
			t.Errorf("%s was made anew", file)
		}
	}
	publish(t, s, "1.1.0", example(t, "1.1.0", ""))
	operator(t, s, 0, "update", "--now", "--follow")
	offer(t, s, "100.2.0", "")
	operator(t, s, 0, "self-update", "--follow")
	operator(t, s, 0, "rollback", "--follow") // to a program that has two names
	serving(t, s, "1.0.0")
}

// secondNames links every program in the state folder, as perf does, and tells under which name.
func secondNames(t *testing.T, s *stage.Stage) map[string]string {
	t.Helper()
	second := make(map[string]string)
	for _, pattern := range []string{"store/*/tree/*", "launcher/*/launcher"} {
		files, err := filepath.Glob(filepath.Join(s.State(), pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("there is no %s: %v", pattern, err)
		}
		for _, file := range files {
			name := filepath.Join(s.Home, "second"+strconv.Itoa(len(second)))
			if err := os.Link(file, name); err != nil {
				t.Fatal(err)
			}
			second[file] = name
		}
	}
	return second
}

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	one, err := os.Stat(a)
	if err != nil {
		t.Fatal(err)
	}
	two, err := os.Stat(b)
	if err != nil {
		t.Fatal(err)
	}
	return os.SameFile(one, two)
}
