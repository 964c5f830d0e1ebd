package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater"
)

// A program with the SDK behind the proxy is switched, sent back by its health, and rolled back by order,
// and no client of any kind loses a request.
func TestProxyWithSDK(t *testing.T) {
	s := launched(t, quick(map[string]string{"traffic": "mode = \"proxy\"\n", "probation": "time = \"1s\"\nmin_requests = 0\n"}))
	r := underLoad(t, s, load.Options{Workers: everyone}, func(l *load.Load) {
		publish(t, s, "1.1.0", example(t, "1.1.0", ""))
		operator(t, s, 0, "update", "--now", "--follow")
		flow(t, l, 300)
		publish(t, s, "1.2.0", example(t, "1.2.0", "health-fail:0s"))
		operator(t, s, 20, "update", "--now", "--follow")
		drained(t, s) // a third version that drains would cut the first
		operator(t, s, 0, "rollback", "--follow")
		flow(t, l, 300)
	})
	nothingLost(t, r)
	if r.Versions["1.1.0"] == 0 || r.StreamsTold == 0 || r.StreamsCut > 0 {
		t.Errorf("answers by version %v, streams told %d, cut %d", r.Versions, r.StreamsTold, r.StreamsCut)
	}
}

// drained waits until no old version is left.
func drained(t *testing.T, s *stage.Stage) {
	t.Helper()
	for range 600 {
		if !slices.ContainsFunc(status(t, s).Processes, func(p control.Process) bool { return p.State == "draining" }) {
			return
		}
		stage.Wait(t.Context(), 50*time.Millisecond)
	}
	t.Fatalf("still draining: %+v", status(t, s).Processes)
}

// A candidate behind the proxy that dies costs what was inside it; connections are never refused.
func TestProxyCrash(t *testing.T) {
	s := launched(t, quick(map[string]string{"traffic": "mode = \"proxy\"\n", "probation": "time = \"2s\"\nmin_requests = 0\n"}))
	r := underLoad(t, s, load.Options{Workers: everyone}, func(*load.Load) {
		publish(t, s, "1.1.0", example(t, "1.1.0", "exit:400ms"))
		operator(t, s, 20, "update", "--now", "--follow")
	})
	if r.Lost() || len(r.OpenAt) != 1 || r.CutByCrash > r.OpenAt[0] {
		t.Errorf("lost more than the crash costs: %+v", r)
	}
}

// A program that cannot run beside its predecessor is exchanged: never two processes at once, and clients
// wait instead of being refused. A release that does not come up costs a longer wait and nothing else; since the old
// version was stopped for it that is a way back (20), and not a candidate that nobody noticed (14).
func TestExclusive(t *testing.T) {
	for _, mode := range []string{"handoff", "proxy"} {
		t.Run(mode, func(t *testing.T) {
			s := counting(t, map[string]string{
				"traffic": "mode = \"" + mode + "\"\nstrategy = \"exclusive\"\n",
				"health":  "interval = \"100ms\"\ngood = 2\nready_timeout = \"5s\"\n",
			}, "")
			d := follow(t, s)
			light := load.Options{NoSlow: true, Workers: map[load.Class]int{load.KeepAlive: 8, load.Fresh: 8, load.H2: 2}}
			r := underLoad(t, s, light, func(l *load.Load) {
				publish(t, s, "1.1.0", example(t, "1.1.0", ""))
				says(t, operator(t, s, 0, "update", "--now", "--follow"), "longest_hold")
				flow(t, l, 100)
				publish(t, s, "1.2.0", example(t, "1.2.0", "never-ready"))
				says(t, operator(t, s, 20, "update", "--now", "--follow"), "exit 20: rolled back", "1.1.0 serves")
				flow(t, l, 100)
				operator(t, s, 0, "rollback", "--follow")
			})
			nothingLost(t, r)
			serving(t, s, "1.0.0")
			neverTwo(t, d)
			oneOwner(t, s, 4)
		})
	}
}

// neverTwo demands that every process had ended before the next was started.
func neverTwo(t *testing.T, d *diary) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	alive, begun := "1.0.0", 0
	for _, ev := range d.events {
		switch {
		case ev.Kind == "start" && isStart(ev):
			if begun++; alive != "" {
				t.Errorf("%s was started while %s lived", ev.Number, alive)
			}
			alive = ev.Number
		case ev.Kind == "drain" && isEnd(ev), ev.Kind == "exit":
			alive = ""
		}
	}
	if begun < 4 {
		t.Errorf("%d processes were started, want at least 4: %v", begun, d.events)
	}
}

// isStart and isEnd tell what happened to a process from what was planned for its version.
func isStart(ev updater.Event) bool {
	var pid int
	n, _ := fmt.Sscanf(ev.Text, "pid %d", &pid)
	return n == 1
}
func isEnd(ev updater.Event) bool {
	var d string
	n, _ := fmt.Sscanf(ev.Text, "ended after %s", &d)
	return n == 1
}

// A unix socket is a public listener like any other, in both modes: it is never gone, and what connects to it
// is answered through a switch, a rollback, and (handed over) the death of the launcher.
func TestUnixListener(t *testing.T) {
	for _, mode := range []string{"handoff", "proxy"} {
		t.Run(mode, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "tsu") // a socket's path is short
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			path := filepath.Join(dir, "http.sock")
			o := quick(map[string]string{"traffic": "mode = \"" + mode + "\"\n"})
			o.Listen = "unix:" + path
			s := launched(t, o)
			clients := dialUnix(path)
			defer clients.stop()
			clients.meet(t, "1.0.0")
			publish(t, s, "1.1.0", example(t, "1.1.0", ""))
			operator(t, s, 0, "update", "--now", "--follow")
			clients.meet(t, "1.1.0")
			operator(t, s, 0, "rollback", "--follow")
			clients.meet(t, "1.0.0")
			if mode == "handoff" {
				before := pids(t, s)["1.0.0"]
				kill(t, s)
				clients.meet(t, "1.0.0")
				launch(t, s)
				if now := pids(t, s)["1.0.0"]; now != before {
					t.Errorf("pid %d serves, before it was %d", now, before)
				}
				publish(t, s, "1.2.0", example(t, "1.2.0", ""))
				operator(t, s, 0, "update", "--now", "--follow")
				clients.meet(t, "1.2.0")
			}
			for _, err := range clients.stop() {
				t.Error(err)
			}
		})
	}
}

// unixClients ask over a unix socket, each request on a connection of its own.
type unixClients struct {
	path string
	stop func() []error
	mu   sync.Mutex
	errs []error
	met  map[string]int
}

func dialUnix(path string) *unixClients {
	c := &unixClients{path: path, met: make(map[string]int)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				version, err := c.ask()
				c.mu.Lock()
				c.met[version]++
				if err != nil && len(c.errs) < 10 {
					c.errs = append(c.errs, err)
				}
				c.mu.Unlock()
				stage.Wait(ctx, 5*time.Millisecond)
			}
		})
	}
	c.stop = func() []error { cancel(); wg.Wait(); return c.errs }
	return c
}

func (c *unixClients) ask() (version string, err error) {
	nc, err := net.Dial("unix", c.path)
	if err != nil {
		return "", err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second)) // a closed connection says so at the write
	if _, err := fmt.Fprint(nc, "GET / HTTP/1.1\r\nHost: unix\r\nConnection: close\r\n\r\n"); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var says struct{ Version string }
	err = json.NewDecoder(resp.Body).Decode(&says)
	return says.Version, err
}

// meet waits until that version has given 20 more answers.
func (c *unixClients) meet(t *testing.T, version string) {
	t.Helper()
	met := func() int { c.mu.Lock(); defer c.mu.Unlock(); return c.met[version] }
	from := met()
	eventually(t, version+" answers", func() bool { return met() >= from+20 })
}
