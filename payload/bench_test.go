//go:build linux

package payload

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkServe compares the steady cost of a server under Serve with plain net/http: one kept-alive
// connection per processor, the smallest request. Compare cpu-ns/op (of the whole process, the client
// included) with benchstat over several counts; what Serve adds should stay within 3 percent.
func BenchmarkServe(b *testing.B) {
	b.Run("plain", func(b *testing.B) {
		ln := listenBench(b)
		srv := &http.Server{Handler: hello{}}
		go func() { _ = srv.Serve(ln) }()
		defer srv.Close()
		bench(b, ln.Addr())
	})
	b.Run("payload", func(b *testing.B) {
		p := newProgram(environment{}, nil)
		ln, err := p.listen("http", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		srv := &http.Server{Handler: hello{}}
		go func() { _ = p.serve(srv, ln) }()
		defer srv.Close()
		bench(b, ln.Addr())
	})
}

type hello struct{}

func (hello) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "hello, world\n")
}

func listenBench(b *testing.B) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return ln
}

func bench(b *testing.B, addr net.Addr) {
	b.ReportAllocs()
	before := cpuTime(b)
	defer func() { b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op") }()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", addr.String())
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		for pb.Next() {
			if _, err := io.WriteString(c, get); err != nil {
				b.Error(err)
				return
			}
			if err := discardAnswer(r); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// discardAnswer reads an answer of hello, without the cost of a client.
func discardAnswer(r *bufio.Reader) error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) == 2 {
			_, err = r.Discard(len("hello, world\n"))
			return err
		}
	}
}

// cpuTime is less disturbed by what else runs on the machine than the clock.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
