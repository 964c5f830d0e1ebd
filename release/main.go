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
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/internal/cmdline"
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
	cmdline.Strict(root, "Help about any command")
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
