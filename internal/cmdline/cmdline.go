// Package cmdline makes cobra fail where it would pass over a mistake.
package cmdline

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// Strict gives root a help that fails for a command that does not exist, with that description, and a completion that
// fails for a shell that it does not know, or for none. It comes after SetOut, where the scripts are printed to.
func Strict(root *cobra.Command, help string) {
	root.SetHelpCommand(helpCommand(help))
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

func helpCommand(short string) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: short,
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
