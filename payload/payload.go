// Package payload lets a Go service be replaced by its next version while it runs, without losing a
// request: it takes the service's listeners from the launcher, tells the launcher when the service can
// serve, and moves its clients to the other version when it is told to.
//
// The invariant: a connection that this process accepted is answered by this process. Nothing is accepted
// before the launcher says so, what was accepted before a park or a drain is served to its end, and a
// client is sent elsewhere by its protocol (Connection: close, GOAWAY) and never by a closed connection,
// until a grace or a deadline that the launcher set has passed; what a deadline cut is counted.
//
// A whole service:
//
//	ln, err := payload.Listen("http", ":8080")
//	...
//	srv := &http.Server{Handler: mux}
//	if err := payload.Ready(); err != nil { ... } // as soon as requests can be answered
//	err = payload.Serve(srv, ln)                  // returns nil after a drain: let main return
//
// Without a launcher the same program runs alone: Listen opens addr, Ready does nothing, SIGTERM and
// Ctrl-C drain, the lease is granted at once.
//
// The package does not choose versions, does not restart anything and does not print. It cannot move an
// open connection to another process, and it cannot make a client repeat a request. UDP and QUIC are out
// of its reach. Its words on the wire are described in docs/PROTOCOL.md.
package payload

import (
	"context"
	"net"
	"net/http"
	"time"
)

// Listen returns the listener called name. Under a launcher it is the inherited public socket, or in proxy
// mode the private address that the launcher chose, and addr is not used; alone it is addr opened with
// net.Listen, where "unix:/path" means a unix stream socket.
//
// Accept on an inherited listener blocks while the launcher keeps this process parked, which it does from
// the start. The program should call Accept (or Serve) all the same: that a loop waits there is what the
// launcher is told when it un-parks the process.
func Listen(name, addr string) (net.Listener, error) { return self().listen(name, addr) }

// Serve serves srv on ln until the process is drained, and then returns nil; every other end of the server
// is returned as the error of srv.Serve. ln comes from Listen, as it is or wrapped (tls.NewListener, a
// connection limit). HTTP/2 works as srv.Protocols and the listener say.
//
// Serve counts connections and answers, ends kept-alive connections while the process is parked, and
// drains in the order that loses nothing. For that it chains itself into srv.Handler, srv.ConnState,
// srv.ConnContext and srv.BaseContext, so they must be set before. The ResponseWriter that handlers see
// has the optional methods of the one of net/http (Flush, Hijack or Push, ReadFrom, and the others by
// http.ResponseController).
//
// Under a launcher the first server's handler also answers on a private loopback address, where the
// launcher asks for the health of exactly this process.
func Serve(srv *http.Server, ln net.Listener) error { return self().serve(srv, ln) }

// Ready says that the program can serve. It may be called before or after Serve; the launcher hears it as
// soon as both its health can be asked and its loops run. Alone it does nothing.
func Ready() error { return self().ready() }

// OnPark has f called with true when the process is parked and with false when it takes connections again.
// It is not called for the parked state in which a process starts. Calls do not overlap, and a quick
// change back and forth may be left out. Nothing waits for f.
func OnPark(f func(parked bool)) { self().onPark(f) }

// OnDrain has f called once, when the drain begins. The drain waits for f to return; ctx ends at its
// deadline. It is the place to finish work that is not an HTTP request.
func OnDrain(f func(ctx context.Context)) { self().onDrain(f) }

// Stream marks the request of ctx (the context of an *http.Request under Serve) as a long-lived stream:
// server-sent events, a WebSocket, a gRPC stream. It is then not waited for as a request, but has the
// deadline of streams, and its returned context ends when the drain wants it to say goodbye; many streams
// are told one after the other, so that their clients do not come back all at once. The handler calls done
// when the stream has ended.
//
// An upgraded (hijacked) connection has the deadline of streams with or without Stream.
func Stream(ctx context.Context) (stream context.Context, done func()) { return self().stream(ctx) }

// Lease waits until this process is the one version that may do the work which must have exactly one
// owner, and returns a Holding, to be released when the work has stopped. The lease belongs to the
// process: several callers may hold it at once. The error is ctx's, or ErrDraining.
func Lease(ctx context.Context) (*Holding, error) { return self().lease.acquire(ctx) }

// Busy asks the launcher not to switch versions now, for at most atMost, and to show reason to people. The
// request ends with done or by itself. It is a wish: an operator and a failing version are not held up.
func Busy(reason string, atMost time.Duration) (done func()) { return self().busy.add(reason, atMost) }

// Health has f asked for the health of the program: the private listener answers GET /healthz with 200
// when f returns nil and with 503 and its text otherwise. It is for programs without an HTTP server, and
// for those whose /healthz should say something else there. Call it before Ready.
func Health(f func(ctx context.Context) error) { self().health.set(f) }

// Managed reports whether a launcher started this process.
func Managed() bool { return self().env.wire != "" }

// Version returns the version number under which the launcher started this process, "" alone.
func Version() string { return self().env.version }

// Done returns a channel that is closed when the drain is over and the program should return from main.
// Programs without listeners end on it.
func Done() <-chan struct{} {
	self().catchSignals()
	return self().done
}
