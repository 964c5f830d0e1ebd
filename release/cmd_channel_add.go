package main

import (
	"context"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/manifest"
)

func (a *app) channelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "channel",
		Short: "Give the product one more channel",
		Args:  cobra.NoArgs,
		Long:  "Give the product one more channel: 'release channel add'. A channel is never removed, since hosts would take\nmetadata that no longer names it for an older one.\n\n" + exitHelp(codeOK, codeUsage),
		RunE: a.runE(func(context.Context, []string) (answer, error) {
			return nil, usage("say which: release channel add NAME")
		}),
	}
	cmd.AddCommand(a.channelAddCommand())
	return cmd
}

func (a *app) channelAddCommand() *cobra.Command {
	var o origin
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Give the product one more channel, with a key of its own",
		Long: "Give the product one more channel, with a key of its own that can sign nothing else. 'release keys add NAME\n" +
			"--threshold 2' makes it one that needs two. Two of targets sign. Launchers of the channel are configured\n" +
			"with its name.\n" + keysHelp + exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codePreflight),
		Args: cobra.ExactArgs(1),
		RunE: a.runE(func(ctx context.Context, args []string) (answer, error) {
			if err := o.check(); err != nil {
				return nil, err
			}
			return a.held(func(w *workspace) (answer, error) { return w.addChannel(ctx, args[0], o) })
		}),
	}
	o.flags(cmd)
	return cmd
}

// channelMade is the answer of channel add.
type channelMade struct {
	Channel string   `json:"channel"`
	Key     keyState `json:"key"`
	pending
}

func (c channelMade) text(w io.Writer) {
	line(w, "channel", "%s", c.Channel)
	line(w, "key", "%v", c.Key)
	c.next(w, "release publish --to dir:PATH, and print RECOVERY.txt anew")
}

// addChannel writes the product file last, and again after a command that was interrupted before that.
func (w *workspace) addChannel(ctx context.Context, name string, o origin) (answer, error) {
	listed := slices.Contains(w.product.Channels, name)
	w.product.Channels = slices.DeleteFunc(w.product.Channels, func(c string) bool { return c == name })
	set, err := w.load(ctx) // puts the name back if it is signed
	if err != nil {
		return nil, err
	}
	if slices.Contains(set.Channels(), name) {
		if !listed {
			return nil, w.product.save(w.disk, w.path)
		}
		return nil, nothing("%s has the channel %s already", w.product.Name, name)
	}
	w.product.Channels = append(w.product.Channels, name)
	if err := w.product.check(); err != nil {
		return nil, err
	}
	w.product.Channels = w.product.Channels[:len(w.product.Channels)-1] // while nobody has signed it
	return w.signChannel(ctx, set, name, o)
}

func (w *workspace) signChannel(ctx context.Context, set *manifest.Set, name string, o origin) (answer, error) {
	made := channelMade{Channel: name}
	keyed := *w // its product has the channel, so that its key has a role
	keyed.product.Channels = append(slices.Clone(w.product.Channels), name)
	public, state, err := keyed.makeKey(name, o, nil)
	if err != nil {
		return nil, err
	}
	w.product = keyed.product
	made.Key = *state
	if err := set.SetKeys(name, manifest.RoleKeys{Keys: []manifest.PublicKey{public}, Threshold: 1}); err != nil {
		return nil, err
	}
	if err := saveChannel(set, manifest.Channel{Schema: manifest.Schema, Product: w.product.Name, Name: name}); err != nil {
		return nil, err
	}
	made.Missing, err = w.renewAndCommit(ctx, set, []string{manifest.RoleTargets, name})
	return made, err
}
