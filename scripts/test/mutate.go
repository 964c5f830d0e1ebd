package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// mutation takes one defence out of the product: a text of one file is replaced by another. The test that is
// named for the defence is green without it and has to be red with it.
type mutation struct {
	failure  int    // its number in docs/FAILURES.md
	defence  string // what is taken out
	file     string
	old, new string // old is in the file exactly once
	pkg      string // of the test
	test     string // one test, or one subtest after a slash
}

// mutantTime bounds one run of one test. A test that needs it all has no answer, which is no proof.
const mutantTime = 2 * time.Minute

// mutate takes every defence out, one at a time, and demands that its test goes red.
func mutate(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	lab := &lab{dir: dir, green: map[string]error{}, built: map[string]string{}}
	errs, survivors := []error{documented()}, 0
	fmt.Printf("%2s  %-8s %6s  %-48s %s\n", "", "", "", "defence taken out", "test that has to go red")
	for _, m := range mutations {
		begun := time.Now()
		err := lab.try(ctx, m)
		word := "red"
		if err != nil {
			word = "NOT RED"
			survivors++
			errs = append(errs, fmt.Errorf("failure %d, %s: %w", m.failure, m.defence, err))
		}
		fmt.Printf("%2d  %-8s %5.1fs  %-48s %s in %s\n", m.failure, word, time.Since(begun).Seconds(), m.defence, m.test, m.pkg)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	fmt.Printf("%d defences, %d without proof\n", len(mutations), survivors)
	return errors.Join(errs...)
}

// lab builds test programs, with and without mutations.
type lab struct {
	dir   string
	built map[string]string // test program of each package as it is
	green map[string]error  // what became of each test there
}

func (l *lab) try(ctx context.Context, m mutation) error {
	overlay, err := l.overlay(m)
	if err != nil {
		return err
	}
	if err := l.sound(ctx, m); err != nil {
		return fmt.Errorf("%s in %s is not green as it is: %w", m.test, m.pkg, err)
	}
	mutant := filepath.Join(l.dir, "mutant.test")
	if err := build(ctx, m.pkg, mutant, "-overlay", overlay); err != nil {
		return fmt.Errorf("the mutant of %s does not compile: %w", m.file, err)
	}
	return red(ctx, mutant, m)
}

// overlay writes the mutant of a file, and returns the name of the file that tells the compiler of it.
func (l *lab) overlay(m mutation) (string, error) {
	text, err := os.ReadFile(m.file)
	if err != nil {
		return "", err
	}
	if n := bytes.Count(text, []byte(m.old)); n != 1 {
		return "", fmt.Errorf("%s holds %q %d times: name the defence as it is now", m.file, m.old, n)
	}
	original, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	mutant, overlay := filepath.Join(l.dir, "mutant.go"), filepath.Join(l.dir, "overlay.json")
	if err := os.WriteFile(mutant, bytes.Replace(text, []byte(m.old), []byte(m.new), 1), 0o600); err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: mutant}})
	if err != nil {
		return "", err
	}
	return overlay, os.WriteFile(overlay, replace, 0o600)
}

// sound says whether the test is there and green in the product as it is. Each is asked once.
func (l *lab) sound(ctx context.Context, m mutation) error {
	key := m.pkg + " " + m.test
	if err, known := l.green[key]; known {
		return err
	}
	program, known := l.built[m.pkg]
	if !known {
		program = filepath.Join(l.dir, strings.ReplaceAll(strings.TrimPrefix(m.pkg, "./"), "/", "-")+".test")
		if err := build(ctx, m.pkg, program); err != nil {
			return err
		}
		l.built[m.pkg] = program
	}
	out, err := runTest(ctx, program, m)
	if err == nil && !bytes.Contains(out, []byte("--- PASS: "+m.test+" ")) {
		err = errors.New("there is no such test, or it was skipped")
	}
	l.green[key] = err
	return err
}

// red demands that the test itself says no: neither a program that broke down nor one that was cut short counts.
func red(ctx context.Context, program string, m mutation) error {
	out, err := runTest(ctx, program, m)
	switch {
	case err == nil:
		return errors.New("its test is green without it")
	case !bytes.Contains(out, []byte("--- FAIL: "+m.test+" ")), broke.Match(out):
		return fmt.Errorf("its test did not come to a verdict: %w: %s", err, tail(out))
	}
	return nil
}

// broke is what a Go program says when it ends without having been asked.
var broke = regexp.MustCompile(`(?m)^(panic: |fatal error: |SIG[A-Z]+: )`)

func build(ctx context.Context, pkg, program string, args ...string) error {
	args = append(append([]string{"test", "-c", "-vet=off", "-o", program}, args...), pkg)
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, tail(out))
	}
	return nil
}

func runTest(ctx context.Context, program string, m mutation) ([]byte, error) {
	levels := strings.Split(m.test, "/")
	cmd := exec.CommandContext(ctx, program, "-test.v", "-test.timeout="+mutantTime.String(), "-test.run=^"+strings.Join(levels, "$/^")+"$")
	cmd.Dir = m.pkg
	return cmd.CombinedOutput()
}

func tail(out []byte) string {
	const most = 2000
	return string(out[max(0, len(out)-most):])
}

// pair is a line of docs/FAILURES.md that names a defence and the test that proves it:
//
//   - `internal/durable/file.go`: bytes are synced before they get their name. `TestX` in `./internal/durable`.
var pair = regexp.MustCompile("(?m)^- `([^`]+)`: .* `([^`]+)` in `([^`]+)`\\.$")

var heading = regexp.MustCompile(`(?m)^## ([0-9]+)\. `)

// documented says whether docs/FAILURES.md and the mutations name the same defences and tests, and fifteen failures.
func documented() error {
	text, err := os.ReadFile("docs/FAILURES.md")
	if err != nil {
		return err
	}
	told, numbers := map[string]bool{}, heading.FindAllSubmatchIndex(text, -1)
	for i, at := range numbers {
		end := len(text)
		if i+1 < len(numbers) {
			end = numbers[i+1][0]
		}
		for _, p := range pair.FindAllSubmatch(text[at[0]:end], -1) {
			told[fmt.Sprintf("%s. %s: %s in %s", text[at[2]:at[3]], p[1], p[2], p[3])] = true
		}
	}
	var errs []error
	proven := map[int]bool{}
	for _, m := range mutations {
		proven[m.failure] = true
		key := fmt.Sprintf("%d. %s: %s in %s", m.failure, m.file, m.test, m.pkg)
		if !told[key] {
			errs = append(errs, fmt.Errorf("docs/FAILURES.md does not name %s", key))
		}
		delete(told, key)
	}
	for key := range told {
		errs = append(errs, fmt.Errorf("docs/FAILURES.md names what no mutation proves: %s", key))
	}
	for n := 1; n <= 15; n++ {
		if !proven[n] {
			errs = append(errs, fmt.Errorf("no mutation takes out a defence against failure %d", n))
		}
	}
	return errors.Join(errs...)
}
