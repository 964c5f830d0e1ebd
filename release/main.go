// Command release is the pipeline's side of Turnstone: it keeps the keys of one product, adds signed
// versions to its channels and publishes them as a folder that any web server can offer.
//
// A product lives in one folder (--dir): product.toml, keys/, draft/ and repo/. repo/ is always a complete,
// signed repository that has been through the same atomic steps as the published one; publish copies it,
// the pointer last. What lacks the signatures of keys that are elsewhere waits in draft/ and is not part of
// repo/ until sign has completed it.
//
// It does not build programs, does not upload by itself on a schedule, and never deletes what was published.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"
)

func init() { cobra.EnableCommandSorting = false } // help lists commands in the order of use

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// version is set by the linker: -X main.version=1.0.0.
var version = "0.0.0-dev"

// run is the whole program. What it prints on stdout is either text or, with --json, exactly one object.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{stdout: stdout, stderr: stderr}
	a.json = slices.Contains(args, "--json") // also when the rest of the command line cannot be read
	root := a.newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	strictCompletion(root)
	cmd, err := root.ExecuteContextC(ctx)
	a.command = commandName(cmd)
	return a.finish(err)
}

func (a *app) newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "release",
		Short: "Sign and publish the versions of a product",
		Long: "Sign and publish the versions of a product.\n\n" +
			"A first release, from nothing:\n" +
			"  release init acme-agent\n" +
			"  release add 1.0.0 dist/acme-agent_1.0.0_*\n" +
			"  release publish --to dir:./public\n" +
			"  release verify ./public\n\n" + exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codeVerify, codeDownload, codePreflight),
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
	}
	root.SetVersionTemplate("turnstone release {{.Version}}\n")
	root.SetHelpCommand(helpCommand())
	flags := root.PersistentFlags()
	flags.StringVar(&a.dir, "dir", ".", "folder of the product (product.toml, keys/, repo/)")
	flags.StringVar(&a.passphraseFile, "passphrase-file", "", "file with the passphrase of encrypted keys (else $RELEASE_PASSPHRASE, else a prompt)")
	flags.BoolVar(&a.json, "json", a.json, "print one JSON object")
	flags.Lookup("json").DefValue = "false" // for the help
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(a.initCommand(), a.keysCommand(), a.channelCommand(), a.addCommand(), a.signCommand(), a.publishCommand(),
		a.promoteCommand(), a.yankCommand(), a.rolloutCommand(), a.floorCommand(), a.verifyCommand(), a.bundleCommand(), a.mirrorCommand(), a.serveCommand())
	return root
}

// helpCommand is cobra's, but asked about a command that does not exist it fails.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = fmt.Errorf("unknown command %q for %q", rest[0], about.CommandPath())
			}
			if err != nil {
				return err
			}
			return about.Help()
		},
	}
}

// strictCompletion makes cobra's completion fail when it is asked for a shell that it does not know, or for none. It
// comes after SetOut, where the scripts are printed to.
func strictCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.Args = cobra.ArbitraryArgs
			cmd.RunE = func(*cobra.Command, []string) error {
				return errors.New("name the shell: bash, zsh, fish or powershell")
			}
		}
	}
}
