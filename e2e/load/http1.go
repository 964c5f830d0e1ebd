package load

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// conn is one client connection with its whole life known.
type conn struct {
	net.Conn
	r      *bufio.Reader
	opened time.Time    // when it was asked for: who was given it may be dead by the time this client hears of it
	served atomic.Int64 // answers that came on it
	sent   atomic.Int64 // HTTP/2: requests written to it
	inside atomic.Int64 // HTTP/2: requests that wait for an answer
}

func (w *worker) dial() (*conn, error) {
	begun := time.Now()
	nc, err := net.DialTimeout("tcp", w.load.opts.Address, w.load.opts.Patience)
	if err != nil {
		w.load.book.lost(w.class, failed, begun, err)
		return nil, err
	}
	c := &conn{Conn: nc, r: bufio.NewReader(nc), opened: begun}
	w.load.book.opened(c)
	return c, nil
}

func (w *worker) drop(c *conn) {
	if c != nil {
		w.load.book.closed(c)
		_ = c.Close() // nothing is left to lose on it
	}
}

// keepAlive sends one request after the other, on one connection for as long as the server keeps it, or
// each on its own (class Fresh).
func keepAlive(ctx context.Context, w *worker) {
	var c *conn
	defer func() { w.drop(c) }()
	for {
		if c == nil {
			c, _ = w.dial() // counted by dial
		}
		if c != nil && !w.ask(c) {
			w.drop(c)
			c = nil
		}
		if !w.rest(ctx) {
			return
		}
	}
}

// ask sends one request and says whether the connection may carry another.
func (w *worker) ask(c *conn) (again bool) {
	slow := w.slow()
	begun := time.Now()
	defer w.load.book.enter(slow)()
	_ = c.SetDeadline(w.deadline()) // a closed connection says so at the write
	_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: load\r\n%s\r\n", w.path(slow), w.header())
	if err == nil {
		_, err = c.r.Peek(1)
	}
	if err != nil {
		served := int(c.served.Load())
		w.load.book.lost(w.class, lossKind(err, served), c.opened, fmt.Errorf("after %d answers, %s in: %w", served, time.Since(begun).Round(time.Microsecond), err))
		return false
	}
	resp, err := http.ReadResponse(c.r, nil)
	version := ""
	if err == nil {
		version, err = whole(resp)
	}
	if err != nil {
		w.load.book.lost(w.class, failed, c.opened, fmt.Errorf("broken answer: %w", err))
		return false
	}
	c.served.Add(1)
	w.load.book.answered(w.class, time.Since(begun), slow, version)
	return !resp.Close && w.class != Fresh
}

func (w *worker) header() string {
	if w.class == Fresh {
		return "Connection: close\r\n"
	}
	return ""
}

// whole reads the answer to its end, refuses any that says the server failed, and returns the version that
// the example says it is.
func whole(resp *http.Response) (version string, err error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return "", err
	}
	if resp.StatusCode >= 500 {
		return "", errors.New(resp.Status)
	}
	var says struct{ Version string }
	_ = json.Unmarshal(body, &says) // another program may answer anything
	return says.Version, nil
}
