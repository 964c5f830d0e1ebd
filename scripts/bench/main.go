// Command bench measures what Turnstone promises in figures, on this machine: `go run ./scripts/bench`.
//
// Everything goes through the built programs, as a user would run them: releases are signed and published,
// the launcher downloads, verifies and journals them on a real disk, and clients that never repeat a request
// count what they lose. Only times are shorter than in production, by configuration. The table at the end
// shows the target beside each figure; the exit code is 1 when one is missed.
//
//	-json        the last line on standard output is one JSON object
//	-list        print the parts
//	-part NAME   measure only this part (several: separated by commas)
//	-quick       few runs, to try the bench itself; its figures mean little
//	-windows     the launcher is a service of Windows, under Wine; the clients stay on this computer. Only what
//	             says something about Windows is measured then: losses at switches, and ratios
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
	windows     bool // it can be measured there too
}

var allParts = []part{
	{"handoff", "switches under load, the payload accepts by itself", (*bench).handoff, true},
	{"proxy", "switches under load, a program without the SDK behind the TCP proxy", (*bench).proxy, true},
	{"spawn", "from the fork of a version to its first accept", (*bench).spawn, false},
	{"rollback", "from the verdict to the traffic on the parked version", (*bench).rollback, false},
	{"steady", "requests per second with and without a launcher", (*bench).steady, true},
	{"idle", "what a launcher costs while nothing happens", (*bench).idle, false},
	{"delta", "patches between two releases of a program of 50 MB", (*bench).delta, false},
}

// bench is one run of this program.
type bench struct {
	programs stage.Programs
	quick    bool
	windows  bool
	part     string // under way
	figures  []figure
}

func main() {
	if text := os.Getenv(applyEnv); text != "" { // a process to be measured
		if err := applyHere(text); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		return
	}
	asJSON := flag.Bool("json", false, "print one JSON object as the last line")
	list := flag.Bool("list", false, "print the parts")
	only := flag.String("part", "", "measure only the parts `NAME,NAME`")
	quick := flag.Bool("quick", false, "few runs, to try the bench itself")
	onWindows := flag.Bool("windows", false, "measure the launcher as a service of Windows, under Wine")
	flag.Parse()
	if *list {
		for _, p := range allParts {
			fmt.Printf("%-9s %s\n", p.name, p.about)
		}
		return
	}
	chosen, err := choose(*only, *onWindows)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := &bench{quick: *quick, windows: *onWindows}
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

// choose returns the parts named, all for "", of those that can be measured on Windows or of all.
func choose(names string, windows bool) ([]part, error) {
	var parts, chosen []part
	for _, p := range allParts {
		if p.windows || !windows {
			parts = append(parts, p)
		}
	}
	if names == "" {
		return parts, nil
	}
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
	build := stage.Build
	if b.windows {
		build = stage.BuildWindows
	}
	if b.programs, err = build(ctx, dir); err != nil {
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
