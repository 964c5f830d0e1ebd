package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// lanes is how many requests an HTTP/2 connection carries at once.
const lanes = 4

// http2 keeps several requests going on one HTTP/2 connection, and opens another when the server has said
// GOAWAY. Requests go through ClientConn, which sends each once and never tries another connection.
func http2(ctx context.Context, w *worker) {
	for {
		w.oneConnection(ctx)
		if !w.rest(ctx) {
			return
		}
	}
}

// oneConnection sends requests on a new connection until the server retires it or ctx ends.
func (w *worker) oneConnection(ctx context.Context) {
	c, err := w.dial()
	if err != nil {
		return
	}
	defer w.drop(c)
	heard := &farewell{Conn: c.Conn}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return heard, nil }}
	cc, err := tr.NewClientConn(context.Background(), "http", w.load.opts.Address)
	if err != nil {
		w.load.book.lost(w.class, failed, c.opened, err)
		return
	}
	defer cc.Close()
	var wg sync.WaitGroup
	for lane := range lanes {
		lw := &worker{load: w.load, class: w.class, number: w.number*lanes + lane}
		wg.Go(func() { lw.lane(ctx, c, cc) })
	}
	wg.Wait()
	if c.sent.Load() == 0 && !heard.told.Load() { // one that was told to go elsewhere has asked for nothing, and loses nothing
		w.load.book.lost(w.class, failed, c.opened, errors.New("a fresh connection took no request"))
	}
}

// lane sends one request after the other for as long as the connection takes new ones.
func (w *worker) lane(ctx context.Context, c *conn, cc *http.ClientConn) {
	for {
		if cc.Err() != nil || cc.Reserve() != nil {
			return
		}
		if !w.askH2(c, cc) || !w.rest(ctx) {
			return
		}
	}
}

func (w *worker) askH2(c *conn, cc *http.ClientConn) bool {
	slow := w.slow()
	defer w.load.book.enter(slow)()
	c.inside.Add(1)
	defer c.inside.Add(-1)
	begun := time.Now()
	ctx, cancel := context.WithDeadline(context.Background(), w.deadline())
	defer cancel()
	var written atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() {
		written.Store(true)
		c.sent.Add(1)
	}})
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+w.load.opts.Address+w.path(slow), nil)
	if err != nil {
		panic(err) // the address was dialled
	}
	resp, err := cc.RoundTrip(req)
	if err != nil && !written.Load() {
		return false // the server retired the connection in this moment, and the request never left
	}
	if err != nil {
		served := int(c.served.Load())
		w.load.book.lost(w.class, lossKind(err, served), c.opened, fmt.Errorf("after %d answers, %s in: %w", served, time.Since(begun).Round(time.Microsecond), err))
		return false
	}
	version, err := whole(resp)
	if err != nil {
		w.load.book.lost(w.class, failed, c.opened, fmt.Errorf("broken answer: %w", err))
		return false
	}
	c.served.Add(1)
	w.load.book.answered(w.class, time.Since(begun), slow, version)
	return true
}

// farewell notes whether the server has said GOAWAY, which the client of net/http does not tell.
type farewell struct {
	net.Conn
	told atomic.Bool
	head []byte // of the frame that is being read, up to its 9 bytes
	skip int    // bytes of its payload that are still to come
}

func (f *farewell) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	for rest := b[:max(n, 0)]; len(rest) > 0; {
		if past := min(f.skip, len(rest)); past > 0 {
			f.skip, rest = f.skip-past, rest[past:]
			continue
		}
		f.head, rest = append(f.head, rest[0]), rest[1:]
		if len(f.head) < 9 {
			continue
		}
		const goAway = 7
		if f.head[3] == goAway {
			f.told.Store(true)
		}
		f.skip = int(f.head[0])<<16 | int(f.head[1])<<8 | int(f.head[2])
		f.head = f.head[:0]
	}
	return n, err
}
