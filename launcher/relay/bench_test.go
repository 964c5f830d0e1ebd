package relay

import (
	"io"
	"net"
	"net/http"
	"testing"
)

// BenchmarkRequests compares a small HTTP server reached directly and through the proxy, on connections that
// are kept and on a new one for each request. Client, proxy and server share the processors, so the ratio
// says what one more hop costs at saturation, where a real payload would do work of its own.
func BenchmarkRequests(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })}
	go srv.Serve(ln)
	b.Cleanup(func() { srv.Close() })
	p := newProxy(b, Options{})
	p.Switch(p.NewTarget("1", ln.Addr().String()))

	for _, way := range []struct{ name, addr string }{{"direct", ln.Addr().String()}, {"proxy", p.socket.Addr().String()}} {
		b.Run("keep-alive/"+way.name, func(b *testing.B) { requests(b, way.addr, true) })
		b.Run("per-connection/"+way.name, func(b *testing.B) { requests(b, way.addr, false) })
	}
}

func requests(b *testing.B, addr string, keep bool) {
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		tr := &http.Transport{DisableKeepAlives: !keep, MaxIdleConnsPerHost: 1}
		defer tr.CloseIdleConnections()
		client := &http.Client{Transport: tr}
		for pb.Next() {
			resp, err := client.Get("http://" + addr)
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

// BenchmarkSwitch is the swap alone.
func BenchmarkSwitch(b *testing.B) {
	p := newProxy(b, Options{})
	x, y := p.NewTarget("x", "127.0.0.1:1"), p.NewTarget("y", "127.0.0.1:1")
	for b.Loop() {
		p.Switch(x)
		p.Switch(y)
	}
}
