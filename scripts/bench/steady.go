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

	c := comparison{pairs: b.runs(steadyPairs, 3), each: 500 * time.Millisecond, servers: [3]server{alone}}
	least := steadyLeast
	for i, s := range []*service{handoff, proxy} {
		c.servers[i+1] = server{addr: s.Listen}
		if b.windows { // Wine's server works for every process: neither its pace nor its CPU is Windows'
			least = 0
			continue
		}
		st, err := s.Client().Status(ctx)
		if err != nil {
			return err
		}
		c.servers[i+1].pids = []int{s.PID(), st.Processes[0].PID}
	}
	for _, turn := range []struct {
		about string
		fresh bool
		least float64
	}{{"kept-alive connections", false, least}, {"a connection each", true, 0}} {
		if err := c.run(ctx, turn.fresh); err != nil {
			return err
		}
		b.ratio("handoff: requests/s, "+turn.about, c.rps, 1, turn.least)
		if !b.windows {
			b.ratio("  its CPU for a request, launcher included", c.cpu, 1, 0)
		}
		b.ratio("proxy: requests/s, "+turn.about, c.rps, 2, 0)
	}
	return nil
}

// server is where requests go, and the processes that have work with them.
type server struct {
	addr string
	pids []int
}

// alone runs the same program without a launcher. Like a payload it gets a session of its own, where the
// machine has a program for that: Linux shares the processors out by session before it does by process, so
// a server in the session of its clients would be measured under another rule.
func (b *bench) alone(ctx context.Context, l *line) (srv server, stop func(), err error) {
	file, err := l.release("0.000.1") // no number of a release, whose file may be running then
	if err != nil {
		return srv, nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return srv, nil, err
	}
	srv.addr = ln.Addr().String()
	_ = ln.Close() // the program takes the port
	stop, srv.pids, err = b.program(ctx, file, "-addr", srv.addr)
	if err != nil {
		return srv, nil, err
	}
	for range 500 {
		c, err := net.Dial("tcp", srv.addr)
		if err == nil {
			_ = c.Close() // it was only to see that it listens
			return srv, stop, nil
		}
		stage.Wait(ctx, 10*time.Millisecond)
	}
	stop()
	return srv, nil, fmt.Errorf("%s does not listen", file)
}

// program runs a program where the launcher would; on Windows it has no pid that means something here.
func (b *bench) program(ctx context.Context, argv ...string) (stop func(), pids []int, err error) {
	if b.windows {
		m, err := b.programs.Boot(ctx)
		if err != nil {
			return nil, nil, err
		}
		cmd := m.Command(ctx, argv[0], argv[1:]...)
		if err := cmd.Start(); err != nil {
			return nil, nil, errors.Join(err, m.Close())
		}
		return func() {
			_ = m.Close() // with it ends what runs in it
			_ = cmd.Wait()
		}, nil, nil
	}
	if setsid, err := exec.LookPath("setsid"); err == nil {
		argv = append([]string{setsid}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	return func() {
		_ = cmd.Process.Kill() // it keeps nothing
		_ = cmd.Wait()
	}, []int{cmd.Process.Pid}, nil
}

// comparison is rounds of measurements, one of each server in a round.
type comparison struct {
	servers [3]server // the first is what the others are compared with
	pairs   int
	each    time.Duration
	rps     [3][]float64
	cpu     [3][]float64 // seconds for a request: what the rest of the machine does moves it less
}

func (c *comparison) run(ctx context.Context, fresh bool) error {
	c.rps, c.cpu = [3][]float64{}, [3][]float64{}
	for round := range c.pairs + 1 {
		for turn := range c.servers {
			i := (turn + round) % len(c.servers) // each is first as often as the others
			rps, cpu, err := c.one(ctx, c.servers[i], fresh)
			if err != nil {
				return err
			}
			if round > 0 { // the first round warms everything up
				c.rps[i], c.cpu[i] = append(c.rps[i], rps), append(c.cpu[i], cpu)
			}
		}
	}
	return nil
}

// one measures a server once.
func (c *comparison) one(ctx context.Context, s server, fresh bool) (rps, cpu float64, err error) {
	before, err := cpuOf(s.pids...)
	if err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	n, err := hammer(ctx, s.addr, fresh, c.each)
	took := time.Since(begun)
	if err != nil {
		return 0, 0, err
	}
	after, err := cpuOf(s.pids...)
	return float64(n) / took.Seconds(), (after - before).Seconds() / float64(n), err
}

// ratio adds how a server compares with the first; least 0 is for information.
func (b *bench) ratio(name string, values [3][]float64, i int, least float64) {
	var ratios []float64
	for pair, v := range values[i] {
		ratios = append(ratios, v/values[0][pair])
	}
	low, high := interval(ratios)
	alone := fmt.Sprintf("%.0f/s", median(values[0]))
	if m := median(values[0]); m < 1 {
		alone = fmt.Sprintf("%.1f us", m*1e6)
	}
	note := fmt.Sprintf("of the same program alone (%s); median of %d pairs with its 95 %% interval", alone, len(ratios))
	if least > 0 {
		b.atLeast(least, name, median(ratios), "", note).between(low, high)
		return
	}
	b.note(name, median(ratios), "", note).between(low, high)
}

// hammer sends requests as fast as the server answers and returns how many it answered.
func hammer(ctx context.Context, addr string, fresh bool, d time.Duration) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var wg sync.WaitGroup
	var n atomic.Int64
	errs := make(chan error, clients)
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
	select {
	case err := <-errs:
		return 0, fmt.Errorf("requests to %s: %w", addr, err)
	default:
		return n.Load(), nil
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
