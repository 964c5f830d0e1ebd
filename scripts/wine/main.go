//go:build linux

// Command wine runs Windows programs on Linux, for tests: `go run ./scripts/wine test ./internal/...`.
//
//	setup [DIR]                        get Wine 10 into DIR: half a minute the first time, nothing after that
//	test [go test flags and packages]  go test for Windows, each test binary under Wine
//	exec [-machine STATE] [-timeout D] -- FILE.exe ARGS
//	                                   run one program, usable as `go test -exec`
//	boot STATE                         a machine for several programs; it lives until standard input ends
//	reset STATE                        end all programs of that machine at once, and start Windows in it again
//
// Without -machine every program gets a machine of its own: fresh registry, fresh disk C:, no services of
// another test. What it does there is gone when it ends, and so is every process that it started, since a
// machine is a Linux pid and mount namespace whose first process is ours. The files of this computer are
// at the same paths (drive Z:), the network is this computer's.
//
// DIR is turnstone/wine in the user's cache folder, or $TURNSTONE_WINE. Needed are Debian's apt-get and
// dpkg-deb with the machine's own configuration, and either root or unprivileged user namespaces.
// A run is ended after 10 minutes unless -timeout says otherwise.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == initArg {
		os.Exit(runInit(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "wine:", err)
	}
	os.Exit(code)
}

// run returns the exit code: that of the Windows program, or 2 with an error.
func run(ctx context.Context, args []string) (int, error) {
	dir, err := folder()
	if err != nil {
		return 2, err
	}
	if len(args) == 0 {
		return 2, errors.New("say what to do: setup, test, exec, boot or reset; `go doc ./scripts/wine` explains")
	}
	switch args[0] {
	case "setup":
		if len(args) > 1 {
			if dir, err = filepath.Abs(args[1]); err != nil {
				return 2, err
			}
		}
		return codeOf(setup(ctx, dir))
	case "test":
		return goTest(ctx, dir, args[1:])
	case "exec":
		return runExec(ctx, dir, args[1:])
	case "boot", "reset":
		if len(args) != 2 {
			return 2, fmt.Errorf("%s needs a folder for the machine's state", args[0])
		}
		if args[0] == "reset" {
			return codeOf(reset(ctx, args[1]))
		}
		return codeOf(boot(ctx, dir, args[1]))
	}
	return 2, fmt.Errorf("unknown command %q", args[0])
}

func codeOf(err error) (int, error) {
	if err != nil {
		return 2, err
	}
	return 0, nil
}

// folder is where Wine lives.
func folder() (string, error) {
	if dir := os.Getenv("TURNSTONE_WINE"); dir != "" {
		return filepath.Abs(dir)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no place for Wine: %w; set TURNSTONE_WINE to a folder", err)
	}
	return filepath.Join(cache, "turnstone", "wine"), nil
}

// goTest is `go test` for Windows.
func goTest(ctx context.Context, dir string, args []string) (int, error) {
	if err := setup(ctx, dir); err != nil {
		return 2, err
	}
	self, err := os.Executable()
	if err != nil {
		return 2, err
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-exec", self + " exec --"}, args...)...)
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0", "TURNSTONE_WINE="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return exitCode(cmd.Run())
}

// runExec runs one program, in a machine of its own or in one that boot holds.
func runExec(ctx context.Context, dir string, args []string) (int, error) {
	flags := flag.NewFlagSet("exec", flag.ContinueOnError)
	state := flags.String("machine", "", "folder of a machine that `boot` holds")
	limit := flags.Duration("timeout", 10*time.Minute, "the run is ended then")
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	if flags.NArg() == 0 {
		return 2, errors.New("exec needs a program")
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	var cmd *exec.Cmd
	if *state != "" {
		var err error
		if cmd, err = enter(ctx, *state, append([]string{loader}, flags.Args()...)...); err != nil {
			return 2, err
		}
	} else {
		if err := setup(ctx, dir); err != nil {
			return 2, err
		}
		cmd = machine(ctx, dir, false, flags.Args()...)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if *state == "" { // everything in it ends with the program, so the pipe behind the filter does
		f := &filter{to: os.Stderr}
		defer f.flush()
		cmd.Stderr = f
	}
	code, err := exitCode(cmd.Run())
	if ctx.Err() != nil {
		err = fmt.Errorf("%s was ended: %w", flags.Arg(0), context.Cause(ctx))
	}
	return code, err
}

// exitCode tells the program's own code from a program that could not be run.
func exitCode(err error) (int, error) {
	var exited *exec.ExitError
	if errors.As(err, &exited) && exited.Exited() {
		return exited.ExitCode(), nil
	}
	return codeOf(err)
}

// filter leaves out what Wine says at each start about fonts, which nobody here looks at.
type filter struct {
	to   io.Writer
	line []byte
}

var fonts = regexp.MustCompile(`FreeType|TrueType|equal to 2\.0\.5|freetype\.org`)

// flush writes a last line without its end.
func (f *filter) flush() { _, _ = f.to.Write(f.line) }

func (f *filter) Write(b []byte) (int, error) {
	for _, c := range b {
		f.line = append(f.line, c)
		if c == '\n' {
			if !fonts.Match(f.line) {
				_, _ = f.to.Write(f.line) // nobody is left to tell
			}
			f.line = f.line[:0]
		}
	}
	return len(b), nil
}
