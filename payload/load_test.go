//go:build linux || windows

package payload

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// load is a set of clients that never repeat a request, and what became of their requests.
type load struct {
	t    *testing.T
	addr string
	stop chan struct{}
	wg   sync.WaitGroup

	answers, streams, moved atomic.Uint64

	mu   sync.Mutex
	lost map[string]int // by class: refused, failed, retryable, torn, stream
	text []string
	pids map[string]uint64 // answers by process
}

func newLoad(t *testing.T, addr net.Addr) *load {
	return &load{t: t, addr: addr.String(), stop: make(chan struct{}), lost: make(map[string]int), pids: make(map[string]uint64)}
}

func (l *load) lose(class string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost[class]++
	if len(l.text) < 20 {
		l.text = append(l.text, fmt.Sprintf("%s: %v", class, err))
	}
}

func (l *load) answered(pid string) {
	l.answers.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pids[pid]++
}

func (l *load) by(pid int) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pids[fmt.Sprint(pid)]
}

func (l *load) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// finish ends the clients and reports what was lost.
func (l *load) finish() map[string]int {
	l.t.Helper()
	close(l.stop)
	l.wg.Wait()
	l.t.Logf("%d answers, %d stream messages, %d streams and connections moved, lost %v", l.answers.Load(), l.streams.Load(), l.moved.Load(), l.lost)
	for _, text := range l.text {
		l.t.Log(text)
	}
	return l.lost
}

func (l *load) dial() (net.Conn, *bufio.Reader) {
	c, err := net.DialTimeout("tcp", l.addr, 5*time.Second)
	if err != nil {
		l.lose("refused", err)
		return nil, nil
	}
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c, bufio.NewReader(c)
}

// roundTrip is one HTTP/1.1 request. begun tells whether a byte of the answer came.
func roundTrip(c net.Conn, r *bufio.Reader, request string) (resp *http.Response, body string, begun bool, err error) {
	if _, err := io.WriteString(c, request); err != nil {
		return nil, "", false, err
	}
	if _, err := r.Peek(1); err != nil {
		return nil, "", false, err
	}
	resp, err = http.ReadResponse(r, nil)
	if err != nil {
		return nil, "", true, err
	}
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), true, err
}

const (
	get    = "GET / HTTP/1.1\r\nHost: test\r\n\r\n"
	slow   = "GET /slow?ms=30 HTTP/1.1\r\nHost: test\r\n\r\n"
	post   = head + body
	head   = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n"
	body   = "hello"
	close1 = "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
)

// http1 runs n clients that send request again and again, on one connection as long as the server lets
// them. late waits between connecting and the first request.
func (l *load) http1(n int, request string, late, pause time.Duration) {
	for range n {
		l.wg.Go(func() {
			for !l.stopped() {
				l.oneConn(request, late, pause)
			}
		})
	}
}

func (l *load) oneConn(request string, late, pause time.Duration) {
	c, r := l.dial()
	if c == nil {
		return
	}
	defer c.Close()
	time.Sleep(late) // a client that takes its time; nothing is synchronised by it
	for reused := false; !l.stopped() || !reused; reused = true {
		resp, body, begun, err := roundTrip(c, r, request)
		switch {
		case err != nil && begun:
			l.lose("torn", err)
			return
		case err != nil && reused:
			l.lose("retryable", err)
			return
		case err != nil:
			l.lose("failed", err)
			return
		case resp.StatusCode != http.StatusOK:
			l.lose("failed", errors.New(resp.Status))
			return
		}
		l.answered(body)
		if resp.Close {
			l.moved.Add(1)
			return
		}
		time.Sleep(pause)
	}
}

// http2 runs n connections of a scheme, each with several streams open at any time.
func (l *load) http2(n, streams int, scheme string) {
	tr := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	tr.Protocols.SetUnencryptedHTTP2(scheme == "http")
	tr.Protocols.SetHTTP2(scheme == "https")
	for range n {
		l.wg.Go(func() {
			for !l.stopped() {
				l.oneHTTP2(tr, streams, scheme)
			}
		})
	}
}

// oneHTTP2 uses a connection until the server sends it elsewhere.
func (l *load) oneHTTP2(tr *http.Transport, streams int, scheme string) {
	cc, err := tr.NewClientConn(context.Background(), scheme, l.addr)
	if err != nil {
		class := "failed"
		if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.Errno(10061)) { // WSAECONNREFUSED
			class = "refused"
		}
		l.lose(class, err)
		return
	}
	defer cc.Close()
	var wg sync.WaitGroup
	for range streams {
		wg.Go(func() {
			for !l.stopped() && cc.Err() == nil {
				if !l.oneStream(cc, scheme) {
					return
				}
			}
		})
	}
	wg.Wait()
	l.moved.Add(1)
}

func (l *load) oneStream(cc *http.ClientConn, scheme string) bool {
	if cc.Reserve() != nil {
		return false // sent elsewhere
	}
	req, err := http.NewRequest("GET", scheme+"://"+l.addr+"/slow?ms=1", nil)
	if err != nil {
		panic(err)
	}
	resp, err := cc.RoundTrip(req)
	if err != nil {
		// The GOAWAY came between Reserve and RoundTrip: the client itself refuses, nothing was sent.
		if strings.Contains(err.Error(), "client conn not usable") || strings.Contains(err.Error(), "client connection is closing") {
			return false
		}
		l.lose("http2", err)
		return false
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		l.lose("http2 torn", fmt.Errorf("%s: %w", resp.Status, err))
		return false
	}
	l.answered(string(b))
	return true
}

// upgraded runs n streams that expect each of their lines back, and "bye" before the end.
func (l *load) upgraded(n int) {
	for range n {
		l.wg.Go(func() {
			for !l.stopped() {
				l.oneUpgrade()
			}
		})
	}
}

func (l *load) oneUpgrade() {
	c, r := l.dial()
	if c == nil {
		return
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /echo HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"); err != nil {
		l.lose("failed", err)
		return
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		l.lose("failed", fmt.Errorf("upgrade: %v %w", resp, err))
		return
	}
	for i := 0; !l.stopped(); i++ {
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		want := fmt.Sprintf("message %d\n", i)
		_, werr := io.WriteString(c, want)
		got, err := r.ReadString('\n')
		if got == "bye\n" {
			l.moved.Add(1)
			return
		}
		if err != nil || werr != nil || got != want {
			l.lose("stream", fmt.Errorf("message %d: got %q: %w", i, got, errors.Join(err, werr)))
			return
		}
		l.streams.Add(1)
		time.Sleep(2 * time.Millisecond)
	}
}
