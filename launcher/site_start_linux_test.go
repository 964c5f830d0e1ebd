package main

import (
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A process that has a public socket can set it blocking for all; the next one gets it as it was.
func TestSocketsAreHealedBeforeAStart(t *testing.T) {
	g := newGround(t, func(c *Config) { c.Payload.Kind, c.Payload.Command = "activation", []string{"/bin/sleep", "60"} })
	blocking := func() (yes bool) {
		g.must(g.sockets[0].RawConn().Control(func(fd uintptr) {
			flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
			g.must(err)
			yes = flags&unix.O_NONBLOCK == 0
		}))
		return yes
	}
	g.must(g.sockets[0].RawConn().Control(func(fd uintptr) { g.must(unix.SetNonblock(int(fd), false)) }))
	if !blocking() {
		t.Fatal("the flag is not set: this test proves nothing")
	}
	if _, err := g.start(t.Context(), g.release("1.0.0", "")); err != nil || blocking() {
		t.Errorf("%v; the socket still blocks: %v", err, blocking())
	}
}

// What is known of a version that died outlives its process: how it ended, what it said last, and its last probes.
func TestEvidence(t *testing.T) {
	g := newGround(t, nil)
	one, two := g.release("1.0.0", ""), g.release("1.1.0", "speak")
	g.must(g.Serve(t.Context(), one))
	g.forward(two)
	g.signal(two, syscall.SIGKILL)
	g.until("the take-over", func() bool { return len(g.told("takeover")) == 1 })
	ev := g.Evidence(two)
	if !strings.Contains(ev.Exit, "killed") || !strings.Contains(ev.Output, "1.1.0 speaks") || len(ev.Probes) < 2 || !strings.Contains(ev.Probes[0], "200") {
		t.Errorf("%+v", ev)
	}
}
