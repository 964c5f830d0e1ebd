package relay

import (
	"context"
	"net"
	"sync"
	"time"
)

// Target is one version as a Proxy sees it: a private address, and the connections that are counted
// there. It is made by Proxy.NewTarget and is safe for concurrent use.
type Target struct {
	name             string
	network, address string

	mu     sync.Mutex
	pairs  map[*pair]struct{} // from the moment they were picked, so those still being dialled included
	empty  chan struct{}      // closed when the last pair leaves; nil while nobody waits for that
	total  uint64
	failed uint64
}

// Name returns the name given to NewTarget.
func (t *Target) Name() string { return t.name }

// Open returns how many connections are counted here now.
func (t *Target) Open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.pairs)
}

// Total returns how many connections were ever counted here.
func (t *Target) Total() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.total
}

// Failed returns how many connections could not be made to this version.
func (t *Target) Failed() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

// Wait blocks until no connection is counted here, and returns nil at that and at nothing else; else it
// returns the cause of ctx. The count stays at zero only if the target cannot be picked any more, so
// displace it by Switch, and as the fallback by SetFallback, before waiting.
func (t *Target) Wait(ctx context.Context) error {
	for {
		t.mu.Lock()
		if len(t.pairs) == 0 {
			t.mu.Unlock()
			return nil
		}
		if t.empty == nil {
			t.empty = make(chan struct{})
		}
		empty := t.empty
		t.mu.Unlock()
		select {
		case <-empty: // and look again: a target that is still picked may have got the next one
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Cut ends every connection that is counted here, as a reset on both sides, and returns how many. A reset
// and not an end of stream: what was cut must not look finished to a client that reads until the end.
// The connections leave the count a moment later; Wait tells when.
func (t *Target) Cut() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	for x := range t.pairs {
		x.cancel()
	}
	return len(t.pairs)
}

// add counts x here. The Proxy calls it with its own lock held, which is what makes picking and counting
// one step; the order of the two locks is always proxy, then target.
func (t *Target) add(x *pair) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pairs[x] = struct{}{}
	t.total++
}

// remove is called when both sides of x are closed, never before: who waits for zero stops the process.
func (t *Target) remove(x *pair) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pairs, x)
	if len(t.pairs) == 0 && t.empty != nil {
		close(t.empty)
		t.empty = nil
	}
}

func (t *Target) dial(ctx context.Context, limit time.Duration) (stream, error) {
	d := net.Dialer{Timeout: limit}
	c, err := d.DialContext(ctx, t.network, t.address)
	if err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if ctx.Err() == nil { // else it was cut, which is not the version's failure
			t.failed++
		}
		return nil, err
	}
	return c.(stream), nil // "tcp" and "unix" have no other kind of connection
}
