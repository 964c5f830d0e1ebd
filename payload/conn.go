package payload

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"
)

// conn is one connection of a server.
type conn struct {
	nc      net.Conn
	since   time.Time    // when it was accepted
	state   atomic.Int32 // http.ConnState
	inside  atomic.Int32 // requests in handlers
	streams atomic.Int32 // of these, marked by Stream
	idleAt  atomic.Int64 // while leaving: when the last answer ended, in Unix nanoseconds
	ending  atomic.Bool  // the write side was closed: it ends when the client has seen that
	h2      atomic.Bool  // HTTP/2: it ends by GOAWAY
	raw     atomic.Value // syscall.RawConn of a hijacked connection
}

type connKey struct{}

// admit registers a connection that http.Server has just accepted.
func (s *server) admit(nc net.Conn) *conn {
	c := &conn{nc: nc, since: time.Now()}
	s.conns.Store(nc, c)
	s.p.tracked.Add(1)
	return c
}

// note is the ConnState hook.
func (s *server) note(nc net.Conn, state http.ConnState) {
	v, ok := s.conns.Load(nc)
	if !ok {
		return
	}
	c := v.(*conn)
	if state == http.StateIdle && s.p.leaving.Load() {
		c.idleAt.Store(time.Now().UnixNano())
	}
	c.state.Store(int32(state))
	switch state {
	case http.StateClosed:
		s.conns.Delete(nc)
	case http.StateHijacked:
		if raw := rawConn(nc); raw != nil {
			c.raw.Store(raw)
		}
	case http.StateActive:
		if c.ending.Load() {
			s.cut.Add(1) // its answer finds the connection closed
		}
	}
}

// idleFor is how long a connection has been idle at now, in a drain that began at begin.
func (c *conn) idleFor(begin, now time.Time) time.Duration {
	return now.Sub(maxTime(begin, time.Unix(0, c.idleAt.Load())))
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// rawConn gives access to the descriptor below nc, nil if there is none.
func rawConn(nc net.Conn) syscall.RawConn {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = t.NetConn()
	}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// isGone reports whether a hijacked connection has been closed. net/http hands it over to the handler and
// hears nothing more; wrapping it would tell, but would take away what its real type can do (splice, say).
func (c *conn) isGone() bool {
	raw, ok := c.raw.Load().(syscall.RawConn)
	if !ok {
		return c.inside.Load() == 0 && c.streams.Load() == 0
	}
	return raw.Control(func(uintptr) {}) != nil
}

// levels are the connections of a server, sorted.
type levels struct{ fresh, active, idle, streams []*conn }

func (s *server) levels() levels {
	var l levels
	s.conns.Range(func(key, v any) bool {
		c := v.(*conn)
		if key != any(c.nc) {
			return true // the second name of an HTTP/2 connection
		}
		switch http.ConnState(c.state.Load()) {
		case http.StateNew:
			l.fresh = append(l.fresh, c)
		case http.StateIdle:
			l.idle = append(l.idle, c)
		case http.StateHijacked:
			if c.isGone() {
				s.conns.Delete(key)
			} else {
				l.streams = append(l.streams, c)
			}
		case http.StateActive:
			if n := c.streams.Load(); n > 0 && n >= c.inside.Load() {
				l.streams = append(l.streams, c)
			} else {
				l.active = append(l.active, c)
			}
		}
		return true
	})
	return l
}

// stream is one long-lived request.
type stream struct {
	c      *conn
	ctx    context.Context
	cancel context.CancelFunc
}

func (p *program) stream(ctx context.Context) (context.Context, func()) {
	c, _ := ctx.Value(connKey{}).(*conn)
	if c == nil {
		c = &conn{} // not a request under Serve: only told, not counted
	}
	ctx, cancel := context.WithCancel(ctx)
	st := &stream{c, ctx, cancel}
	c.streams.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams[st] = struct{}{}
	if p.phase >= draining {
		cancel()
	}
	return ctx, func() { p.endStream(st) }
}

func (p *program) endStream(st *stream) {
	st.cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.streams[st]; ok {
		delete(p.streams, st)
		st.c.streams.Add(-1)
	}
}
