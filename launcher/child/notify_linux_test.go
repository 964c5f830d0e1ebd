package child

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestNotifyExtendsAndSaysReady(t *testing.T) {
	h := open(t, options(t))
	s := program(t, Plain, "notify", "")
	fifo := filepath.Join(filepath.Dir(h.o.Wire), "go")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Env = append(s.Env, "TS_TEST_GO="+fifo)
	s.ReadyTimeout = 2 * time.Second
	p := start(t, h, s)
	p.mu.Lock()
	moved := p.moved
	p.mu.Unlock()
	select {
	case <-moved:
	case <-soon(t).Done():
		t.Fatal("EXTEND_TIMEOUT_USEC was not heard")
	}
	p.mu.Lock()
	left := time.Until(p.deadline)
	p.mu.Unlock()
	if left < 30*time.Second || left > time.Minute {
		t.Errorf("%v left until not ready, want a minute", left)
	}
	if got := p.Status(); got != "loading" {
		t.Errorf("status %q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ready before READY=1: %v", err)
	}
	f, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	ready(t, p)
	if err := p.Accept(soon(t)); !errors.Is(err, ErrNoWire) {
		t.Errorf("order to a plain program: %v", err)
	}
	if e := p.Stop(soon(t), 10*time.Second); e.Code != 0 || e.Signal != "" {
		t.Errorf("exit %v", e)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(h.o.Wire), "*.n")); len(left) != 0 {
		t.Errorf("notify sockets left: %v", left)
	}
}

func TestNotReadyInTime(t *testing.T) {
	s := program(t, Plain, "silent", "")
	s.ReadyTimeout = 20 * time.Millisecond
	p := start(t, open(t, options(t)), s)
	if _, err := p.Ready(soon(t)); !errors.Is(err, ErrNotReady) {
		t.Error(err)
	}
}

func TestNotifyOfAStrangerCountsForNothing(t *testing.T) {
	h := open(t, options(t))
	p := start(t, h, program(t, Plain, "silent", ""))
	c, err := net.Dial("unixgram", p.rec.Notify)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// Each further message that fits shows that an earlier one was read: the queue holds about ten.
	for range 50 {
		if _, err := io.WriteString(c, "READY=1\nSTATUS=taken over"); err != nil {
			t.Fatal(err)
		}
	}
	if p.Status() != "" {
		t.Errorf("status %q", p.Status())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := p.Ready(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ready: %v", err)
	}
}
