// Command example is the smallest honest HTTP service under a launcher: it answers, streams, works with a
// lease, and leaves nothing unanswered when it is replaced. The demonstration and the tests run it. It
// also runs alone:
//
//	example -addr 127.0.0.1:8080
//
// It serves HTTP/1.1 and unencrypted HTTP/2:
//
//	GET /            {"version":"1.0.0","pid":123}
//	GET /healthz     200 while it is well
//	GET /slow?ms=50  answers after that time (at most a minute)
//	GET /say?lines=9 prints so many lines on its standard output, numbered from its start
//	GET /events      server-sent events, one a second, until the stream is told to end
//	GET /upgrade     with "Connection: Upgrade" and "Upgrade: echo": 101, then every line comes back; when
//	                 the process drains the stream is told "bye" and ends; with ?stay it is told nothing,
//	                 as in a program that has no goodbye, and goes on until the deadline of streams
//	GET /work        {"holder":true,"fence":7,"count":12}: the state of its work under the lease
//
// With EXAMPLE_DEPENDS, a URL, it is well only while that answers 200 (it is asked with ?version=).
//
// With EXAMPLE_LEASE_FILE it counts in that file while it holds the lease. It reads, adds one and writes
// without any lock, so two owners at once would lose counts; a line "count fence" is what it writes. When
// the lease ends it prints what it added and between which counts: with one owner at a time these fit.
//
// # Faults
//
// EXAMPLE_FAULT makes it a bad release. A build carries its own fault and version by
//
//	go build -ldflags "-X main.version=1.1.0 -X main.fault=500s" ./payload/example
//
// and the variables EXAMPLE_FAULT and EXAMPLE_VERSION win over these. Times (t) are Go durations and
// default to 0; "after accept" counts from the first moment at which the process takes public connections,
// alone from the start.
//
//	exit:t            ends with code 1, t after accept
//	exit0:t           ends with code 0, t after accept
//	hang:t            answers no request any more, t after accept (health included), and ignores SIGTERM
//	never-ready       starts, but never says that it is ready
//	never-healthy     says that it is ready, and health answers 503
//	ready-then-die:t  ends with code 1, t after it said that it is ready
//	flap:t            every other answer of its health is a 503, t after accept
//	500s:t            every public answer is a 500, t after accept; health stays good
//	health-fail:t     health answers 503, t after accept; public answers stay good
//	slow-start:t      is ready only after t
//	grow:t            takes up to 512 MiB of memory, t after accept
//	torn              writes half of an answer and ends with code 1, at the tenth public request
//	keep-lease        does not give the lease back
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/turnstone-go/turnstone/payload"
)

// Set by -ldflags "-X main.version=... -X main.fault=...".
var (
	version = "dev"
	fault   = ""
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "address to listen on when no launcher passes a listener (unix:/path too)")
	flag.Parse()
	if err := run(*addr); err != nil {
		fmt.Fprintln(os.Stderr, "example:", err)
		os.Exit(1)
	}
}

func run(addr string) error {
	ln, err := payload.Listen("http", addr)
	if err != nil {
		return err
	}
	f, err := parseFault(env("EXAMPLE_FAULT", fault))
	if err != nil {
		return err
	}
	s := &service{version: env("EXAMPLE_VERSION", version), fault: f}
	f.start()
	if file := os.Getenv("EXAMPLE_LEASE_FILE"); file != "" {
		go s.work(file)
	}
	if f.kind != "never-ready" {
		if err := payload.Ready(); err != nil {
			return err
		}
		f.sayReady()
	}
	if !payload.Managed() {
		fmt.Printf("example %s listens on http://%s\n", s.version, ln.Addr())
	}
	srv := &http.Server{Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second, Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	return payload.Serve(srv, ln)
}

// env is a variable of the environment, or what the build says.
func env(name, built string) string {
	if v, ok := os.LookupEnv(name); ok {
		return v
	}
	return built
}

// work counts in file for as long as it may.
func (s *service) work(file string) {
	for {
		h, err := payload.Lease(context.Background())
		if err != nil {
			return // the process drains
		}
		s.count(h, file)
		if s.fault.kind == "keep-lease" {
			select {} // with the lease in hand
		}
		h.Release()
	}
}

func (s *service) count(h *payload.Holding, file string) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	defer s.holding.Store(nil)
	var first, last, added uint64
	defer func() {
		fmt.Printf("example: lease %d counted %d, from %d to %d\n", h.Fence(), added, first, last)
	}()
	for h.Context().Err() == nil {
		n, err := addOne(file, h.Fence())
		if err != nil {
			fmt.Fprintln(os.Stderr, "example: count:", err)
		}
		first, last, added = cmp.Or(first, n), n, added+1
		s.holding.Store(&holding{Holder: true, Fence: h.Fence(), Count: n})
		select {
		case <-h.Context().Done():
		case <-ticker.C:
		}
	}
}

// addOne adds one to the number in file, which is empty at first.
func addOne(file string, fence uint64) (uint64, error) {
	data, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return 0, err
	}
	var n, last uint64
	if len(data) > 0 {
		if _, err := fmt.Sscan(string(data), &n, &last); err != nil {
			return 0, fmt.Errorf("%s is torn: %q", file, data)
		}
	}
	if last > fence {
		return n, fmt.Errorf("fence %d is over: %d wrote already", fence, last)
	}
	return n + 1, os.WriteFile(file, fmt.Appendf(nil, "%d %d\n", n+1, fence), 0o644)
}
