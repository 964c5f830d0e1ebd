package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// packages are the Debian packages whose programs the tests meet, each found by a file that it installs.
var packages = []struct{ name, file string }{
	{"gcc", "/usr/bin/gcc"},                                   // the race detector links with cgo
	{"libc6-dev", "/usr/include/stdlib.h"},                    // likewise
	{"bsdiff", "/usr/bin/bsdiff"},                             // must apply our patches, and makes some for us
	{"minisign", "/usr/bin/minisign"},                         // must accept our signatures
	{"openssl", "/usr/bin/openssl"},                           // its keys are ours
	{"python3", "/usr/bin/python3"},                           // a server that nobody here wrote
	{"gunicorn", "/usr/bin/gunicorn"},                         // one that speaks socket activation
	{"git", "/usr/bin/git"},                                   // the tree's own files
	{"debootstrap", "/usr/sbin/debootstrap"},                  // a machine with systemd
	{"systemd-container", "/usr/bin/systemd-nspawn"},          // boots it
	{"ca-certificates", "/etc/ssl/certs/ca-certificates.crt"}, // the module proxy
}

// staticcheck is pinned like a module of ours.
const staticcheck = "honnef.co/go/tools/cmd/staticcheck@v0.8.2"

// s3Server is the one that e2e publishes to. It is compiled here, where there is time, and found in the build
// cache by the test.
const s3Server = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

// tools installs what is missing, when we may.
func tools(ctx context.Context) error {
	var missing []string
	for _, p := range packages {
		if _, err := os.Stat(p.file); err != nil {
			missing = append(missing, p.name)
		}
	}
	if len(missing) == 0 {
		return errors.Join(wine(ctx), compiled(ctx, s3Server))
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		return fmt.Errorf("%w: install these first: %s", errSkipped, strings.Join(missing, " "))
	}
	if err := command(ctx, "apt-get", "-q", "update"); err != nil {
		return err
	}
	if err := command(ctx, "apt-get", append([]string{"-q", "-y", "--no-install-recommends", "install"}, missing...)...); err != nil {
		return err
	}
	return errors.Join(wine(ctx), compiled(ctx, s3Server))
}

// compiled has a program and its modules in the caches.
func compiled(ctx context.Context, program string) error {
	bin, err := os.MkdirTemp("", "compiled")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	return install(ctx, program, bin)
}

func install(ctx context.Context, program, bin string) error {
	cmd := exec.CommandContext(ctx, "go", "install", program)
	cmd.Env = append(os.Environ(), "GOBIN="+bin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("install %s: %w: %s", program, err, out)
	}
	return nil
}

// wine gets the program that runs the Windows tests.
func wine(ctx context.Context) error { return command(ctx, "go", "run", "./scripts/wine", "setup") }

func format(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "gofmt", "-l", ".").CombinedOutput()
	if err == nil && len(out) > 0 {
		err = fmt.Errorf("gofmt -w these: %s", strings.Fields(string(out)))
	}
	return err
}

func tidy(ctx context.Context) error { return command(ctx, "go", "mod", "tidy", "-diff") }

func vet(goos string) func(context.Context) error {
	return func(ctx context.Context) error { return crossed(ctx, goos, "amd64", "go", "vet", "./...") }
}

func lint(goos string) func(context.Context) error {
	return func(ctx context.Context) error {
		bin, err := os.MkdirTemp("", "staticcheck")
		if err != nil {
			return err
		}
		defer os.RemoveAll(bin)
		if err := install(ctx, staticcheck, bin); err != nil {
			return err
		}
		return crossed(ctx, goos, "amd64", filepath.Join(bin, "staticcheck"), "./...")
	}
}

// crossBuild builds the programs that users get for every platform; it also holds the launcher to its size.
func crossBuild(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "build")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return command(ctx, "go", "run", "./scripts/build", "-dir", dir)
}

// tests runs every package but the end-to-end tests, which want the machine for themselves.
func tests(ctx context.Context) error {
	list, err := exec.CommandContext(ctx, "go", "list", "./...").Output()
	if err != nil {
		return err
	}
	args := []string{"test", "-count=1", "-timeout=30m"}
	for name := range strings.FieldsSeq(string(list)) {
		if !strings.HasSuffix(name, "/e2e") {
			args = append(args, name)
		}
	}
	return command(ctx, "go", args...)
}

func endToEnd(ctx context.Context) error {
	return command(ctx, "go", "test", "-count=1", "-timeout=55m", "./e2e")
}

// onWindows runs the tests of every package as Windows programs, but for what windowsTests says.
func onWindows(ctx context.Context) error {
	list, err := tested(ctx, "windows")
	if err != nil {
		return err
	}
	full, short := []string{"run", "./scripts/wine", "test", "-count=1"}, []string{"run", "./scripts/wine", "test", "-count=1", "-short"}
	for _, name := range list {
		if w, ok := windowsTests[name]; ok {
			fmt.Printf("%s %s: %s\n", name, w.how, w.reason)
		}
		switch windowsTests[name].how {
		case notAtAll:
		case shortly:
			short = append(short, name)
		default:
			full = append(full, name)
		}
	}
	return errors.Join(command(ctx, "go", full...), command(ctx, "go", short...))
}

// tested are the packages that have tests on a system.
func tested(ctx context.Context, goos string) ([]string, error) {
	const form = `{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}`
	cmd := exec.CommandContext(ctx, "go", "list", "-f", form, "./...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	out, err := cmd.Output()
	return strings.Fields(string(out)), err
}

// how much of a package's tests runs on Windows.
type how string

const (
	notAtAll how = "not at all"
	shortly  how = "with -short"
)

const module = "github.com/turnstone-go/turnstone/"

// windowsTests are the packages that do not run in full on Windows, each with its reason. A single test that has no
// meaning there is in a file for Linux, or skips and says why.
var windowsTests = map[string]struct {
	how    how
	reason string
}{
	module + "e2e":             {notAtAll, "it drives the machines, Wine among them, from Linux"},
	module + "internal/floors": {notAtAll, "it reads the sources, with the go command"},
	module + "scripts/test":    {notAtAll, "it reads the sources, with the go command"},
	module + "updater":         {shortly, "the courses of cuts have no system beneath them but a disk in memory, and run in full on Linux"},
}

// race repeats the packages in which goroutines meet, under the race detector. The crash courses are cut short:
// they have one goroutine, and were run in full by tests.
func race(ctx context.Context) error {
	if _, err := exec.LookPath("gcc"); err != nil {
		return fmt.Errorf("%w: the race detector needs gcc", errSkipped)
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-race", "-short", "-count=1", "-timeout=15m", "./internal/...", "./launcher/...", "./payload/...", "./updater/...", "./release/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	return attached(cmd)
}

// fuzz runs every fuzz test for a few seconds: the seeds were run by tests already.
func fuzz(ctx context.Context) error {
	list := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "./...")
	dirs, err := list.Output()
	if err != nil {
		return err
	}
	var errs []error
	for dir := range strings.Lines(string(dirs)) {
		errs = append(errs, fuzzPackage(ctx, strings.TrimSpace(dir)))
	}
	return errors.Join(errs...)
}

// fuzzTime is what each fuzz test has at least. It is filled with rounds that are counted in inputs, since at the
// end of a time go test may call its own deadline a failure.
const (
	fuzzTime  = 10 * time.Second
	fuzzRound = "5000x"
)

func fuzzPackage(ctx context.Context, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for line := range bytes.Lines(text) {
			rest, ok := bytes.CutPrefix(line, []byte("func Fuzz"))
			if !ok {
				continue
			}
			name, _, _ := bytes.Cut(rest, []byte("("))
			for begun := time.Now(); time.Since(begun) < fuzzTime; {
				cmd := exec.CommandContext(ctx, "go", "test", "-run=^$", "-fuzz=^Fuzz"+string(name)+"$", "-fuzztime="+fuzzRound, ".")
				cmd.Dir = dir
				if err := attached(cmd); err != nil {
					return fmt.Errorf("fuzz %s in %s: %w", name, filepath.Base(dir), err)
				}
			}
		}
	}
	return nil
}

// demo runs the README's own demonstration; what it did is in its last line, the story is what it printed before.
func demo(flags ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, "go", append([]string{"run", "./scripts/demo", "-json"}, flags...)...)
		var story bytes.Buffer
		cmd.Stderr = io.MultiWriter(os.Stderr, &story)
		out, err := cmd.Output()
		os.Stdout.Write(out)
		if err != nil {
			return err
		}
		return checkDemo(out, story.Bytes())
	}
}

func crossed(ctx context.Context, goos, goarch, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	return attached(cmd)
}

func command(ctx context.Context, name string, args ...string) error {
	return attached(exec.CommandContext(ctx, name, args...))
}

func attached(cmd *exec.Cmd) error {
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}
