package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/turnstone-go/turnstone/payload"
)

// kinds are the faults that a release can have; see the documentation of the command.
var kinds = []string{"", "exit", "exit0", "hang", "never-ready", "never-healthy", "ready-then-die", "flap", "500s", "health-fail", "slow-start", "grow", "torn", "keep-lease"}

// faults is how this release is bad.
type faults struct {
	kind   string
	after  time.Duration
	active atomic.Bool // the time has come
	begun  atomic.Bool
	served atomic.Int64
	asked  atomic.Int64 // for its health since then
	hoard  [][]byte
}

// parseFault reads "kind" or "kind:duration".
func parseFault(s string) (*faults, error) {
	kind, after, timed := strings.Cut(s, ":")
	if !slices.Contains(kinds, kind) {
		return nil, fmt.Errorf("EXAMPLE_FAULT %q is not known: use one of %q", kind, kinds[1:])
	}
	f := &faults{kind: kind}
	if timed {
		var err error
		if f.after, err = time.ParseDuration(after); err != nil || f.after < 0 {
			return nil, fmt.Errorf("EXAMPLE_FAULT %q: the time after the colon is no duration", s)
		}
	}
	return f, nil
}

// start arms the fault, before the program is ready.
func (f *faults) start() {
	if f.kind == "slow-start" {
		time.Sleep(f.after)
	}
	if !payload.Managed() {
		f.sayAccept()
		return
	}
	payload.OnPark(func(parked bool) {
		if !parked {
			f.sayAccept()
		}
	})
}

func (f *faults) sayReady() {
	if f.kind == "ready-then-die" {
		time.AfterFunc(f.after, func() { f.end(1) })
	}
}

// sayAccept begins the fault when public connections are first taken.
func (f *faults) sayAccept() {
	if f.begun.CompareAndSwap(false, true) {
		time.AfterFunc(f.after, f.strike)
	}
}

func (f *faults) strike() {
	f.active.Store(true)
	switch f.kind {
	case "exit":
		f.end(1)
	case "exit0":
		f.end(0)
	case "grow":
		f.grow()
	case "hang":
		signal.Ignore(syscall.SIGTERM)
	}
}

// grow takes 8 MiB every 20 ms, and ends where it would be the machine that suffers.
func (f *faults) grow() {
	const step, most = 8 << 20, 512 << 20
	for len(f.hoard) < most/step {
		b := make([]byte, step)
		for i := range b {
			b[i] = byte(i) // or it would not be taken
		}
		f.hoard = append(f.hoard, b)
		time.Sleep(20 * time.Millisecond)
	}
}

// end is the death of this release, with last words for whoever looks for the reason.
func (f *faults) end(code int) {
	fmt.Fprintf(os.Stderr, "example: %s: the fault of this release, exit code %d\n", f.kind, code)
	os.Exit(code)
}

func (f *faults) is(kind string) bool { return f.kind == kind && f.active.Load() }

func (f *faults) health() error {
	switch {
	case f.is("hang"):
		select {}
	case f.is("health-fail"), f.kind == "never-healthy":
		return errors.New(f.kind + ": the fault of this release")
	case f.is("flap") && f.asked.Add(1)%2 == 1:
		return errors.New("flap: the fault of this release")
	}
	return nil
}

// spoil makes the public answers as bad as the release is.
func (f *faults) spoil(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case f.is("hang"):
			select {}
		case f.is("500s"):
			http.Error(w, "500s: the fault of this release", http.StatusInternalServerError)
			return
		case f.kind == "torn" && f.served.Add(1) >= 10:
			tear(w)
		}
		next.ServeHTTP(w, r)
	})
}

// tear ends the process in the middle of an answer.
func tear(w http.ResponseWriter) {
	w.Header().Set("Content-Length", "1000")
	_, _ = w.Write([]byte("half of an ans")) // the process ends
	_ = http.NewResponseController(w).Flush()
	os.Exit(1)
}
