//go:build !windows

package main

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what the commands of docs/KEYS.md print into it")

// The commands of docs/KEYS.md are run, one after the other in one folder, and print what stands there. In it the
// folder is called /srv; fingerprints, dates and sizes are compared as such. A line "..." stands for any lines.
func TestKeysTutorial(t *testing.T) {
	t.Parallel()
	file := filepath.Join("..", "docs", "KEYS.md")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	shell := newShell(t)
	var out []string
	commands := 0
	lines := strings.Split(string(data), "\n")
	for i := 0; i < len(lines); i++ {
		out = append(out, lines[i])
		if lines[i] != "```console" {
			continue
		}
		for i++; lines[i] != "```"; {
			command, is := strings.CutPrefix(lines[i], "$ ")
			if !is {
				t.Fatalf("line %d: %q is no command", i+1, lines[i])
			}
			at := i + 1
			var want []string
			for i++; lines[i] != "```" && !strings.HasPrefix(lines[i], "$ "); i++ {
				want = append(want, lines[i])
			}
			commands++
			got := shell.run(command)
			if !same(want, got) && !*update {
				t.Errorf("docs/KEYS.md, line %d: $ %s\nprints\n%s\nnot\n%s", at, command, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if !same(want, got) {
				want = got
			}
			out = append(append(out, "$ "+command), want...)
		}
		out = append(out, lines[i])
	}
	if commands < 20 {
		t.Errorf("only %d commands were found", commands)
	}
	if *update {
		write(t, file, []byte(strings.Join(out, "\n")))
	}
}

// shell runs command lines in a folder where this test's binary is the program.
type shell struct {
	t   *testing.T
	dir string
	env []string
}

func newShell(t *testing.T) shell {
	t.Helper()
	dir, bin := t.TempDir(), t.TempDir()
	program, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nRELEASE_TEST_MAIN=1 exec '" + program + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "release"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return shell{t, dir, append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))}
}

func (s shell) run(command string) []string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Dir, cmd.Env = s.dir, s.env
	out, err := cmd.CombinedOutput()
	if _, ended := err.(*exec.ExitError); err != nil && !ended {
		s.t.Fatalf("%s: %v", command, err)
	}
	text := strings.TrimRight(strings.ReplaceAll(string(out), s.dir, "/srv"), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

var changing = []struct {
	rule *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d(T[0-9:]+Z)?`), "DATE"},
	{regexp.MustCompile(`RW[A-Za-z0-9+/]{54}`), "MINISIGN"},
	{regexp.MustCompile(`\b[0-9a-f]{12,}\b`), "HEX"},
	{regexp.MustCompile(`[0-9.]+ (bytes|KiB)`), "SIZE"},
}

// same compares what does not change from one run to the next.
func same(want, got []string) bool {
	pattern := "^"
	for _, l := range want {
		if l == "..." {
			pattern += "(.*\n)*"
			continue
		}
		pattern += regexp.QuoteMeta(plain(l)) + "\n"
	}
	text := ""
	for _, l := range got {
		text += plain(l) + "\n"
	}
	return regexp.MustCompile(pattern + "$").MatchString(text)
}

func plain(line string) string {
	for _, c := range changing {
		line = c.rule.ReplaceAllString(line, c.as)
	}
	return line
}
