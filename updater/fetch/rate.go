package fetch

import (
	"context"
	"io"
	"sync"
	"time"
)

// limiter spreads bytes over time. It is shared by all transfers of a repository.
type limiter struct {
	perSecond int64
	mu        sync.Mutex
	free      time.Time // when the line is free for the next byte
}

// use waits until n more bytes may have come.
func (l *limiter) use(ctx context.Context, n int) error {
	l.mu.Lock()
	now := time.Now()
	if l.free.Before(now) { // what was not used is not saved up
		l.free = now
	}
	l.free = l.free.Add(time.Duration(float64(n) / float64(l.perSecond) * float64(time.Second)))
	pause := l.free.Sub(now)
	l.mu.Unlock()
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// meter makes the transfers of sources share a rate.
func meter(srcs []named, perSecond int64) {
	l := &limiter{perSecond: perSecond}
	for i := range srcs {
		srcs[i].source = metered{srcs[i].source, l}
	}
}

type metered struct {
	source
	l *limiter
}

func (s metered) open(ctx context.Context, name string, from int64, tag string) (*stream, error) {
	st, err := s.source.open(ctx, name, from, tag)
	if err == nil {
		st.body = &meteredBody{st.body, ctx, s.l}
	}
	return st, err
}

type meteredBody struct {
	io.ReadCloser
	ctx context.Context
	l   *limiter
}

// Read takes at most a tenth of a second's worth, so that the line is used evenly and an end is noticed soon.
func (b *meteredBody) Read(p []byte) (int, error) {
	most := max(b.l.perSecond/10, 1)
	if int64(len(p)) > most {
		p = p[:most]
	}
	n, err := b.ReadCloser.Read(p)
	if late := b.l.use(b.ctx, n); late != nil && err == nil {
		err = late
	}
	return n, err
}
