// Command demo shows the main job on this machine: `go run ./scripts/demo`.
//
// It makes a product with its keys, publishes version 1.0.0 and runs it under the launcher, puts HTTP load
// on it, and publishes three more: 1.1.0, which is good; 1.2.0, which crashes in its probation; and 1.3.0,
// whose health fails. Every process, socket, signature and file is real; only the probation is shorter than
// in production. Everything happens in a temporary folder and on loopback.
//
//	-json      the last line on standard output is one JSON object; the story goes to standard error
//	-keep      leave the folder for a look around
//	-windows   the launcher is a service of a Windows of its own (Wine): its service control manager
//	           starts and stops it, and the load comes from this computer
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
)

func main() {
	asJSON := flag.Bool("json", false, "print one JSON object as the last line")
	keep := flag.Bool("keep", false, "leave the folder for a look around")
	onWindows := flag.Bool("windows", false, "run the launcher as a service of Windows, under Wine")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *keep && *onWindows {
		fmt.Fprintln(os.Stderr, "demo: -keep and -windows exclude each other: the Windows ends with the demo")
		os.Exit(2)
	}
	d := &demo{out: os.Stdout, keep: *keep, windows: *onWindows}
	if *asJSON {
		d.out = os.Stderr
	}
	err := d.run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	if *asJSON {
		_ = json.NewEncoder(os.Stdout).Encode(d.result) // the exit code counts
	}
	if d.result.Refused+d.result.Failed+d.result.Retryable > 0 {
		os.Exit(1)
	}
}

// result is the last line.
type result struct {
	Requests   int     `json:"requests"`
	Refused    int     `json:"refused"`
	Failed     int     `json:"failed"`
	Retryable  int     `json:"retryable"`
	CutByCrash int     `json:"cut_by_crash"`
	Switches   int     `json:"switches"`
	Rollbacks  int     `json:"rollbacks"`
	SwitchMS   float64 `json:"switch_ms"`   // the order to switch until all was acknowledged, the slowest
	RollbackMS float64 `json:"rollback_ms"` // from the verdict until the traffic was back, the slowest
	WorstMS    float64 `json:"worst_request_ms"`
	Serving    string  `json:"serving"`
}

type demo struct {
	out     io.Writer
	keep    bool
	windows bool
	machine *stage.Machine // with windows
	stage   *stage.Stage
	result  result
}

// release is one version of the demo's product.
type release struct {
	version, fault string
	about          string
	exit           int // that `update --follow` must end with
}

var releases = []release{
	{"1.0.0", "", "the first version", 0},
	{"1.1.0", "", "a good version", 0},
	{"1.2.0", "exit:1s", "a version that crashes one second after it took over", 20},
	{"1.3.0", "health-fail:500ms", "a version whose health fails after it took over, while its answers stay good", 20},
}

// throttle makes the download of one version take two seconds, so that it can be watched.
const throttle = "3M"

// longest is what the demo may take without compiling. Wine takes its own time.
const longest = time.Minute

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *demo) run(ctx context.Context) (err error) {
	files, programs, err := d.compile(ctx)
	if err != nil {
		return err
	}
	if !d.keep {
		defer os.RemoveAll(programs.Dir)
	}
	begun := time.Now()
	defer func() { err = errors.Join(err, d.close()) }()
	if d.windows {
		if d.machine, err = programs.Boot(ctx); err != nil {
			return err
		}
	}
	if d.stage, err = stage.New(ctx, programs, stage.Options{Throttle: throttle, Machine: d.machine, Service: d.windows}); err != nil {
		return err
	}
	if err := d.first(ctx, files[0]); err != nil {
		return err
	}
	l := load.Start(load.Options{Address: d.stage.Listen, HalfOpen: d.windows, Workers: map[load.Class]int{
		load.KeepAlive: 32, load.Fresh: 16, load.H2: 8, load.Stream: 8,
	}})
	defer l.Stop()
	follower, err := d.stage.Watch(ctx, l)
	if err != nil {
		return err
	}
	defer follower.Close()
	if err := settle(ctx, l); err != nil {
		return err
	}
	for i, r := range releases[1:] {
		if err := d.update(ctx, l, r, files[i+1]); err != nil {
			return err
		}
	}
	if err := settle(ctx, l); err != nil {
		return err
	}
	if err := d.account(ctx, l.Stop()); err != nil {
		return err
	}
	took := time.Since(begun)
	d.say("\n%.1f s without compiling", took.Seconds())
	if took > longest && !d.windows {
		return fmt.Errorf("it took %s without compiling, and promises less than %s: give it a machine that is not busy, or find what became slow", took.Round(time.Second), longest)
	}
	return nil
}

// compile builds the programs and the versions, which is most of the time on a fresh machine.
func (d *demo) compile(ctx context.Context) ([]string, stage.Programs, error) {
	begun := time.Now()
	download := exec.CommandContext(ctx, "go", "mod", "download")
	if out, err := download.CombinedOutput(); err != nil {
		return nil, stage.Programs{}, fmt.Errorf("download modules: %w\n%s", err, out)
	}
	downloaded := time.Since(begun)
	dir, err := os.MkdirTemp("", "tsbin")
	if err != nil {
		return nil, stage.Programs{}, err
	}
	build := stage.Build
	if d.windows {
		build = stage.BuildWindows
	}
	programs, err := build(ctx, dir)
	if err != nil {
		return nil, programs, err
	}
	var files []string
	for _, r := range releases {
		file, err := programs.Example(ctx, r.version, r.fault)
		if err != nil {
			return nil, programs, err
		}
		files = append(files, file)
	}
	d.say("modules %.1f s, compiling %.1f s: launcher, release and four versions of the example", downloaded.Seconds(), (time.Since(begun) - downloaded).Seconds())
	return files, programs, nil
}

// first publishes 1.0.0 and starts the launcher, which installs it.
func (d *demo) first(ctx context.Context, file string) error {
	d.say("\n== a product with its keys, and its first release")
	if err := d.stage.Publish(ctx, releases[0].version, file); err != nil {
		return err
	}
	d.say("published 1.0.0 at %s", d.stage.URL)
	if err := d.stage.Launch(ctx); err != nil {
		return err
	}
	if err := d.stage.Serving(ctx, "1.0.0"); err != nil {
		return err
	}
	if d.windows {
		d.say("the launcher, which net start has started, runs 1.0.0 at http://%s", d.stage.Listen)
		return d.prove(ctx)
	}
	d.say("the launcher (pid %d) runs 1.0.0 at http://%s", d.stage.PID(), d.stage.Listen)
	return nil
}

// prove says in which mode the traffic flows, by the processes that have to do with it.
func (d *demo) prove(ctx context.Context) error {
	p, err := d.stage.Prove(ctx)
	if err == nil {
		d.say("%s", p)
	}
	return err
}

// settle waits until the load flows: five hundred requests, or an error after half a minute.
func settle(ctx context.Context, l *load.Load) error {
	from := l.Report().Requests
	for range 600 {
		if l.Report().Requests > from+500 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return errors.New("the load does not flow")
}

// update publishes r and follows it to its end with the operator's own command.
func (d *demo) update(ctx context.Context, l *load.Load, r release, file string) error {
	d.say("\n== %s: %s", r.version, r.about)
	if err := d.stage.Publish(ctx, r.version, file); err != nil {
		return err
	}
	d.say("load now: %s", l.InFlight())
	cmd := d.stage.Command(ctx, "update", "--now", "--follow")
	cmd.Stdout, cmd.Stderr = d.out, d.out
	err := cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != r.exit {
		return fmt.Errorf("update to %s ended with exit code %d, not %d (%v)\n%s", r.version, code, r.exit, err, d.stage.Log())
	}
	d.say("exit code %d", r.exit)
	if r.exit != 0 {
		if err := d.whyItCameBack(ctx); err != nil {
			return err
		}
	}
	if d.windows {
		return d.prove(ctx)
	}
	return nil
}

// whyItCameBack prints the last entry of the history, with what the dead version said last.
func (d *demo) whyItCameBack(ctx context.Context) error {
	last, err := d.stage.Client().History(ctx, 1)
	if err != nil || len(last) == 0 {
		return fmt.Errorf("read the history: %v, %d entries", err, len(last))
	}
	number := strconv.Itoa(last[0].N)
	out, code := d.stage.Operator(ctx, "history", "show", number)
	if code != 0 {
		return fmt.Errorf("history show: exit code %d: %s", code, out)
	}
	d.say("\n$ launcher history show %s\n%s", number, out)
	return nil
}

// account sums up and prints what the clients saw.
func (d *demo) account(ctx context.Context, r load.Report) error {
	entries, err := d.stage.Client().History(ctx, 10)
	if err != nil {
		return err
	}
	st, err := d.stage.Client().Status(ctx)
	if err != nil {
		return err
	}
	res := result{Requests: r.Requests, Refused: r.Refused, Failed: r.Failed, Retryable: r.Retryable, CutByCrash: r.CutByCrash, WorstMS: r.WorstMs}
	if st.Active != nil {
		res.Serving = st.Active.Number
	}
	for _, e := range entries {
		if e.From == "" {
			continue // the first installation switched nothing
		}
		if e.SwitchMS > 0 {
			res.Switches++
			res.SwitchMS = max(res.SwitchMS, e.SwitchMS)
		}
		if e.Outcome == "rolled-back" {
			res.Rollbacks++
			res.RollbackMS = max(res.RollbackMS, e.RollbackMS)
		}
	}
	d.result = res
	d.say("\n== what the clients saw")
	d.say("%d requests (%.0f a second): %d refused, %d failed, %d retryable; %d cut by the crash (open then: %v)",
		r.Requests, r.PerSecond, r.Refused, r.Failed, r.Retryable, r.CutByCrash, r.OpenAt)
	d.say("%d switches, slowest %.1f ms; %d rollbacks, slowest %.1f ms; slowest request %.1f ms beyond what it asked for; %s serves",
		res.Switches, res.SwitchMS, res.Rollbacks, res.RollbackMS, res.WorstMS, res.Serving)
	for _, s := range r.Samples {
		d.say("  lost: %s", s)
	}
	open := 0
	for _, n := range r.OpenAt {
		open += n
	}
	if r.CutByCrash > open {
		return fmt.Errorf("%d requests are counted as cut by the crash, and %d were open then, with the idle connections", r.CutByCrash, open)
	}
	return nil
}

func (d *demo) close() (err error) {
	if d.keep && d.stage != nil {
		d.say("left for you in %s: stop the launcher by `kill %d`", d.stage.Home, d.stage.PID())
		return nil
	}
	if d.stage != nil {
		err = d.stage.Close()
	}
	if d.machine != nil {
		err = errors.Join(err, d.machine.Close())
	}
	return err
}
