package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/turnstone-go/turnstone/payload"
)

type service struct {
	version string
	fault   *faults
	holding atomic.Pointer[holding]
	said    atomic.Int64
}

// holding is what /work shows.
type holding struct {
	Holder bool   `json:"holder"`
	Fence  uint64 `json:"fence"`
	Count  uint64 `json:"count"`
}

func (s *service) routes() http.Handler {
	public := http.NewServeMux()
	public.HandleFunc("GET /{$}", s.root)
	public.HandleFunc("GET /slow", s.slow)
	public.HandleFunc("GET /events", s.events)
	public.HandleFunc("GET /say", s.say)
	public.HandleFunc("GET /upgrade", s.upgrade)
	public.HandleFunc("GET /work", s.showWork)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.Handle("/", s.fault.spoil(public))
	return mux
}

func (s *service) root(w http.ResponseWriter, _ *http.Request) {
	s.reply(w, map[string]any{"version": s.version, "pid": os.Getpid()})
}

func (s *service) healthz(w http.ResponseWriter, r *http.Request) {
	if err := s.fault.health(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if err := s.depends(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	s.reply(w, map[string]any{"status": "ok", "version": s.version})
}

// depends asks what EXAMPLE_DEPENDS names, as a service does whose health is that of another one too.
func (s *service) depends(ctx context.Context) error {
	url := os.Getenv("EXAMPLE_DEPENDS")
	if url == "" {
		return nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"?version="+s.version, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("what it depends on answers %s", resp.Status)
	}
	return nil
}

func (s *service) slow(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.Atoi(r.URL.Query().Get("ms"))
	if err != nil || ms < 0 || ms > 60_000 {
		http.Error(w, "ms must be a number from 0 to 60000", http.StatusBadRequest)
		return
	}
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
	case <-r.Context().Done():
		return
	}
	s.root(w, r)
}

// say prints numbered lines, as a service does that has much to tell.
func (s *service) say(w http.ResponseWriter, r *http.Request) {
	lines, err := strconv.Atoi(r.URL.Query().Get("lines"))
	if err != nil || lines < 0 || lines > 10_000 {
		http.Error(w, "lines must be a number from 0 to 10000", http.StatusBadRequest)
		return
	}
	for range lines {
		fmt.Printf("line %d\n", s.said.Add(1))
	}
	s.root(w, r)
}

func (s *service) showWork(w http.ResponseWriter, _ *http.Request) {
	h := s.holding.Load()
	if h == nil {
		h = &holding{}
	}
	s.reply(w, h)
}

func (s *service) events(w http.ResponseWriter, r *http.Request) {
	ctx, done := payload.Stream(r.Context())
	defer done()
	w.Header().Set("Content-Type", "text/event-stream")
	out := http.NewResponseController(w)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for n := 1; ; n++ {
		if _, err := fmt.Fprintf(w, "data: %s %d\n\n", s.version, n); err != nil || out.Flush() != nil {
			return
		}
		select {
		case <-ctx.Done():
			_, _ = fmt.Fprint(w, "retry: 500\ndata: bye\n\n") // the client comes back by itself either way
			return
		case <-ticker.C:
		}
	}
}

// upgrade turns the connection into an echo of lines, as a WebSocket would.
func (s *service) upgrade(w http.ResponseWriter, r *http.Request) {
	hijacker, ok := w.(http.Hijacker)
	if !ok || !strings.EqualFold(r.Header.Get("Upgrade"), "echo") {
		w.Header().Set("Upgrade", "echo")
		http.Error(w, `ask with "Connection: Upgrade" and "Upgrade: echo" over HTTP/1.1`, http.StatusUpgradeRequired)
		return
	}
	ctx, done := context.Background(), func() {}
	if !r.URL.Query().Has("stay") {
		ctx, done = payload.Stream(r.Context())
	}
	defer done()
	nc, buf, err := hijacker.Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer nc.Close()
	if _, err := fmt.Fprintf(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nServer: example/%s\r\n\r\n", s.version); err != nil {
		return
	}
	echo(ctx, nc, buf.Reader)
}

// echo sends lines back until the client ends or the stream is told to.
func echo(ctx context.Context, nc net.Conn, in *bufio.Reader) {
	stop := context.AfterFunc(ctx, func() { _ = nc.SetReadDeadline(time.Now()) }) // the read shows any error
	defer stop()
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			break
		}
		if _, err := nc.Write(line); err != nil {
			return
		}
	}
	if ctx.Err() != nil {
		_, _ = nc.Write([]byte("bye\n")) // the client may be gone
		linger(nc)
	}
}

// linger ends our half and reads what the client had on its way. A close with bytes unread would reset the
// connection, and a client on Windows then gets the reset instead of what was written before it.
func linger(nc net.Conn) {
	if half, ok := nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the read shows any error
		_ = nc.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.Copy(io.Discard, nc)
	}
}

func (s *service) reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}
