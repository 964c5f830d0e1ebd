package payload

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// writer notes the status of an answer, and sends the client elsewhere while the process is leaving. It
// does so when the header is written and not when the request comes, so that a request which was inside
// when the park order came moves its client too.
type writer struct {
	http.ResponseWriter
	s        *server
	status   int // 0 until the header is written
	http1    bool
	returned bool // the handler did not panic
}

// writer1 is a writer with what net/http's writer for HTTP/1 can do beyond the interface, writer2 with
// what the one for HTTP/2 can do; handlers ask for these by type assertions.
type (
	writer1 struct{ writer }
	writer2 struct{ writer }
)

// begin is called once, before the header is written.
func (w *writer) begin(status int) {
	w.status = status
	if status == http.StatusSwitchingProtocols || !w.s.p.leaving.Load() {
		return
	}
	if w.http1 || !w.s.gentle.Load() { // on HTTP/2 net/http makes a GOAWAY of it
		w.Header().Set("Connection", "close")
	}
}

func (w *writer) implicit() {
	if w.status == 0 {
		w.begin(http.StatusOK)
	}
}

func (w *writer) WriteHeader(status int) {
	final := status >= 200 || status == http.StatusSwitchingProtocols // the other 1xx come before a final one
	if final && w.status == 0 {
		w.begin(status)
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(b []byte) (int, error) {
	w.implicit()
	return w.ResponseWriter.Write(b)
}

func (w *writer) WriteString(s string) (int, error) {
	w.implicit()
	return io.WriteString(w.ResponseWriter, s)
}

func (w *writer) Flush() { _ = w.FlushError() } // http.Flusher has no error to return

func (w *writer) FlushError() error {
	w.implicit()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap serves http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ReadFrom keeps sendfile and splice.
func (w *writer1) ReadFrom(r io.Reader) (int64, error) {
	w.implicit()
	if rf, ok := w.ResponseWriter.(io.ReaderFrom); ok {
		return rf.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{w.ResponseWriter}, r)
}

func (w *writer1) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h, ok := w.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, http.ErrNotSupported
	}
	nc, buf, err := h.Hijack()
	if err == nil && w.status == 0 {
		w.status = http.StatusSwitchingProtocols // whatever the handler writes now is not ours to see
	}
	return nc, buf, err
}

func (w *writer2) Push(target string, o *http.PushOptions) error {
	if p, ok := w.ResponseWriter.(http.Pusher); ok {
		return p.Push(target, o)
	}
	return http.ErrNotSupported
}
