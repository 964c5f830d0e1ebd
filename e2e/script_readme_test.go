package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// readme is what is left of the README's ten minutes: its commands, each with what it prints.
type readme struct {
	text string
	left []session
}

// session is a command and its output.
type session struct {
	command string
	prints  []string
}

// The README's folder and addresses, in place of those of a script.
const (
	readmeFolder     = "/srv/acme"
	readmeService    = "127.0.0.1:8080"
	readmeRepository = "127.0.0.1:8099"
)

func (x *play) readme() *readme {
	if x.doc != nil {
		return x.doc
	}
	all, err := os.ReadFile(filepath.Join("..", "README.md"))
	x.ts.Check(err)
	_, text, _ := strings.Cut(string(all), "\n## Ten minutes\n")
	text, _, _ = strings.Cut(text, "\n## ")
	x.doc = &readme{text: text}
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		command, typed := strings.CutPrefix(line, "$ ")
		switch {
		case typed:
			x.doc.left = append(x.doc.left, session{command: command})
			inside = true
		case line == "" || strings.HasPrefix(line, "```"):
			inside = false
		case inside:
			last := &x.doc.left[len(x.doc.left)-1]
			last.prints = append(last.prints, line)
		}
	}
	return x.doc
}

// block writes a block of the README into a file, with the script's addresses.
func (x *play) block(args []string) {
	_, text, found := strings.Cut(x.readme().text, "```"+args[0]+"\n")
	text, _, closed := strings.Cut(text, "```\n")
	if !found || !closed {
		x.ts.Fatalf("the README has no block of %s", args[0])
	}
	text = strings.NewReplacer(readmeService, x.ts.Getenv("SERVICE"), readmeRepository, x.ts.Getenv("REPOSITORY")).Replace(text)
	x.ts.Check(os.WriteFile(x.ts.MkAbs(args[1]), []byte(text), 0o600))
}

// asReadme is a text of this script as the README has it.
func (x *play) asReadme(text string) string {
	return strings.NewReplacer(x.ts.Getenv("WORK"), readmeFolder, x.ts.Getenv("SERVICE"), readmeService, x.ts.Getenv("REPOSITORY"), readmeRepository).Replace(text)
}

func (x *play) typed(args []string) {
	line := strings.Join(args, " ")
	left := x.readme().left
	if len(left) == 0 || x.asReadme(line) != left[0].command {
		x.ts.Fatalf("the README's commands, from here: %+v", left)
	}
	want := left[0].prints
	x.doc.left = left[1:]
	command, background := strings.CutSuffix(line, " &")
	switch {
	case background:
		printed := x.background(command)
		eventually(x, "the README's output", func() bool { return x.prints(want, printed()) })
		return
	case args[0] == "curl":
		x.until([]string{".", "curl", args[1]}) // the README's reader is slower
		x.curl(args[1:])
		return
	case line == "launcher status": // he waits until all is at rest
		eventually(x, "the README's output", func() bool {
			x.run(args)
			return x.prints(want, x.ts.ReadFile("stdout"))
		})
		return
	case args[0] == "go": // in the repository, to here
		command = "cd '" + x.ts.Getenv("ROOT") + "' && " + strings.Replace(command, " -o ", " -o "+x.ts.Getenv("WORK")+"/", 1)
	}
	x.ts.Check(x.ts.Exec("/bin/sh", "-c", command))
	if got := x.ts.ReadFile("stdout"); !x.prints(want, got) {
		x.ts.Fatalf("the README shows\n%s", strings.Join(want, "\n"))
	}
}

func (x *play) done([]string) {
	if left := x.readme().left; len(left) > 0 {
		x.ts.Fatalf("commands of the README that are not run: %+v", left)
	}
}

var changing = []struct {
	what *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`\b[0-9a-f]{12}…`), "HEX"},
	{regexp.MustCompile(`\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) `), "DAY "},
	{regexp.MustCompile(`\d\d:\d\d(:\d\d)?\b`), "TIME"},
	{regexp.MustCompile(`\b(\d[\d.]*(µs|ms|[dhms])?)+`), "N"},
	{regexp.MustCompile(`N connections? · N answered`), "N answered"},
}

var version = regexp.MustCompile(`\b(\d+)\.(\d+)\.(\d+)\b`)

// prints compares what does not change from one run to the next. What follows an update may print more lines in
// between, such as those of a download that takes longer.
func (x *play) prints(want []string, got string) bool {
	lines := strings.Split(strings.TrimSuffix(x.asReadme(got), "\n"), "\n")
	if got == "" {
		lines = nil
	}
	follows := len(want) > 0 && strings.Contains(strings.Join(want, "\n"), "  end  ")
	if !follows && len(lines) != len(want) {
		return false
	}
	for _, w := range want {
		i := slices.IndexFunc(lines, func(l string) bool { return constant(l) == constant(w) })
		if i < 0 || i > 0 && !follows {
			x.ts.Logf("not printed: %s\nin the form: %s", w, constant(w))
			return false
		}
		lines = lines[i+1:]
	}
	return true
}

func constant(line string) string {
	line = version.ReplaceAllString(line, "v${1}_${2}_${3}")
	for _, c := range changing {
		line = c.what.ReplaceAllString(line, c.as)
	}
	return line
}

// background starts a command that is stopped in order when the script ends; printed is its output so far.
func (x *play) background(line string) (printed func() string) {
	var mu sync.Mutex
	var out bytes.Buffer
	cmd := exec.Command("/bin/sh", "-c", "exec "+line)
	cmd.Dir = x.ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "PATH="+x.ts.Getenv("PATH"))
	cmd.Stdout = writer(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return out.Write(b)
	})
	x.ts.Check(cmd.Start())
	x.ts.Defer(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		_ = cmd.Wait()                          // likewise
	})
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return out.String()
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }
