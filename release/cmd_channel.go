package main

import (
	"context"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/manifest"
)

func (a *app) promoteCommand() *cobra.Command {
	var from, to, text string
	cmd := &cobra.Command{
		Use:   "promote VERSION --from beta --to stable",
		Short: "Offer a version of one channel in another one too",
		Long: "Offer a version of one channel in another one too. The same signed documents and bytes are offered:\n" +
			"only the channel's own list is signed. Readers see it after 'release publish'.\n\n" +
			exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codePreflight),
		Args: cobra.ExactArgs(1),
		RunE: a.runE(func(ctx context.Context, args []string) (answer, error) {
			if err := checkVersion(args[0]); err != nil {
				return nil, err
			}
			share, err := parseShare(text)
			if err != nil {
				return nil, err
			}
			return a.held(func(w *workspace) (answer, error) { return w.promote(ctx, args[0], from, to, share) })
		}),
	}
	cmd.Flags().StringVar(&from, "from", "", "channel that has the version")
	cmd.Flags().StringVar(&to, "to", "", "channel that shall have it too")
	cmd.Flags().StringVar(&text, "share", "100%", "share of that channel's hosts; 'release rollout' changes it later")
	_ = cmd.MarkFlagRequired("from") // defined above
	_ = cmd.MarkFlagRequired("to")   // defined above
	return cmd
}

// changed is the answer of promote and yank.
type changed struct {
	Version  string   `json:"version"`
	Channels []string `json:"channels"` // those that changed
	From     string   `json:"from,omitempty"`
	Share    int      `json:"share,omitempty"` // of a promotion, in basis points
	Yanked   string   `json:"yanked,omitempty"`
	pending
}

func (c changed) text(w io.Writer) {
	if c.Yanked != "" {
		line(w, "yank", "%s from %s: %s", c.Version, strings.Join(c.Channels, ", "), c.Yanked)
	} else {
		line(w, "promote", "%s from %s to %s", c.Version, c.From, whom(c.Share, c.Channels...))
	}
	c.next(w, "release publish --to dir:PATH")
}

func (w *workspace) promote(ctx context.Context, version, from, to string, share int) (answer, error) {
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
	if err := offer(set, to, release, data, share); err != nil {
		return nil, err
	}
	missing, err := w.renewAndCommit(ctx, set, []string{to})
	return changed{Version: version, Channels: []string{to}, From: from, Share: share, pending: pending{missing}}, err
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
	if o, there := target.Offer(version); there {
		return nothing("%s offers %s to %s of its hosts already ('release rollout' changes the share)", to, version, percent(o.Share))
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

const reasonLimit = 1 << 10

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
			if err := checkVersion(args[0]); err != nil {
				return nil, err
			}
			reason = strings.TrimSpace(reason)
			if reason == "" || len(reason) > reasonLimit || strings.ContainsFunc(reason, unicode.IsControl) || !utf8.ValidString(reason) {
				return nil, usage("--reason: one line that tells operators why, at most %s", size(reasonLimit))
			}
			return a.held(func(w *workspace) (answer, error) { return w.yank(ctx, args[0], reason, channels) })
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the operators who will read it (one line)")
	cmd.Flags().StringArrayVar(&channels, "channel", nil, "only in this channel; may be given several times")
	_ = cmd.MarkFlagRequired("reason") // defined above
	return cmd
}

func (w *workspace) yank(ctx context.Context, version, reason string, channels []string) (answer, error) {
	mark := func(c *manifest.Channel, i int) (bool, error) {
		if c.Offers[i].Yanked != "" {
			return false, nil // a reason once given stays
		}
		c.Offers[i].Yanked = reason
		return true, nil
	}
	set, channels, err := w.eachOffer(ctx, version, channels, mark)
	if err != nil {
		return nil, err
	}
	if len(channels) == 0 {
		return nil, nothing("%s is yanked already", version)
	}
	missing, err := w.renewAndCommit(ctx, set, channels)
	return changed{Version: version, Channels: channels, Yanked: reason, pending: pending{missing}}, err
}
