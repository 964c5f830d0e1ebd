package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"

	"github.com/turnstone-go/turnstone/updater"
)

// ErrNotRunning means that no launcher answers at the address.
var ErrNotRunning = errors.New("the launcher is not running")

// maxAnswer bounds what a client reads: a full history with evidence has a few MiB.
const maxAnswer = 16 << 20

// Client asks a running launcher. Every error is an *Error or wraps ErrNotRunning, unless ctx ended.
type Client struct {
	http *http.Client
}

// NewClient makes a client; it connects at each request.
func NewClient(addr string) *Client {
	return &Client{&http.Client{Transport: &http.Transport{
		DisableKeepAlives:     true, // one request per connection: places are few
		ResponseHeaderTimeout: checkLimit + 2*slow,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, slow)
			defer cancel()
			return dialAddress(ctx, addr)
		},
	}}}
}

// Status asks how the service is.
func (c *Client) Status(ctx context.Context) (st Status, err error) {
	return st, c.ask(ctx, "status", &st)
}

// Stacks asks what every goroutine of the launcher does.
func (c *Client) Stacks(ctx context.Context) (s Stacks, err error) {
	return s, c.ask(ctx, "stacks", &s)
}

// Why asks what is between a release and this host; "" is every newer release of the channel.
func (c *Client) Why(ctx context.Context, number string) (w Why, err error) {
	return w, c.ask(ctx, "why?version="+url.QueryEscape(number), &w)
}

// History asks for the last entries, newest first.
func (c *Client) History(ctx context.Context, limit int) ([]Record, error) {
	var h History
	err := c.ask(ctx, "history?limit="+strconv.Itoa(limit), &h)
	return h.Entries, err
}

// Check lets the launcher read the channel now.
func (c *Client) Check(ctx context.Context) (w Why, err error) {
	ctx, cancel := context.WithTimeout(ctx, checkLimit+2*slow)
	defer cancel()
	return w, c.do(ctx, http.MethodPost, "check", nil, &w)
}

// Order sends one of the verbs update, rollback, pin, unpin, pause, resume and quarantine/clear. It returns
// when the engine has applied the order.
func (c *Client) Order(ctx context.Context, verb string, q Request) error {
	ctx, cancel := context.WithTimeout(ctx, 3*slow)
	defer cancel()
	return c.do(ctx, http.MethodPost, verb, marshal(q), nil)
}

// Events begins to follow. Events of whatever is ordered after it returned are in the stream.
func (c *Client) Events(ctx context.Context) (*Events, error) {
	res, err := c.send(ctx, http.MethodGet, "events", nil)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	return &Events{body: res.Body, lines: lines}, nil
}

// Events is a stream of what happens.
type Events struct {
	body  io.ReadCloser
	lines *bufio.Scanner
}

// Next waits for an event. io.EOF means that the launcher stopped, or cut off a follower that was too slow.
func (e *Events) Next() (updater.Event, error) {
	for e.lines.Scan() {
		line := bytes.TrimSpace(e.lines.Bytes())
		if len(line) == 0 {
			continue // heartbeat
		}
		var ev updater.Event
		if err := json.Unmarshal(line, &ev); err != nil {
			return ev, fmt.Errorf("read event: %w", err)
		}
		return ev, nil
	}
	if err := e.lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		return updater.Event{}, fmt.Errorf("read event: %w", err)
	}
	return updater.Event{}, io.EOF
}

// Close ends the stream.
func (e *Events) Close() error { return e.body.Close() }

func (c *Client) ask(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 3*slow)
	defer cancel()
	return c.do(ctx, http.MethodGet, path, nil, into)
}

func (c *Client) do(ctx context.Context, method, path string, body []byte, into any) error {
	res, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(into); err != nil {
		return &Error{Internal, "read the launcher's answer: " + err.Error()}
	}
	return nil
}

// send returns an answer with status 200, or an error.
func (c *Client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://launcher/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, explain(ctx, err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	var f failure
	if err := json.NewDecoder(io.LimitReader(res.Body, maxBody)).Decode(&f); err != nil || f.Error.Code == OK {
		return nil, &Error{Internal, "the launcher answered " + res.Status}
	}
	return nil, &Error{f.Error.Code, f.Error.Text}
}

// explain tells apart who is not there, who does not let us in, and who does not answer.
func explain(ctx context.Context, err error) error {
	var wait net.Error
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.Is(err, fs.ErrPermission):
		return &Error{NoPrivilege, "the launcher's control socket is not open to you: run the command as an administrator (sudo)"}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return ErrNotRunning
	case errors.As(err, &wait) && wait.Timeout():
		return fmt.Errorf("%w, or it is too busy to answer", ErrNotRunning)
	}
	return fmt.Errorf("%w: %w", ErrNotRunning, err)
}
