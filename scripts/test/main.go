// Command test runs everything that Turnstone promises, from a bare machine: `go run ./scripts/test`.
//
// It installs what the tests need (Debian packages, where it may), then runs its parts in order and goes
// on after a failure, so that one run shows all. It exits 1 if any part failed. With CI=true a part that
// could not run is a failure; elsewhere it is named as skipped, with the reason.
//
//	-part NAME   run only the parts whose name contains NAME
//	-list        print the parts
//	-mutate      run only the part that takes out each defence of docs/FAILURES.md and demands that its test fails
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

// part is one thing that must hold.
type part struct {
	name  string
	bound time.Duration
	run   func(context.Context) error
}

var parts = []part{
	{"tools", 20 * time.Minute, tools},
	{"format", time.Minute, format},
	{"tidy", 2 * time.Minute, tidy},
	{"vet linux", 5 * time.Minute, vet("linux")},
	{"vet windows", 5 * time.Minute, vet("windows")},
	{"lint linux", 10 * time.Minute, lint("linux")},
	{"lint windows", 10 * time.Minute, lint("windows")},
	{"cross build", 10 * time.Minute, crossBuild},
	{"tests", 25 * time.Minute, tests},
	{"mutate", 20 * time.Minute, mutate},
	{"end to end", 58 * time.Minute, endToEnd},
	{"windows", 30 * time.Minute, onWindows},
	{"race", 20 * time.Minute, race},
	{"fuzz", 25 * time.Minute, fuzz},
	{"demo", 10 * time.Minute, demo()},
	{"demo windows", 10 * time.Minute, demo("-windows")},
}

// errSkipped is wrapped by a part that this machine cannot run, with what is missing.
var errSkipped = errors.New("skipped")

func main() {
	only := flag.String("part", "", "run only the parts whose name contains `NAME`")
	list := flag.Bool("list", false, "print the parts")
	mutants := flag.Bool("mutate", false, "take out each defence of docs/FAILURES.md and demand that its test fails")
	flag.Parse()
	if *mutants {
		*only = "mutate"
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *list {
		for _, p := range parts {
			fmt.Println(p.name)
		}
		return
	}
	if !slices.ContainsFunc(parts, func(p part) bool { return strings.Contains(p.name, *only) }) {
		fmt.Fprintf(os.Stderr, "no part has %q in its name: -list prints them\n", *only)
		os.Exit(2)
	}
	if !runAll(ctx, *only) {
		os.Exit(1)
	}
}

// runAll runs the parts and prints what became of each at the end.
func runAll(ctx context.Context, only string) bool {
	var summary []string
	passed, failed, skipped := 0, 0, 0
	for _, p := range parts {
		if !strings.Contains(p.name, only) || ctx.Err() != nil {
			continue
		}
		fmt.Printf("=== %s\n", p.name)
		begun := time.Now()
		err := bounded(ctx, p)
		line := fmt.Sprintf("%-14s %7s  ", p.name, time.Since(begun).Round(100*time.Millisecond))
		switch {
		case err == nil:
			passed++
			line += "ok"
		case errors.Is(err, errSkipped) && os.Getenv("CI") != "true":
			skipped++
			line += err.Error()
		default:
			failed++
			line += "FAILED: " + err.Error()
		}
		fmt.Println(line)
		summary = append(summary, line)
	}
	fmt.Printf("\n%s\n\n%d passed, %d failed, %d skipped\n", strings.Join(summary, "\n"), passed, failed, skipped)
	return failed == 0 && passed > 0
}

func bounded(ctx context.Context, p part) error {
	ctx, cancel := context.WithTimeout(ctx, p.bound)
	defer cancel()
	return p.run(ctx)
}
