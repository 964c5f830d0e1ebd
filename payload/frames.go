package payload

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// HTTP/2 has a lossless way to send a client elsewhere (RFC 9113, section 6.8): first a GOAWAY that names
// the largest stream id, after which the client opens no new stream but all that are on their way are
// served, and the final GOAWAY only when the client must have seen the first. net/http sends the final one
// at once, so a stream that crosses it is refused. RFC 9113 lets the client repeat such a stream, but not
// every client does. So the first GOAWAY is written here, between two frames of net/http.
//
// net/http finds its HTTP/2 server in srv.TLSNextProto: "h2" gets a TLS connection, "unencrypted_http2"
// one whose client preface has been read, inside a tls.Conn that is never used as one. If either is absent
// (HTTP/2 off, or another net/http), its connections just keep to the single GOAWAY.
const (
	protoTLS   = "h2"
	protoPlain = "unencrypted_http2"
	preface    = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

// lastStream is a GOAWAY frame with last stream 2^31-1 and no error.
const lastStream = "\x00\x00\x08\x07\x00\x00\x00\x00\x00" + "\x7f\xff\xff\xff" + "\x00\x00\x00\x00"

// hookHTTP2 puts frames below the HTTP/2 server of net/http.
func (s *server) hookHTTP2() {
	plain, overTLS := s.srv.TLSNextProto[protoPlain], s.srv.TLSNextProto[protoTLS]
	if plain == nil {
		return
	}
	s.srv.TLSNextProto[protoPlain] = func(srv *http.Server, tc *tls.Conn, h http.Handler) {
		carrier, ok := tc.NetConn().(interface{ UnencryptedNetConn() net.Conn })
		if !ok {
			plain(srv, tc, h)
			return
		}
		nc := carrier.UnencryptedNetConn()
		f := &frames{Conn: nc, leaving: s.p.leaving.Load}
		s.serveFrames(nc, f, func(c net.Conn) { plain(srv, carry(c), h) })
	}
	if overTLS != nil {
		s.srv.TLSNextProto[protoTLS] = func(srv *http.Server, tc *tls.Conn, h http.Handler) {
			if !readPreface(tc) {
				return
			}
			f := &tlsFrames{&frames{Conn: tc, leaving: s.p.leaving.Load}, tc}
			s.serveFrames(tc, f, func(c net.Conn) { plain(srv, carry(c), h) })
		}
	}
	s.gentle.Store(true)
}

// serveFrames serves f, which stands for nc. The ConnState hook is then called with f.
func (s *server) serveFrames(nc, f net.Conn, serve func(net.Conn)) {
	if v, ok := s.conns.Load(nc); ok {
		c := v.(*conn)
		c.h2.Store(true)
		s.conns.Store(f, c)
		defer s.conns.Delete(f)
	}
	serve(f)
}

// carry wraps c as net/http's HTTP/2 server expects an unencrypted connection.
func carry(c net.Conn) *tls.Conn { return tls.Client(carrier{Conn: c}, nil) }

type carrier struct{ net.Conn }

func (c carrier) UnencryptedNetConn() net.Conn { return c.Conn }

// readPreface does for TLS what net/http does for an unencrypted connection before it hands it over.
func readPreface(tc *tls.Conn) bool {
	got := make([]byte, len(preface))
	_ = tc.SetReadDeadline(time.Now().Add(10 * time.Second)) // as long as net/http waits; an error shows in the read
	_, err := io.ReadFull(tc, got)
	_ = tc.SetReadDeadline(time.Time{}) // an error shows in the next read
	return err == nil && bytes.Equal(got, []byte(preface))
}

// frames is an HTTP/2 connection that knows where the frames which are written begin.
type frames struct {
	net.Conn
	leaving func() bool

	mu     sync.Mutex
	header [9]byte
	have   int  // bytes of the header of the present frame that were written
	rest   int  // bytes of its body that are still to come
	first  bool // the first frame (SETTINGS, which must come first) is out
	want   bool // a GOAWAY is wanted
	sent   bool
}

// Write is called by one goroutine at a time.
func (f *frames) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.Conn.Write(b)
	f.follow(b[:n])
	if err == nil {
		f.say()
	}
	return n, err
}

// follow reads the frame headers in b. The length of a body is in the first three bytes (RFC 9113, 4.1).
func (f *frames) follow(b []byte) {
	for len(b) > 0 {
		if f.rest > 0 {
			n := min(f.rest, len(b))
			f.rest -= n
			b = b[n:]
		} else {
			n := copy(f.header[f.have:], b)
			f.have += n
			b = b[n:]
			if f.have < len(f.header) {
				return
			}
			f.rest = int(f.header[0])<<16 | int(f.header[1])<<8 | int(f.header[2])
		}
		if f.rest == 0 {
			f.have, f.first = 0, true
		}
	}
}

// say writes the GOAWAY if it is wanted and a frame may begin here.
func (f *frames) say() {
	if f.sent || !f.first || f.have > 0 || !f.want && !f.leaving() {
		return
	}
	f.sent = true
	_, _ = io.WriteString(f.Conn, lastStream) // the next write of the server shows a broken connection
}

// goAway sends the first GOAWAY, at once or after the frame that is being written.
func (f *frames) goAway() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.want = true
	f.say()
}

// CloseWrite, for a connection that ends while the client may still be sending.
func (f *frames) CloseWrite() error { return closeWrite(f.Conn) }

// tlsFrames are frames over TLS; net/http asks for the state of the connection.
type tlsFrames struct {
	*frames
	tc *tls.Conn
}

func (f *tlsFrames) ConnectionState() tls.ConnectionState { return f.tc.ConnectionState() }
