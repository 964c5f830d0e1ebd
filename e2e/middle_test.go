package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/stage"
)

// middle is a web server in front of the published repository, and not an honest one: it does to artifacts
// what a test tells it to. Metadata goes through as it is.
type middle struct {
	*httptest.Server
	origin *url.URL

	mu     sync.Mutex
	down   bool // nothing is answered, metadata neither
	fault  fault
	ranges []string // Range of every request for an artifact, "" for the whole
	bytes  int64    // of artifacts that went out
	era    int      // of the fault
}

// fault answers a request for an artifact, whose whole bytes it gets. nil is an honest server.
type fault func(w http.ResponseWriter, whole []byte)

// behind puts a middle between the stage's repository and the launcher that is not started yet.
func behind(t *testing.T, s *stage.Stage) *middle {
	t.Helper()
	origin, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	m := &middle{origin: origin}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	edit(t, s, s.URL, m.URL)
	return m
}

func (m *middle) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	artifact := strings.HasPrefix(r.URL.Path, "/artifacts/")
	m.mu.Lock()
	f, era := m.fault, m.era
	if artifact {
		m.ranges = append(m.ranges, r.Header.Get("Range"))
	}
	down := m.down
	m.mu.Unlock()
	switch {
	case down:
		gone(w, nil)
	case !artifact:
		httputil.NewSingleHostReverseProxy(m.origin).ServeHTTP(w, r)
	default:
		m.artifact(&countWriter{w, m, era}, r, f)
	}
}

// artifact answers a request for a program.
func (m *middle) artifact(w http.ResponseWriter, r *http.Request, f fault) {
	if f == nil {
		httputil.NewSingleHostReverseProxy(m.origin).ServeHTTP(w, r)
		return
	}
	resp, err := http.Get(m.origin.JoinPath(r.URL.Path).String())
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	whole, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("ETag", resp.Header.Get("ETag"))
	f(w, whole)
}

// countWriter counts what goes out of artifacts while their fault is the server's.
type countWriter struct {
	http.ResponseWriter
	m   *middle
	era int
}

func (c *countWriter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if c.era == c.m.era {
		c.m.bytes += int64(n)
	}
	return n, err
}

func (c *countWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// is sets the fault and forgets what was counted.
func (m *middle) is(f fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault, m.ranges, m.bytes = f, nil, 0
	m.era++
}

// dies makes the whole server go away.
func (m *middle) dies() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = true
}

// seen returns the ranges asked for and the bytes sent since the fault was set.
func (m *middle) seen() (ranges []string, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.ranges...), m.bytes
}

// flipped sends every byte but one as it is.
func flipped(w http.ResponseWriter, whole []byte) {
	b := append([]byte(nil), whole...)
	b[len(b)/2] ^= 1
	_, _ = w.Write(b) // the reader may have had enough
}

// truncated calls the first half the whole file.
func truncated(w http.ResponseWriter, whole []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(len(whole)/2))
	_, _ = w.Write(whole[:len(whole)/2]) // the reader may have had enough
}

// endless sends the file and does not stop, without a word about the length.
func endless(w http.ResponseWriter, whole []byte) {
	for range 8 {
		if _, err := w.Write(whole); err != nil {
			return
		}
	}
}

// cutAfter ends the connection after n bytes of the whole file.
func cutAfter(n int) fault {
	return func(w http.ResponseWriter, whole []byte) {
		w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
		_, _ = w.Write(whole[:n]) // the reader may have gone
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

// gone ends every connection without a word.
func gone(http.ResponseWriter, []byte) { panic(http.ErrAbortHandler) }

// slowed sends the whole file, which takes d.
func slowed(d time.Duration) fault {
	return func(w http.ResponseWriter, whole []byte) {
		w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
		const steps = 50
		for i := range steps {
			if _, err := w.Write(whole[i*len(whole)/steps : (i+1)*len(whole)/steps]); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			time.Sleep(d / steps)
		}
	}
}
