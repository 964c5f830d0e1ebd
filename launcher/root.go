package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/control"
)

func init() { cobra.EnableCommandSorting = false } // help lists commands in the order of use

// newRoot makes the whole command line. It prints nothing by itself: finish does, so that --json and the
// exit code are right for every way to end.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           a.program,
		Short:         "keeps a service running while its program changes underneath it",
		Long:          "Keeps a service running while its program changes underneath it.\n\n" + exitHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	asked := root.Flags().BoolP("version", "v", false, "version for "+a.program)
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *asked {
			_, err := fmt.Fprintln(a.stdout, versionText+version)
			return err
		}
		return cmd.Help()
	}
	root.PersistentFlags().StringVar(&a.config, "config", "", "configuration file (default: ./launcher.toml, the one beside this program, then "+usualConfig(a.program)+")")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print one JSON object instead of text")
	root.AddGroup(
		&cobra.Group{ID: "see", Title: "See:"},
		&cobra.Group{ID: "change", Title: "Change:"},
		&cobra.Group{ID: "run", Title: "Run:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("see", a.statusCmd(), a.checkCmd(), a.whyCmd(), a.watchCmd(), a.historyCmd(), a.metricsCmd(), a.stacksCmd())
	add("change", a.updateCmd(), a.rollbackCmd(), a.pinCmd(), a.unpinCmd(), a.pauseCmd(), a.resumeCmd(), a.bundleCmd(), a.quarantineCmd(), a.selfUpdateCmd())
	add("run", a.runCmd(), a.configCmd(), a.installCmd(), a.uninstallCmd(), a.startCmd(), a.stopCmd(), a.restartCmd(), a.doctorCmd())
	pointToCodes(root, a.program)
	root.AddCommand(a.execChildCmd(), a.ctrlCCmd(), a.runServiceCmd(), a.reapCmd(), a.guardCmd(), a.guardServiceCmd())
	return root
}

// pointToCodes ends the help of every command with its exit codes, or with where they are listed.
func pointToCodes(parent *cobra.Command, program string) {
	for _, c := range parent.Commands() {
		pointToCodes(c, program)
		if !strings.Contains(c.Long, exitHelp) {
			c.Long = cmp.Or(c.Long, c.Short) + "\n\nExit codes: " + program + " --help lists them."
		}
	}
}

// place is what a command of the operator needs to know of the installation.
type place struct {
	program string
	cfg     Config
	client  *control.Client
	disk    durable.Disk
}

// open finds the installation. A configuration with mistakes elsewhere is enough to find the running
// launcher, which goes on with the one that it read when it started.
func (a *app) open() (place, error) {
	cfg, err := a.load()
	var bad *configError
	if errors.As(err, &bad) && cfg.Product != "" && cfg.State.Dir != "" && cfg.Control.Socket != "" {
		err = nil
	}
	if err != nil {
		return place{}, err
	}
	return place{program: a.program, cfg: cfg, client: control.NewClient(cfg.Control.Socket), disk: durable.OS()}, nil
}

// load reads the configuration that was named, or the one in a usual place.
func (a *app) load() (Config, error) {
	name := a.config
	if name == "" {
		var err error
		if name, err = findConfig(a.program, a.beside); err != nil {
			return Config{}, err
		}
	}
	return loadConfig(name)
}
