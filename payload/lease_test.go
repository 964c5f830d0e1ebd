package payload

import (
	"context"
	"testing"
	"time"
)

// A grant that ends before anybody has taken it up is asked for again, and the launcher hears which one ended.
func TestLeaseThatEndsAtOnce(t *testing.T) {
	wants := make(chan uint64, 8)
	l := newLease(false, func(fence uint64) { wants <- fence })
	held := make(chan *Holding)
	go func() {
		for {
			h, err := l.acquire(t.Context())
			if err != nil {
				return
			}
			held <- h
			<-h.Context().Done()
			h.Release()
		}
	}()
	wanted := func(last uint64) {
		t.Helper()
		for limit := time.After(patience); ; {
			select {
			case <-held: // in time, and it is told to stop
			case fence := <-wants:
				if fence != last {
					t.Fatalf("after the grant %d it wants one more than %d", last, fence)
				}
				return
			case <-limit:
				t.Fatalf("after the grant %d nobody wants the lease", last)
			}
		}
	}
	wanted(0)
	for fence := uint64(1); fence <= 5000; fence++ {
		if err := l.grant(fence); err != nil {
			t.Fatal(err)
		}
		l.end()
		wanted(fence)
	}
}

// Who asks while the work of an earlier grant still stops is heard when it has, and not before: the grant would be refused.
func TestLeaseIsWantedWhenItCanBeTaken(t *testing.T) {
	wants := make(chan uint64, 8)
	l := newLease(false, func(fence uint64) { wants <- fence })
	if err := l.grant(1); err != nil {
		t.Fatal(err)
	}
	h, err := l.acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.end()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		_, _ = l.acquire(ctx) // ends with the test
	}()
	for {
		l.mu.Lock()
		waits := l.waiting > 0
		l.mu.Unlock()
		if waits {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if _, waits := l.wanted(); waits || len(wants) > 0 {
		t.Error("it asks for a grant that it would refuse")
	}
	h.Release()
	select {
	case <-wants:
	case <-time.After(patience):
		t.Error("nobody wants the lease")
	}
	cancel()
	<-asked
}
