package load

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// goodbye is the line by which the example says that it ends an upgraded connection.
const goodbye = "bye\n"

// errTold is a stream that the server ended with a goodbye.
var errTold = errors.New("the server said goodbye")

// stream keeps one upgraded connection and has a line echoed every pause. One that the server ends is
// counted as told or cut, and opened anew.
func stream(ctx context.Context, w *worker) {
	for {
		w.oneStream(ctx)
		if !w.rest(ctx) {
			return
		}
	}
}

func (w *worker) oneStream(ctx context.Context) {
	c, err := w.dial()
	if err != nil {
		return
	}
	defer w.drop(c)
	server, err := w.upgrade(c)
	if err != nil {
		w.load.book.lost(w.class, failed, c.opened, err)
		return
	}
	w.load.book.stream(1)
	defer w.load.book.stream(-1)
	for n := 0; err == nil && ctx.Err() == nil; n++ {
		begun := time.Now()
		if err = w.echo(c, n); err == nil {
			w.load.book.answered(w.class, time.Since(begun), 0, "")
			err = w.listen(c)
		}
		if err != nil {
			err = fmt.Errorf("stream of %s, line %d: %w", time.Since(c.opened).Round(time.Millisecond), n, err)
		}
	}
	switch e := (End{Server: server, Opened: c.opened}); {
	case errors.Is(err, errTold):
		w.load.book.ended(e, nil)
	case err != nil:
		w.load.book.ended(e, err)
	}
}

// upgrade turns c into a stream and returns what the server says it is.
func (w *worker) upgrade(c *conn) (server string, err error) {
	_ = c.SetDeadline(w.deadline()) // a closed connection says so at the write
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: load\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", w.load.opts.Upgrade); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return "", errors.New("no upgrade: " + resp.Status)
	}
	return resp.Header.Get("Server"), nil
}

// echo sends a line and reads it back. A server that ended the stream in the meantime may have left its
// goodbye to be read.
func (w *worker) echo(c *conn, n int) error {
	line := fmt.Sprintf("line %d\n", n)
	_ = c.SetDeadline(w.deadline()) // a closed connection says so at the write
	_, err := c.Write([]byte(line))
	got, rerr := c.r.ReadString('\n')
	switch {
	case got == goodbye:
		return errTold
	case err == nil && rerr == nil && got != line:
		return fmt.Errorf("sent %q, got %q", line, got)
	}
	return errors.Join(err, rerr)
}

// listen is the pause of a stream: what the server says by itself can only be its end.
func (w *worker) listen(c *conn) error {
	_ = c.SetReadDeadline(time.Now().Add(w.pause())) // likewise
	if _, err := c.r.Peek(1); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		return err
	}
	_ = c.SetReadDeadline(w.deadline()) // likewise
	got, err := c.r.ReadString('\n')
	if got == goodbye {
		return errTold
	}
	if err == nil {
		err = fmt.Errorf("got %q unasked", got)
	}
	return err
}
