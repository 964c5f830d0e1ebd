package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/manifest"
)

func (a *app) promoteCommand() *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use:   "promote VERSION --from beta --to stable",
		Short: "Offer a version of one channel in another one too",
		Long: "Offer a version of one channel in another one too. The same signed documents and bytes are offered:\n" +
			"only the channel's own list is signed. Readers see it after 'release publish'.\n\n" +
			exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codePreflight),
		Args: cobra.ExactArgs(1),
		RunE: a.runE(func(ctx context.Context, args []string) (answer, error) {
			w, err := a.open()
			if err != nil {
				return nil, err
			}
			defer w.close()
			return w.promote(ctx, args[0], from, to)
		}),
	}
	cmd.Flags().StringVar(&from, "from", "", "channel that has the version")
	cmd.Flags().StringVar(&to, "to", "", "channel that shall have it too")
	_ = cmd.MarkFlagRequired("from") // defined above
	_ = cmd.MarkFlagRequired("to")   // defined above
	return cmd
}

// changed is the answer of promote and yank.
type changed struct {
	Version  string   `json:"version"`
	Channels []string `json:"channels"` // those that changed
	From     string   `json:"from,omitempty"`
	Yanked   string   `json:"yanked,omitempty"`
	pending
}

func (c changed) text(w io.Writer) {
	if c.Yanked != "" {
		line(w, "yank", "%s from %s: %s", c.Version, strings.Join(c.Channels, ", "), c.Yanked)
	} else {
		line(w, "promote", "%s from %s to %s", c.Version, c.From, strings.Join(c.Channels, ", "))
	}
	c.next(w, "release publish --to dir:PATH")
}

func (w *workspace) promote(ctx context.Context, version, from, to string) (answer, error) {
	for _, name := range []string{from, to} {
		if err := w.product.channel(name); err != nil {
			return nil, err
		}
	}
	if from == to {
		return nil, usage("--from and --to are both %s", to)
	}
	set, err := w.load(ctx)
	if err != nil {
		return nil, err
	}
	release, data, there, err := loadRelease(set, from, version)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, refuse("channel %s has no version %s: it has %s", from, version, versions(set, from))
	}
	if err := w.checkPromotion(set, version, from, to); err != nil {
		return nil, err
	}
	if err := offer(set, w.product.Name, to, release, data); err != nil {
		return nil, err
	}
	return w.change(ctx, set, changed{Version: version, Channels: []string{to}, From: from})
}

func (w *workspace) checkPromotion(set *manifest.Set, version, from, to string) error {
	source, err := loadChannel(set, w.product.Name, from)
	if err != nil {
		return err
	}
	if offer, _ := source.Offer(version); offer.Yanked != "" {
		return refuse("%s was yanked from %s (%s): give the repaired build a new number", version, from, offer.Yanked)
	}
	target, err := loadChannel(set, w.product.Name, to)
	if err != nil {
		return err
	}
	if _, there := target.Offer(version); there {
		return nothing("%s offers %s already", to, version)
	}
	return nil
}

func versions(set *manifest.Set, channel string) string {
	c, err := loadChannel(set, set.Product(), channel)
	if err != nil || len(c.Offers) == 0 {
		return "none"
	}
	var list []string
	for _, o := range c.Offers {
		list = append(list, o.Version)
	}
	return strings.Join(list[:min(len(list), 10)], ", ")
}

func (a *app) yankCommand() *cobra.Command {
	var reason string
	var channels []string
	cmd := &cobra.Command{
		Use:   "yank VERSION --reason TEXT",
		Short: "Take a version back: no host chooses it any more",
		Long: "Take a version back in every channel that offers it, or in those given. Hosts do not choose it any more,\n" +
			"and one that has it in probation goes back. Its files stay. Readers see it after 'release publish'.\n\n" +
			exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codePreflight),
		Args: cobra.ExactArgs(1),
		RunE: a.runE(func(ctx context.Context, args []string) (answer, error) {
			reason = strings.TrimSpace(reason)
			if reason == "" || strings.ContainsAny(reason, "\r\n") {
				return nil, usage("--reason: one line that tells operators why")
			}
			w, err := a.open()
			if err != nil {
				return nil, err
			}
			defer w.close()
			return w.yank(ctx, args[0], reason, channels)
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the operators who will read it (one line)")
	cmd.Flags().StringArrayVar(&channels, "channel", nil, "only in this channel; may be given several times")
	_ = cmd.MarkFlagRequired("reason") // defined above
	return cmd
}

func (w *workspace) yank(ctx context.Context, version, reason string, channels []string) (answer, error) {
	for _, name := range channels {
		if err := w.product.channel(name); err != nil {
			return nil, err
		}
	}
	if len(channels) == 0 {
		channels = w.product.Channels
	}
	set, err := w.load(ctx)
	if err != nil {
		return nil, err
	}
	result := changed{Version: version, Yanked: reason}
	known := false
	for _, name := range channels {
		there, did, err := yankFrom(set, w.product.Name, name, version, reason)
		if err != nil {
			return nil, err
		}
		known = known || there
		if did {
			result.Channels = append(result.Channels, name)
		}
	}
	if !known {
		return nil, refuse("no channel of %s offers %s", strings.Join(channels, ", "), version)
	}
	if len(result.Channels) == 0 {
		return nil, nothing("%s is yanked already", version)
	}
	return w.change(ctx, set, result)
}

// yankFrom marks a version in one channel. A reason once given stays.
func yankFrom(set *manifest.Set, product, channel, version, reason string) (there, did bool, err error) {
	c, err := loadChannel(set, product, channel)
	if err != nil {
		return false, false, err
	}
	i := slices.IndexFunc(c.Offers, func(o manifest.Offer) bool { return o.Version == version })
	if i < 0 {
		return false, false, nil
	}
	if c.Offers[i].Yanked != "" {
		return true, false, nil
	}
	c.Offers[i].Yanked = reason
	return true, true, saveChannel(set, c)
}

// change signs the channels of result and commits.
func (w *workspace) change(ctx context.Context, set *manifest.Set, result changed) (answer, error) {
	if err := w.renew(set, result.Channels...); err != nil {
		return nil, err
	}
	missing, err := w.commit(ctx, set)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", result.Version, err)
	}
	result.Missing = missing
	return result, nil
}
