package main

import (
	"os"
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

// An error names what it is about once, however many packages it came through.
func TestReasonsAreSaidOnce(t *testing.T) {
	g := newGround(t, nil)
	one, bad := g.release("1.0.0", ""), g.release("1.1.0", "die-at-start")
	g.must(g.Serve(t.Context(), one))
	once(t, g.Warm(t.Context(), bad), "1.1.0")
	once(t, g.Warm(t.Context(), g.release("1.2.0", "die-at-start")), "exit code 3")
	g.signal(one, syscall.SIGSTOP)
	once(t, g.site.open(t.Context(), g.living(one)), "1.0.0")
	g.signal(one, syscall.SIGCONT)
	changed := g.release("1.3.0", "")
	g.must(os.Chmod(g.store.File(changed), 0o600))
	g.must(os.WriteFile(g.store.File(changed), []byte("another"), 0o600))
	once(t, g.Warm(t.Context(), changed), "verify")
}

// once wants an error that says the words, and says them once.
func once(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || strings.Count(err.Error(), words) != 1 {
		t.Errorf("%v; want %q once", err, words)
	}
}
