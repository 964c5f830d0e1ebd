package payload

import (
	"context"
	"errors"
	"net"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/turnstone-go/turnstone/internal/wire"
)

// server is one http.Server under Serve: its connections, its counters, and the hooks that keep them.
//
// The steady cost of a request is one small allocation for the writer, a handful of uncontended atomics
// and two lookups in a sync.Map. Levels (how many are idle, say) are not kept but counted when asked for.
type server struct {
	p       *program
	srv     *http.Server
	handler http.Handler

	conns  sync.Map    // net.Conn as the ConnState hook sees it > *conn
	gentle atomic.Bool // HTTP/2 connections say GOAWAY in two steps

	requests, errors5xx, errors4xx, cut atomic.Uint64
}

func (p *program) serve(srv *http.Server, ln net.Listener) error {
	handler := srv.Handler
	if handler == nil {
		handler = http.DefaultServeMux
	}
	s := &server{p: p, srv: srv, handler: handler}
	s.hook(ln)
	if p.env.wire != "" {
		if err := p.health.open(handler); err != nil {
			return err
		}
	}
	p.catchSignals()
	p.startTicking()
	p.mu.Lock()
	if p.phase >= draining {
		p.mu.Unlock()
		<-p.done
		return ln.Close()
	}
	p.servers = append(p.servers, s)
	p.mu.Unlock()
	err := srv.Serve(&firstAccept{Listener: ln, do: s.hookHTTP2})
	if errors.Is(err, http.ErrServerClosed) && p.isDraining() {
		<-p.done
		return nil
	}
	return err
}

func (p *program) isDraining() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.phase >= draining
}

// hook chains the server into the hooks of srv.
func (s *server) hook(ln net.Listener) {
	s.srv.Handler = s
	if base := s.srv.BaseContext; base != nil {
		s.srv.BaseContext = func(net.Listener) context.Context { return base(ln) } // its own, not our wrapper of it
	}
	userContext, userState := s.srv.ConnContext, s.srv.ConnState
	s.srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		ctx = context.WithValue(ctx, connKey{}, s.admit(c))
		if userContext != nil {
			return userContext(ctx, c)
		}
		return ctx
	}
	s.srv.ConnState = func(c net.Conn, state http.ConnState) {
		s.note(c, state)
		if userState != nil {
			userState(c, state)
		}
	}
}

// firstAccept does something before the first Accept: http.Server has set itself up by then, and no
// connection reads the setup yet.
type firstAccept struct {
	net.Listener
	once sync.Once
	do   func()
}

func (l *firstAccept) Accept() (net.Conn, error) {
	l.once.Do(l.do)
	c, err := l.Listener.Accept()
	if err == nil && !reflect.ValueOf(c).Comparable() {
		c = &named{c}
	}
	return c, err
}

// named stands for a connection of a listener that gives them as values which cannot be compared (a struct with a
// function in it, say): connections are kept by what the ConnState hook sees of them.
type named struct{ net.Conn }

// NetConn is the name by which crypto/tls and others give the connection below.
func (c *named) NetConn() net.Conn { return c.Conn }

// ServeHTTP serves one request of the public listener.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, _ := r.Context().Value(connKey{}).(*conn)
	if c == nil { // a server inside calls the handler with a context of its own
		c = &conn{}
	}
	c.inside.Add(1)
	if r.ProtoMajor == 1 {
		w1 := &writer1{writer{ResponseWriter: w, s: s, http1: true}}
		defer s.finish(&w1.writer, c)
		s.handler.ServeHTTP(w1, r)
		w1.returned = true
		return
	}
	w2 := &writer2{writer{ResponseWriter: w, s: s}}
	defer s.finish(&w2.writer, c)
	s.handler.ServeHTTP(w2, r)
	w2.returned = true
}

// finish counts an answer whose handler has returned or panicked.
func (s *server) finish(w *writer, c *conn) {
	c.inside.Add(-1)
	s.requests.Add(1)
	if !w.returned {
		s.countPanic(recover())
	}
	if w.status == 0 {
		w.begin(http.StatusOK) // net/http writes the header after this
	}
	switch w.status / 100 {
	case 5:
		s.errors5xx.Add(1)
	case 4:
		s.errors4xx.Add(1)
	}
}

// countPanic goes on with a panic. http.ErrAbortHandler is the documented way to cut an answer short, for
// instance in a proxy whose client has gone: it says nothing against this version.
func (s *server) countPanic(v any) {
	if v == nil {
		return // runtime.Goexit
	}
	if err, ok := v.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
		s.errors5xx.Add(1)
	}
	panic(v)
}

// stats adds up the servers.
func (p *program) stats() wire.Stats {
	var st wire.Stats
	for _, s := range p.allServers() {
		st.Requests += s.requests.Load()
		st.Errors5xx += s.errors5xx.Load()
		st.Errors4xx += s.errors4xx.Load()
		st.Cut += s.cut.Load()
		l := s.levels()
		st.Active += len(l.fresh) + len(l.active)
		st.Idle += len(l.idle)
		st.Streams += len(l.streams)
	}
	st.Open = st.Active + st.Idle + st.Streams
	return st
}

// goAway tells every HTTP/2 connection to take its next streams elsewhere. A client that does not read
// may block the write of its connection, so nobody waits for them.
func (s *server) goAway() {
	s.conns.Range(func(key, _ any) bool {
		if f, ok := key.(interface{ goAway() }); ok {
			go f.goAway()
		}
		return true
	})
}
