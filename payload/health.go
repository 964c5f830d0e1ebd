package payload

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// health is the private listener on which the launcher asks exactly this process; on the shared public
// one any version might answer.
type health struct {
	mu      sync.Mutex
	check   func(context.Context) error
	handler http.Handler // of the first server, nil if none
	srv     *http.Server
	addr    string
}

func (h *health) set(check func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.check = check
}

// open starts the listener, once there is something to answer with.
func (h *health) open(handler http.Handler) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.handler == nil {
		h.handler = handler
	}
	if h.srv != nil || h.handler == nil && h.check == nil {
		return nil
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	h.addr = ln.Addr().String()
	h.srv = &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 64 << 10}
	go func() { _ = h.srv.Serve(ln) }() // it ends by Close alone; a lost health listener shows as failed probes
	return nil
}

func (h *health) address() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.addr
}

func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	check, handler := h.check, h.handler
	h.mu.Unlock()
	switch {
	case check != nil && r.URL.Path == "/healthz":
		if err := check(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n")) // who asked sees a failed write as a failed probe
	case handler != nil:
		handler.ServeHTTP(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (h *health) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.srv != nil {
		_ = h.srv.Close() // the process ends
	}
}
