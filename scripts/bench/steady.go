package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

const (
	steadyLeast = 0.97 // of the requests per second without a launcher
	steadyPairs = 40
	clients     = 16
)

// steady compares how many requests the same build answers alone, behind a launcher in handoff mode and
// behind one in proxy mode. All three run all the time; they are measured in many short turns, since the
// machine's own pace wanders.
func (b *bench) steady(ctx context.Context) (err error) {
	good, err := b.newLine(ctx, "")
	if err != nil {
		return err
	}
	alone, stop, err := b.alone(ctx, good)
	if err != nil {
		return err
	}
	defer stop()
	handoff, err := b.serve(ctx, good, stage.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, handoff.close()) }()
	proxy, err := b.serve(ctx, good, stage.Options{Config: map[string]string{"traffic": "mode = \"proxy\"\n"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, proxy.close()) }()

	c := comparison{addrs: [3]string{alone, handoff.Listen, proxy.Listen}, pairs: b.runs(steadyPairs, 3), each: 500 * time.Millisecond}
	if err := c.run(ctx, false); err != nil {
		return err
	}
	b.ratio("handoff: requests/s, kept-alive connections", c, 1, steadyLeast)
	b.ratio("proxy: requests/s, kept-alive connections", c, 2, 0)
	if err := c.run(ctx, true); err != nil {
		return err
	}
	b.ratio("handoff: requests/s, a connection each", c, 1, 0)
	b.ratio("proxy: requests/s, a connection each", c, 2, 0)
	return nil
}

// alone runs the same program without a launcher. Like a payload it gets a session of its own, where the
// machine has a program for that: Linux shares the processors out by session before it does by process, so
// a server in the session of its clients would be measured under another rule.
func (b *bench) alone(ctx context.Context, l *line) (addr string, stop func(), err error) {
	file, err := l.release("0.000.1") // no number of a release, whose file may be running then
	if err != nil {
		return "", nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	addr = ln.Addr().String()
	_ = ln.Close() // the program takes the port
	argv := []string{file, "-addr", addr}
	if setsid, err := exec.LookPath("setsid"); err == nil {
		argv = append([]string{setsid}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill() // it keeps nothing
		_ = cmd.Wait()
	}
	for range 500 {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close() // it was only to see that it listens
			return addr, stop, nil
		}
		stage.Wait(ctx, 10*time.Millisecond)
	}
	stop()
	return "", nil, fmt.Errorf("%s does not listen", file)
}

// comparison is rounds of measurements, one of each server in a round.
type comparison struct {
	addrs [3]string // the first is what the others are compared with
	pairs int
	each  time.Duration
	rps   [3][]float64
}

func (c *comparison) run(ctx context.Context, fresh bool) error {
	c.rps = [3][]float64{}
	for round := range c.pairs + 1 {
		for turn := range c.addrs {
			i := (turn + round) % len(c.addrs) // each is first as often as the others
			rps, err := hammer(ctx, c.addrs[i], fresh, c.each)
			if err != nil {
				return err
			}
			if round > 0 { // the first round warms everything up
				c.rps[i] = append(c.rps[i], rps)
			}
		}
	}
	return nil
}

// ratio adds how a server compares with the first; least 0 is for information.
func (b *bench) ratio(name string, c comparison, i int, least float64) {
	var ratios []float64
	for pair, rps := range c.rps[i] {
		ratios = append(ratios, rps/c.rps[0][pair])
	}
	low, high := interval(ratios)
	note := fmt.Sprintf("of the same program alone (%.0f/s); median of %d pairs with its 95 %% interval", median(c.rps[0]), len(ratios))
	if least > 0 {
		b.atLeast(least, name, median(ratios), "", note).between(low, high)
		return
	}
	b.note(name, median(ratios), "", note).between(low, high)
}

// hammer sends requests as fast as the server answers and returns how many it answered in a second.
func hammer(ctx context.Context, addr string, fresh bool, d time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var wg sync.WaitGroup
	var n atomic.Int64
	errs := make(chan error, clients)
	begun := time.Now()
	for range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := blows(ctx, addr, fresh, &n); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begun)
	select {
	case err := <-errs:
		return 0, fmt.Errorf("requests to %s: %w", addr, err)
	default:
		return float64(n.Load()) / took.Seconds(), nil
	}
}

// blows is one connection with one request, or as many as there is time for.
func blows(ctx context.Context, addr string, fresh bool, n *atomic.Int64) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	request := []byte("GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
	if fresh {
		request = []byte("GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
	}
	r := bufio.NewReader(c)
	for {
		if _, err := c.Write(request); err != nil {
			return err
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		n.Add(1)
		if fresh || ctx.Err() != nil {
			return nil
		}
	}
}
