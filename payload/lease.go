package payload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Holding is a share of the lease, from Lease to Release.
type Holding struct {
	lease  *lease
	ctx    context.Context
	cancel context.CancelFunc
	fence  uint64
}

// Context ends when the work must stop: the lease is asked back, or the process is parked or drained.
func (h *Holding) Context() context.Context { return h.ctx }

// Fence is the number of this grant. A later owner, in whatever process, has a larger one: a store that
// remembers the largest number it has seen can refuse a write that comes too late from an earlier owner.
func (h *Holding) Fence() uint64 { return h.fence }

// Release says that the work has stopped. The launcher gives the lease to another version only then; one
// that is not released within two seconds after its context ended costs this process its life.
func (h *Holding) Release() {
	h.cancel()
	h.lease.mu.Lock()
	defer h.lease.mu.Unlock()
	delete(h.lease.holders, h)
	h.lease.signal()
	h.lease.ask()
}

// lease is the part of the exclusive lease that lives in this process.
type lease struct {
	alone bool               // without a launcher everything is granted
	want  func(fence uint64) // tells the launcher, with that of the last grant

	mu      sync.Mutex
	granted bool
	over    bool   // drained: nothing is granted any more
	fence   uint64 // of the last grant
	waiting int
	holders map[*Holding]struct{}
	change  chan struct{}
}

func newLease(alone bool, want func(fence uint64)) *lease {
	return &lease{alone: alone, want: want, holders: make(map[*Holding]struct{}), change: make(chan struct{})}
}

func (l *lease) acquire(ctx context.Context) (*Holding, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.alone && !l.granted && !l.over {
		l.granted, l.fence = true, uint64(time.Now().UnixMilli()) // grows from one run to the next
	}
	l.waiting++
	defer func() { l.waiting-- }()
	if l.waiting == 1 {
		l.ask()
	}
	for !l.granted && !l.over {
		if err := l.wait(ctx); err != nil {
			return nil, err
		}
	}
	if l.over {
		return nil, ErrDraining
	}
	h := &Holding{lease: l, fence: l.fence}
	h.ctx, h.cancel = context.WithCancel(ctx)
	l.holders[h] = struct{}{}
	return h, nil
}

// wait gives up l.mu until something changes.
func (l *lease) wait(ctx context.Context) error {
	change := l.change
	l.mu.Unlock()
	defer l.mu.Lock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-change:
		return nil
	}
}

func (l *lease) signal() {
	close(l.change)
	l.change = make(chan struct{})
}

// grant takes the lease. The same grant may come twice, after the wire was made anew.
func (l *lease) grant(fence uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return ErrDraining
	}
	if l.granted && fence == l.fence {
		return nil
	}
	if fence <= l.fence {
		return fmt.Errorf("fence %d is not above %d, which was granted here before", fence, l.fence)
	}
	if len(l.holders) > 0 {
		return errors.New("work of an earlier grant has not stopped yet")
	}
	l.granted, l.fence = true, fence
	l.signal()
	return nil
}

// end tells the holders to stop and returns at once. Who waits still, since a grant that was as short as this never
// reached him, asks for the next one.
func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.granted = false
	for h := range l.holders {
		h.cancel()
	}
	l.ask()
}

// yield ends the lease and returns when all work has stopped.
func (l *lease) yield(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	l.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.holders) > 0 {
		if l.wait(ctx) != nil {
			return fmt.Errorf("%d holders of the lease have not released it", len(l.holders))
		}
	}
	return nil
}

// close ends the lease for good.
func (l *lease) close() {
	l.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.signal()
}

// ask tells the launcher that somebody waits, if a grant could be taken now; l.mu is held.
func (l *lease) ask() {
	if l.lacking() {
		go l.want(l.fence)
	}
}

func (l *lease) lacking() bool { return l.waiting > 0 && !l.granted && !l.over && len(l.holders) == 0 }

// wanted says whether somebody waits, and the fence of the last grant.
func (l *lease) wanted() (fence uint64, waits bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fence, l.lacking()
}

// held is the fence of the lease that this process holds, 0 if none. Work of one that has ended may still be stopping,
// and keeps this process from the next one: see grant.
func (l *lease) held() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.alone || !l.granted {
		return 0
	}
	return l.fence
}
