// Command bench measures what Turnstone promises in figures, on this machine: `go run ./scripts/bench`.
//
// Everything goes through the built programs, as a user would run them: releases are signed and published,
// the launcher downloads, verifies and journals them on a real disk, and clients that never repeat a request
// count what they lose. Only times are shorter than in production, by configuration. The table at the end
// shows the target beside each figure; the exit code is 1 when one is missed.
//
//	-json        the last line on standard output is one JSON object
//	-part NAME   measure only this part (several: separated by commas)
//	-quick       few runs, to try the bench itself; its figures mean little
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

// part is one group of figures.
type part struct {
	name, about string
	run         func(*bench, context.Context) error
}

var parts = []part{
	{"handoff", "switches under load, the payload accepts by itself", (*bench).handoff},
	{"proxy", "switches under load, a program without the SDK behind the TCP proxy", (*bench).proxy},
	{"spawn", "from the fork of a version to its first accept", (*bench).spawn},
	{"rollback", "from the verdict to the traffic on the parked version", (*bench).rollback},
	{"steady", "requests per second with and without a launcher", (*bench).steady},
	{"idle", "what a launcher costs while nothing happens", (*bench).idle},
}

// bench is one run of this program.
type bench struct {
	programs stage.Programs
	quick    bool
	part     string // under way
	figures  []figure
}

func main() {
	asJSON := flag.Bool("json", false, "print one JSON object as the last line")
	only := flag.String("part", "", "measure only these parts, separated by commas")
	quick := flag.Bool("quick", false, "few runs, to try the bench itself")
	flag.Parse()
	chosen, err := choose(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := &bench{quick: *quick}
	err = b.run(ctx, chosen)
	r := b.report()
	r.print(os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		r.Error = err.Error()
	}
	if *asJSON {
		_ = json.NewEncoder(os.Stdout).Encode(r) // the exit code counts
	}
	if err != nil || r.Missed > 0 {
		stop()
		os.Exit(1)
	}
}

// choose returns the parts named, all for "".
func choose(names string) ([]part, error) {
	if names == "" {
		return parts, nil
	}
	var chosen []part
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		if i < 0 {
			var known []string
			for _, p := range parts {
				known = append(known, p.name)
			}
			return nil, fmt.Errorf("no part %q: there are %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, parts[i])
	}
	return chosen, nil
}

func (b *bench) run(ctx context.Context, chosen []part) error {
	begun := time.Now()
	download := exec.CommandContext(ctx, "go", "mod", "download")
	if out, err := download.CombinedOutput(); err != nil {
		return fmt.Errorf("download modules: %w\n%s", err, out)
	}
	dir, err := os.MkdirTemp("", "tsbin")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if b.programs, err = stage.Build(ctx, dir); err != nil {
		return err
	}
	b.say("%s; compiled in %.1f s", thisMachine(), time.Since(begun).Seconds())
	for _, p := range chosen {
		b.say("\n== %s: %s (load average %s)", p.name, p.about, loadAverage())
		b.part = p.name
		begun := time.Now()
		if err := p.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		b.say("%s took %.0f s", p.name, time.Since(begun).Seconds())
	}
	return nil
}

func (b *bench) say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// runs is how often to measure: often, or seldom when the bench itself is tried.
func (b *bench) runs(often, seldom int) int {
	if b.quick {
		return seldom
	}
	return often
}
