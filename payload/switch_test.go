//go:build linux || windows

package payload

import (
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
)

// everyone starts all kinds of clients.
func everyone(l *load) {
	l.http1(4, get, 0, 0)
	l.http1(2, get, 0, 3*time.Millisecond)
	l.http1(2, post, 0, 0)
	l.http1(3, slow, 0, 0)
	l.http1(3, close1, 0, 0)
	l.http1(2, close1, 20*time.Millisecond, 0)
	l.http2(3, 4, "http")
	l.upgraded(3)
}

// moves waits until p answers, so that a switch is seen to have had an effect.
func moves(t *testing.T, l *load, p *proc) {
	t.Helper()
	before := l.by(p.cmd.Process.Pid)
	for end := time.Now().Add(patience); l.by(p.cmd.Process.Pid) < before+500; {
		if time.Now().After(end) {
			t.Fatalf("process %d gets no traffic", p.cmd.Process.Pid)
		}
		time.Sleep(time.Millisecond) // a poll: the load goes on beside it
	}
}

func nothingLost(t *testing.T, l *load) {
	t.Helper()
	for class, n := range l.finish() {
		t.Errorf("%d %s", n, class)
	}
	if l.answers.Load() == 0 || l.moved.Load() == 0 {
		t.Error("the load did not do what it should")
	}
}

func TestSwitchAndRollbackLoseNothing(t *testing.T) {
	public := listenTCP(t)
	l := newLauncher(t)
	active, standby := l.start("serve", public), l.start("serve", public)
	active.ready()
	standby.ready()
	active.accept()
	load := newLoad(t, public.Addr())
	everyone(load)
	for range 40 {
		standby.accept()
		active.park()
		active, standby = standby, active
		moves(t, load, active)
	}
	nothingLost(t, load)
}

func TestUpdatesLoseNothing(t *testing.T) {
	public := listenTCP(t)
	l := newLauncher(t)
	active := l.start("serve", public)
	active.ready()
	active.accept()
	load := newLoad(t, public.Addr())
	everyone(load)
	for range 12 {
		next := l.start("serve", public)
		next.ready()
		next.accept()
		active.park()
		moves(t, load, next)
		active.drain(wire.Grace{Deadline: 10 * time.Second, Idle: 8 * time.Second, Stream: 8 * time.Second})
		if err := active.ended(); err != nil {
			t.Errorf("a drained process ended with %v", err)
		}
		if cut := active.stats.Cut; cut != 0 {
			t.Errorf("a drain cut %d connections", cut)
		}
		active = next
	}
	nothingLost(t, load)
}

func TestUpdatesOverTLSLoseNothing(t *testing.T) {
	public := listenTCP(t)
	l := newLauncher(t)
	active := l.start("tls", public)
	active.ready()
	active.accept()
	load := newLoad(t, public.Addr())
	load.http2(4, 4, "https")
	for range 6 {
		next := l.start("tls", public)
		next.ready()
		next.accept()
		active.park()
		moves(t, load, next)
		active.drain(wire.Grace{Deadline: 10 * time.Second, Idle: 8 * time.Second, Stream: 8 * time.Second})
		if err := active.ended(); err != nil {
			t.Errorf("a drained process ended with %v", err)
		}
		active = next
	}
	nothingLost(t, load)
}
