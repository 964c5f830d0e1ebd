package cmdline

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// What cobra would pass over with a help page and exit code 0 is a mistake that is named.
func TestStrict(t *testing.T) {
	for line, want := range map[string]string{
		"help":              "",
		"help go":           "",
		"help gone":         `unknown command "gone"`,
		"help go on":        `unknown command "on" for "program go"`,
		"completion bash":   "",
		"completion":        "name the shell",
		"completion cshell": "name the shell",
	} {
		root := &cobra.Command{Use: "program", SilenceErrors: true, SilenceUsage: true}
		root.AddCommand(&cobra.Command{Use: "go", Run: func(*cobra.Command, []string) {}})
		root.SetOut(io.Discard)
		root.SetArgs(strings.Fields(line))
		Strict(root, "help about any command")
		err := root.Execute()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}
