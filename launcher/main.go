// Command launcher keeps one service running while its program changes underneath it, and is at the same
// time the operator's command line to the launcher that runs.
//
// The package is wiring: it reads the configuration, builds the parts, and prints what they say. What an
// update may do and in which order is decided in package updater; who gets a connection, in launcher/relay.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/turnstone-go/turnstone/internal/cmdline"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/launcher/host"
)

func main() {
	if err := host.Harden(); err != nil {
		fmt.Fprintln(os.Stderr, "launcher: cannot restrict where system libraries come from:", err)
		os.Exit(int(control.Internal))
	}
	firstAct(os.Args)
	ctx, stop := host.Interruptible(context.Background(), len(os.Args) > 1 && os.Args[1] == host.Verb)
	code := execute(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(host.Status(code))
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, argv []string, stdout, stderr io.Writer) int {
	a := &app{program: programName(argv), beside: programFolder(argv), stdout: stdout, stderr: stderr}
	root := newRoot(a)
	root.SetArgs(argv[1:])
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmdline.Strict(root, "help about any command")
	cmd, err := root.ExecuteContextC(ctx)
	a.json = a.json || a.command == "" && slices.Contains(argv, "--json") // a mistake in front of it hides it from the parser
	if err != nil && a.command == "" {
		a.command = commandName(cmd)
		text := strings.Join(strings.Fields(err.Error()), " ")
		if strings.Contains(text, ": time: ") { // what time.ParseDuration says has no example
			text += ": write 90m or 48h"
		}
		err = exit(control.Usage, "%s (see %s --help)", text, cmd.CommandPath())
	}
	return int(a.finish(err))
}

// programFolder is where the launcher was called: a link there counts, not what it leads to. It is "" if that
// cannot be found.
func programFolder(argv []string) string {
	if len(argv) == 0 {
		return ""
	}
	file, err := exec.LookPath(argv[0])
	if err == nil {
		file, err = filepath.Abs(file)
	}
	if err != nil {
		return ""
	}
	return filepath.Dir(file)
}

// programName is what the user called the launcher, which vendors name after their product.
func programName(argv []string) string {
	if len(argv) == 0 || argv[0] == "" {
		return "launcher"
	}
	return strings.TrimSuffix(filepath.Base(argv[0]), ".exe")
}
