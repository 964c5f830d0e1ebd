package main

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/turnstone-go/turnstone/manifest"
)

func (a *app) rolloutCommand() *cobra.Command {
	var text string
	var channels []string
	cmd := &cobra.Command{
		Use:   "rollout VERSION --share 25%",
		Short: "Offer a version to a share of the hosts: more of them, fewer, or none",
		Long: "Set the share of hosts that may choose a version, in every channel that offers it or in those given. Each\n" +
			"host has its place in the rollout of each version, so 25% after 10% is the same hosts and others. 0% stops\n" +
			"a rollout; hosts that run the version keep it ('release yank' takes it back).\n\n" +
			exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codePreflight),
		Example: "  release rollout 1.4.0 --share 5%\n  release rollout 1.4.0 --share 100% --channel stable",
		Args:    cobra.ExactArgs(1),
		RunE: a.runE(func(ctx context.Context, args []string) (answer, error) {
			if err := checkVersion(args[0]); err != nil {
				return nil, err
			}
			share, err := parseShare(text)
			if err != nil {
				return nil, err
			}
			return a.held(func(w *workspace) (answer, error) { return w.rollout(ctx, args[0], share, channels) })
		}),
	}
	cmd.Flags().StringVar(&text, "share", "", "share of the hosts: 0% to 100%, at most two digits after the point")
	cmd.Flags().StringArrayVar(&channels, "channel", nil, "only in this channel; may be given several times")
	_ = cmd.MarkFlagRequired("share") // defined above
	return cmd
}

var shareRule = regexp.MustCompile(`^([0-9]{1,3})(?:\.([0-9]{1,2}))? ?%$`)

// parseShare reads a percentage as basis points, without a float between.
func parseShare(text string) (int, error) {
	part := shareRule.FindStringSubmatch(text)
	if part == nil {
		return 0, usage("--share %q: write it as 25%% or 0.5%%", text)
	}
	whole, _ := strconv.Atoi(part[1])                   // digits, by the rule
	hundredths, _ := strconv.Atoi((part[2] + "00")[:2]) // likewise
	if share := whole*100 + hundredths; share <= manifest.AllHosts {
		return share, nil
	}
	return 0, usage("--share %s: no more than 100%%", text)
}

// percent prints basis points as parseShare reads them.
func percent(share int) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%d.%02d", share/100, share%100), "0"), ".") + "%"
}

// whom names the hosts of channels, or the share of them.
func whom(share int, channels ...string) string {
	if share == manifest.AllHosts {
		return strings.Join(channels, ", ")
	}
	return percent(share) + " of " + strings.Join(channels, ", ")
}

// rolled is the answer of rollout.
type rolled struct {
	Version  string   `json:"version"`
	Share    int      `json:"share"`    // in basis points
	Channels []string `json:"channels"` // those that changed
	pending
}

func (r rolled) text(w io.Writer) {
	line(w, "rollout", "%s to %s of %s", r.Version, percent(r.Share), strings.Join(r.Channels, ", "))
	r.next(w, "release publish --to dir:PATH")
}

func (w *workspace) rollout(ctx context.Context, version string, share int, channels []string) (answer, error) {
	change := func(c *manifest.Channel, i int) (bool, error) {
		if reason := c.Offers[i].Yanked; reason != "" {
			return false, refuse("%s was yanked from %s (%s): give the repaired build a new number", version, c.Name, reason)
		}
		changed := c.Offers[i].Share != share
		c.Offers[i].Share = share
		return changed, nil
	}
	set, changed, err := w.eachOffer(ctx, version, channels, change)
	if err != nil {
		return nil, err
	}
	if len(changed) == 0 {
		return nil, nothing("%s is offered to %s already", version, percent(share))
	}
	missing, err := w.renewAndCommit(ctx, set, changed)
	return rolled{Version: version, Share: share, Channels: changed, pending: pending{missing}}, err
}

func (a *app) floorCommand() *cobra.Command {
	var channels []string
	cmd := &cobra.Command{
		Use:   "floor VERSION",
		Short: "Let no host update to any version older than this one",
		Long: "Raise min_epoch to that of a version, in every channel that offers it or in those given: no host updates to an\n" +
			"older one any more, by itself or by an operator's order, because it has a hole that must not come back.\n" +
			"Hosts that run an older one keep it until they are updated, and may go back to one that they have on disk.\n" +
			"A floor is never lowered.\n\n" +
			exitHelp(codeOK, codeFailed, codeUsage, codeNothing, codePreflight),
		Args: cobra.ExactArgs(1),
		RunE: a.runE(func(ctx context.Context, args []string) (answer, error) {
			if err := checkVersion(args[0]); err != nil {
				return nil, err
			}
			return a.held(func(w *workspace) (answer, error) { return w.floor(ctx, args[0], channels) })
		}),
	}
	cmd.Flags().StringArrayVar(&channels, "channel", nil, "only in this channel; may be given several times")
	return cmd
}

// floored is the answer of floor.
type floored struct {
	Version  string   `json:"version"`
	MinEpoch uint64   `json:"min_epoch"`
	Channels []string `json:"channels"` // those that changed
	pending
}

func (f floored) text(w io.Writer) {
	line(w, "floor", "nothing older than %s (epoch %d) in %s", f.Version, f.MinEpoch, strings.Join(f.Channels, ", "))
	f.next(w, "release publish --to dir:PATH")
}

func (w *workspace) floor(ctx context.Context, version string, channels []string) (answer, error) {
	var epoch uint64
	change := func(c *manifest.Channel, i int) (bool, error) {
		if reason := c.Offers[i].Yanked; reason != "" {
			return false, refuse("%s was yanked from %s (%s): a floor there would leave hosts nothing to go to", version, c.Name, reason)
		}
		epoch = c.Offers[i].Epoch
		changed := c.MinEpoch < epoch
		c.MinEpoch = max(c.MinEpoch, epoch)
		return changed, nil
	}
	set, changed, err := w.eachOffer(ctx, version, channels, change)
	if err != nil {
		return nil, err
	}
	if len(changed) == 0 {
		return nil, nothing("the floor is at %s or above already", version)
	}
	missing, err := w.renewAndCommit(ctx, set, changed)
	return floored{Version: version, MinEpoch: epoch, Channels: changed, pending: pending{missing}}, err
}

// eachOffer changes the offer of a version in the channels given, else in all that have it, and returns those
// that changed. The offer has the index that change gets.
func (w *workspace) eachOffer(ctx context.Context, version string, channels []string, change func(c *manifest.Channel, i int) (bool, error)) (*manifest.Set, []string, error) {
	for _, name := range channels {
		if err := w.product.channel(name); err != nil {
			return nil, nil, err
		}
	}
	set, err := w.load(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(channels) == 0 {
		channels = w.product.Channels
	}
	known, changed := false, []string{}
	for _, name := range channels {
		c, err := loadChannel(set, w.product.Name, name)
		if err != nil {
			return nil, nil, err
		}
		i := slices.IndexFunc(c.Offers, func(o manifest.Offer) bool { return o.Version == version })
		if i < 0 {
			continue
		}
		known = true
		did, err := change(&c, i)
		if err != nil {
			return nil, nil, err
		}
		if !did {
			continue
		}
		if err := saveChannel(set, c); err != nil {
			return nil, nil, err
		}
		changed = append(changed, name)
	}
	if !known {
		return nil, nil, refuse("%s is not offered in %s: 'release verify' on the published repository lists what is", version, strings.Join(channels, " or "))
	}
	return set, changed, nil
}

// renewAndCommit signs channels and those that name their versions, and commits.
func (w *workspace) renewAndCommit(ctx context.Context, set *manifest.Set, channels []string) (map[string]int, error) {
	if err := w.renew(set, channels...); err != nil {
		return nil, err
	}
	return w.commit(ctx, set)
}
