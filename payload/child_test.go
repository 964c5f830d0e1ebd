//go:build linux || windows

package payload

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// TestMain runs a test, or in a child process the program that a test asks for.
func TestMain(m *testing.M) {
	role := os.Getenv("PAYLOAD_TEST_ROLE")
	if role == "" {
		os.Exit(m.Run())
	}
	if d, err := time.ParseDuration(os.Getenv("PAYLOAD_TEST_ORPHAN")); err == nil {
		orphan = d
	}
	statsPeriod = 10 * time.Millisecond
	if d, err := time.ParseDuration(os.Getenv("PAYLOAD_TEST_STATS")); err == nil {
		statsPeriod = d
	}
	if err := roles[role](); err != nil {
		fmt.Fprintf(os.Stderr, "child %s: %v\n", role, err)
		os.Exit(1)
	}
	os.Exit(0)
}

var roles = map[string]func() error{
	"serve":  serveRole,
	"values": valuesRole,
	"limit":  limitRole,
	"lease":  leaseRole,
	"agent":  agentRole,
	"raw":    rawRole,
	"tls":    tlsRole,
	"noloop": noLoopRole,
}

// serveRole is an ordinary service.
func serveRole() error {
	ln, err := Listen("http", os.Getenv("PAYLOAD_TEST_ADDR"))
	if err != nil {
		return err
	}
	if !Managed() {
		fmt.Println(ln.Addr())
	}
	srv := &http.Server{Handler: handler(), Protocols: new(http.Protocols), ErrorLog: log.New(io.Discard, "", 0)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	if err := Ready(); err != nil {
		return err
	}
	return Serve(srv, ln)
}

// valueListener gives connections that cannot be compared.
type valueListener struct{ net.Listener }

type valueConn struct {
	net.Conn
	_ func()
}

func (l valueListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return valueConn{Conn: c}, err
}

// valuesRole serves connections that are values.
func valuesRole() error {
	return serveOver(func(ln net.Listener) net.Listener { return valueListener{ln} })
}

// limitListener takes one connection at a time, as a limit of the program's own does.
type limitListener struct {
	net.Listener
	place chan struct{}
}

type limitConn struct {
	net.Conn
	leave func()
}

func (c *limitConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

func (l limitListener) Accept() (net.Conn, error) {
	l.place <- struct{}{}
	leave := sync.OnceFunc(func() { <-l.place })
	c, err := l.Listener.Accept()
	if err != nil {
		leave()
		return nil, err
	}
	return &limitConn{c, leave}, nil
}

// limitRole serves one connection at a time.
func limitRole() error {
	return serveOver(func(ln net.Listener) net.Listener { return limitListener{ln, make(chan struct{}, 1)} })
}

// serveOver is an ordinary service with a listener of its own over ours.
func serveOver(over func(net.Listener) net.Listener) error {
	ln, err := Listen("http", "")
	if err != nil {
		return err
	}
	if err := Ready(); err != nil {
		return err
	}
	return Serve(&http.Server{Handler: handler()}, over(ln))
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d", os.Getpid())
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		ms, _ := strconv.Atoi(r.URL.Query().Get("ms"))
		time.Sleep(time.Duration(ms) * time.Millisecond)
		fmt.Fprintf(w, "%d", os.Getpid())
	})
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 1<<20))
	})
	mux.HandleFunc("/status", func(w http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		w.WriteHeader(code)
	})
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic("a test panics here") })
	mux.HandleFunc("/events", events)
	mux.HandleFunc("/echo", echo)
	return mux
}

// events is a stream that is not hijacked.
func events(w http.ResponseWriter, r *http.Request) {
	ctx, done := Stream(r.Context())
	defer done()
	fmt.Fprintln(w, "begin")
	w.(http.Flusher).Flush()
	<-ctx.Done()
	if r.URL.Query().Has("stubborn") {
		<-r.Context().Done()
	}
	fmt.Fprintln(w, "bye")
}

// echo hijacks the connection, and sends lines back until it is told to finish or the client ends.
func echo(w http.ResponseWriter, r *http.Request) {
	ctx, done := Stream(r.Context())
	defer done()
	nc, buf, err := w.(http.Hijacker).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer nc.Close()
	if !bare(nc) {
		fmt.Fprintf(os.Stderr, "hijacked a %T\n", nc)
		return
	}
	fmt.Fprint(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if !r.URL.Query().Has("stubborn") {
		defer context.AfterFunc(ctx, func() { _ = nc.SetReadDeadline(time.Now()) })()
	}
	lines := bufio.NewScanner(buf.Reader)
	for lines.Scan() {
		fmt.Fprintf(nc, "%s\n", lines.Bytes())
	}
	if ctx.Err() != nil {
		fmt.Fprint(nc, "bye\n")
		// A close with bytes of the client unread resets the connection, and a client on Windows then gets
		// the reset instead of the goodbye.
		_ = closeWrite(nc)
		_ = nc.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.Copy(io.Discard, nc)
	}
}

// leaseRole works under the lease for ever and appends what it does to a file.
func leaseRole() error {
	out, err := os.OpenFile(os.Getenv("PAYLOAD_TEST_FILE"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if err := Ready(); err != nil {
		return err
	}
	for {
		h, err := Lease(context.Background())
		if err != nil {
			<-Done()
			return nil
		}
		fmt.Fprintf(out, "begin %d %d\n", os.Getpid(), h.Fence())
		<-h.Context().Done()
		if os.Getenv("PAYLOAD_TEST_STUBBORN") != "" {
			select {}
		}
		time.Sleep(30 * time.Millisecond) // work takes a moment to stop
		fmt.Fprintf(out, "end %d %d\n", os.Getpid(), h.Fence())
		h.Release()
	}
}

// agentRole has no listener at all.
func agentRole() error {
	Health(func(context.Context) error { return nil })
	OnDrain(func(context.Context) { fmt.Fprintln(os.Stderr, "agent: drained") })
	done := Busy("warming up", time.Hour)
	if err := Ready(); err != nil {
		return err
	}
	OnPark(func(parked bool) {
		if !parked {
			done()
		}
	})
	<-Done()
	return nil
}

// rawRole accepts by itself: it answers every connection with its pid.
func rawRole() error {
	ln, err := Listen("http", "")
	if err != nil {
		return err
	}
	if err := Ready(); err != nil {
		return err
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			<-Done()
			return nil
		}
		fmt.Fprintln(c, os.Getpid())
		c.Close()
	}
}

// tlsRole serves HTTP/1.1 and HTTP/2 over TLS.
func tlsRole() error {
	ln, err := Listen("http", "")
	if err != nil {
		return err
	}
	cert, err := selfSigned()
	if err != nil {
		return err
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	if err := Ready(); err != nil {
		return err
	}
	return Serve(&http.Server{Handler: handler()}, tls.NewListener(ln, config))
}

func selfSigned() (tls.Certificate, error) {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(nil, template, template, public, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// noLoopRole never accepts on its listener, and says when it has it.
func noLoopRole() error {
	if _, err := Listen("http", ""); err != nil {
		return err
	}
	Busy("listening", time.Hour)
	if err := Ready(); err != nil {
		return err
	}
	<-Done()
	return nil
}
