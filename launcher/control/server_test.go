package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
	"github.com/turnstone-go/turnstone/updater/policy"
)

// desk is a backend that remembers its orders.
type desk struct {
	mu      sync.Mutex
	status  Status
	orders  []updater.Order
	refuse  error
	history []Record
	onCheck func(*desk) // what a check finds
	stuck   bool        // no order comes to its turn
}

func (d *desk) Status() Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status
}

func (d *desk) Order(ctx context.Context, o updater.Order) error {
	if d.stuck {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse != nil {
		return d.refuse
	}
	d.orders = append(d.orders, o)
	if o.Kind == updater.OrderCheck && d.onCheck != nil {
		d.onCheck(d)
	}
	return nil
}

func (d *desk) History(limit int) ([]Record, error) {
	return d.history[:min(limit, len(d.history))], nil
}

// serve runs a server on a real socket until the test ends.
func serve(t *testing.T, d *desk, readGroup string) (*Server, string) {
	t.Helper()
	return serveOn(t, d, readGroup, func(ln net.Listener) net.Listener { return ln })
}

// serveOn is serve with a change of what the Listener accepts from.
func serveOn(t *testing.T, d *desk, readGroup string, change func(net.Listener) net.Listener) (*Server, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ts") // a unix socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	addr := Address(dir, filepath.Base(dir))
	ln, err := Listen(addr, readGroup)
	if err != nil {
		t.Fatal(err)
	}
	ln.ln = change(ln.ln)
	s := NewServer(d, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		err := gone(addr)
		for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); err = gone(addr) {
			time.Sleep(time.Millisecond) // a pipe goes with the last client that has noticed the end
		}
		if err != nil {
			t.Errorf("the socket was left behind: %v", err)
		}
	})
	return s, addr
}

// gone is an error as long as something is at addr.
func gone(addr string) error {
	switch _, err := os.Lstat(addr); {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return os.ErrExist
}

// raw sends bytes as they are and returns the answer's status and body.
func raw(t *testing.T, addr, request string) (int, string) {
	t.Helper()
	c, err := dialAddress(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go io.WriteString(c, request) // the server may answer before it has read all
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func post(path, body string) string {
	return fmt.Sprintf("POST /v1/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", path, len(body), body)
}

func TestOrders(t *testing.T) {
	d := &desk{}
	_, addr := serve(t, d, "")
	c := NewClient(addr)
	until := time.Date(2026, 12, 5, 0, 0, 0, 0, time.UTC)
	for verb, q := range map[string]Request{
		"update": {Version: "1.1.0", Now: true}, "rollback": {Version: "1.0.0", Reason: "slow"}, "pin": {Version: "1.0.0", Reason: "close", Until: until},
		"unpin": {}, "pause": {Reason: "x", Until: until}, "resume": {}, "quarantine/clear": {Version: "1.2.0"},
	} {
		if err := c.Order(t.Context(), verb, q); err != nil {
			t.Errorf("%s: %v", verb, err)
		}
	}
	want := []updater.Order{
		{Kind: updater.OrderUpdate, Number: "1.1.0", Now: true}, {Kind: updater.OrderRollback, Number: "1.0.0", Reason: "slow"},
		{Kind: updater.OrderPin, Number: "1.0.0", Reason: "close", Until: until}, {Kind: updater.OrderUnpin},
		{Kind: updater.OrderPause, Reason: "x", Until: until}, {Kind: updater.OrderResume}, {Kind: updater.OrderClear, Number: "1.2.0"},
	}
	for _, o := range want {
		if !slices.Contains(d.orders, o) {
			t.Errorf("no %+v in %+v", o, d.orders)
		}
	}
	if len(d.orders) != len(want) {
		t.Errorf("%d orders", len(d.orders))
	}
}

func TestRefusals(t *testing.T) {
	d := &desk{}
	_, addr := serve(t, d, "")
	c := NewClient(addr)
	for _, tc := range []struct {
		err  error
		want Code
	}{
		{fmt.Errorf("%w: not paused", updater.ErrNothing), NothingToDo},
		{fmt.Errorf("%w: first version", updater.ErrNoPrevious), NoWayBack},
		{fmt.Errorf("%w: pinned", updater.ErrHeld), HeldBack},
		{updater.ErrCurrent, NothingToDo},
		{updater.ErrOrder, Usage},
		{updater.ErrTooMany, Internal},
		{&Error{NotPrepared, "no space"}, NotPrepared},
		{fmt.Errorf("step: %w", context.DeadlineExceeded), Internal},
		{fmt.Errorf("%w: no journal", updater.ErrStalled), NotPrepared},
	} {
		d.refuse = tc.err
		err := c.Order(t.Context(), "update", Request{})
		var got *Error
		if !errors.As(err, &got) || got.Code != tc.want {
			t.Errorf("%v: got %v, want code %d", tc.err, err, tc.want)
		} else if tc.want != Internal && got.Text != tc.err.Error() {
			t.Errorf("text %q", got.Text)
		}
	}
}

// An order whose turn does not come is answered all the same, and not taken for a dead launcher.
func TestOrderTakenBack(t *testing.T) {
	t.Parallel()
	_, addr := serve(t, &desk{stuck: true}, "")
	err := NewClient(addr).Order(t.Context(), "pause", Request{})
	var e *Error
	if !errors.As(err, &e) || e.Code != Internal || !strings.Contains(e.Text, "try again") {
		t.Errorf("%v", err)
	}
}

func TestBadRequests(t *testing.T) {
	d := &desk{}
	_, addr := serve(t, d, "")
	for _, tc := range []struct {
		name, request string
		status        int
		text          string
	}{
		{"not JSON", post("update", "{"), 400, "read the request"},
		{"unknown field", post("update", `{"versoin":"1.0.0"}`), 400, "versoin"},
		{"two values", post("update", `{}{}`), 400, "more than one JSON value"},
		{"garbage behind", post("update", `{}]`), 400, "read the request"},
		{"wrong type", post("update", `{"version":7}`), 400, "read the request"},
		{"clear what", post("quarantine/clear", `{}`), 400, "name the version"},
		{"clear all and one", post("quarantine/clear", `{"version":"1.0.0","all":true}`), 400, "name the version"},
		{"no such verb", post("explode", `{}`), 404, "different versions"},
		{"wrong method", "GET /v1/update HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "different versions"},
		{"limit", "GET /v1/history?limit=0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400, "limit must be"},
		{"64 KiB and a byte", post("update", `{"reason":"`+strings.Repeat("x", maxBody-13)+`"} `), 413, "longer than 65536 bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, body := raw(t, addr, tc.request)
			var f failure
			if err := json.Unmarshal([]byte(body), &f); err != nil {
				t.Fatalf("%v in %q", err, body)
			}
			if status != tc.status || f.Error.Code != Usage || f.Error.Reason != "usage" || !strings.Contains(f.Error.Text, tc.text) {
				t.Errorf("%d %s", status, body)
			}
		})
	}
	if len(d.orders) > 0 {
		t.Errorf("orders came through: %+v", d.orders)
	}
	if status, body := raw(t, addr, post("update", `{"reason":"`+strings.Repeat("x", maxBody-13)+`"}`)); status != 200 {
		t.Errorf("64 KiB: %d %s", status, body)
	}
}

func TestEvents(t *testing.T) {
	s, addr := serve(t, &desk{}, "")
	c := NewClient(addr)
	events, err := c.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	at := time.Date(2026, 11, 22, 14, 2, 10, 0, time.UTC)
	for n := range int64(3) { // published after Events returned: all must come, in order
		s.Publish(updater.Event{At: at, Kind: "download", Done: n, Total: 3})
	}
	for n := range int64(3) {
		ev, err := events.Next()
		if err != nil || ev.Done != n || ev.Total != 3 || ev.Kind != "download" || !ev.At.Equal(at) {
			t.Fatalf("%+v, %v", ev, err)
		}
	}
}

func TestEventsEndWithTheServer(t *testing.T) {
	dir, err := os.MkdirTemp("", "ts")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ln, err := Listen(Address(dir, filepath.Base(dir)), "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	s := NewServer(&desk{}, slog.New(slog.DiscardHandler))
	go func() { done <- s.Serve(ctx, ln) }()
	events, err := NewClient(ln.Addr().String()).Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Publish(updater.Event{Kind: "last"})
	stop()
	if ev, err := events.Next(); ev.Kind != "last" || err != nil {
		t.Errorf("%+v, %v", ev, err)
	}
	if _, err := events.Next(); err != io.EOF {
		t.Errorf("err = %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestCheck(t *testing.T) {
	found := func(d *desk) {
		d.status.LastCheck = time.Now()
		why := NewWhy("1.0.0", d.status.LastCheck, []policy.Finding{{Number: "1.1.0", Verdicts: []policy.Verdict{{Gate: "newer", Pass: true}}}})
		d.status.Why = &why
	}
	d := &desk{onCheck: found}
	_, addr := serve(t, d, "")
	c := NewClient(addr)
	y, err := c.Check(t.Context())
	if err != nil || y.Outcome != Available || y.Findings[0].Number != "1.1.0" {
		t.Errorf("%+v, %v", y, err)
	}
	for _, tc := range []struct {
		verdict journal.Verdict
		want    Code
	}{{journal.Bad, NotVerified}, {journal.World, NotDownloaded}} {
		d.onCheck = func(d *desk) {
			d.status.Engine(updater.Status{LastCheck: time.Now(), CheckErr: "expired", CheckWas: tc.verdict})
		}
		_, err := c.Check(t.Context())
		var got *Error
		if !errors.As(err, &got) || got.Code != tc.want || !strings.Contains(got.Text, "expired") {
			t.Errorf("%s: %v", tc.verdict, err)
		}
	}
}

func TestWhyAboutOne(t *testing.T) {
	why := NewWhy("1.0.0", time.Now(), []policy.Finding{
		{Number: "1.2.0", Verdicts: []policy.Verdict{{Gate: "newer", Pass: true}, {Gate: "quarantine"}}},
		{Number: "1.1.0", Verdicts: []policy.Verdict{{Gate: "newer", Pass: true}}},
	})
	_, addr := serve(t, &desk{status: Status{Why: &why}}, "")
	c := NewClient(addr)
	for number, want := range map[string]Outcome{"": Available, "1.1.0": Available, "1.2.0": Blocked} {
		y, err := c.Why(t.Context(), number)
		if err != nil || y.Outcome != want {
			t.Errorf("%q: %+v, %v", number, y, err)
		}
	}
	var bad *Error
	if _, err := c.Why(t.Context(), "9.9.9"); !errors.As(err, &bad) || bad.Code != Usage || !strings.Contains(bad.Text, "[1.2.0 1.1.0]") {
		t.Errorf("err = %v", err)
	}
}
