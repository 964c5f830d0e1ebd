package relay

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"testing"
)

func TestHalfCloseIsKeptBothWays(t *testing.T) {
	t.Run("client ends first", func(t *testing.T) {
		got := make(chan string, 1)
		c := through(t, func(c net.Conn) {
			b, _ := io.ReadAll(c) // an answer only after the client's end of stream
			got <- string(b)
			io.WriteString(c, "answer")
		})
		io.WriteString(c, "question")
		c.CloseWrite()
		b, err := io.ReadAll(c)
		if err != nil || string(b) != "answer" || <-got != "question" {
			t.Errorf("got %q, %v", b, err)
		}
	})
	t.Run("server ends first", func(t *testing.T) {
		got := make(chan string, 1)
		c := through(t, func(c net.Conn) {
			io.WriteString(c, "answer")
			c.(*net.TCPConn).CloseWrite()
			b, _ := io.ReadAll(c)
			got <- string(b)
		})
		b, err := io.ReadAll(c)
		if err != nil || string(b) != "answer" {
			t.Errorf("got %q, %v", b, err)
		}
		io.WriteString(c, "still talking")
		c.CloseWrite()
		if s := <-got; s != "still talking" {
			t.Errorf("the server got %q", s)
		}
	})
}

func TestBytesArriveWhole(t *testing.T) {
	sent := make([]byte, 8<<20)
	rand.Read(sent)
	c := through(t, func(c net.Conn) {
		io.Copy(c, c) // echo
		c.(*net.TCPConn).CloseWrite()
	})
	go func() {
		c.Write(sent)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes, %v", len(got), len(sent), err)
	}
}

// An abort must not be told as an end: a protocol that reads until the end would take half for the whole.
func TestResetIsPassedOn(t *testing.T) {
	t.Run("from the client", func(t *testing.T) {
		saw := make(chan error, 1)
		c := through(t, func(c net.Conn) {
			_, err := io.ReadAll(c)
			saw <- err
		})
		mustWrite(t, c, "half an upl")
		until(t, "it arrived", func() bool { return sentAll(c) })
		c.SetLinger(0)
		c.Close()
		if err := <-saw; !wasResetFor(err) {
			t.Errorf("the server saw %v", err)
		}
	})
	t.Run("from the server", func(t *testing.T) {
		next := make(chan struct{})
		c := through(t, func(c net.Conn) {
			io.WriteString(c, "half")
			<-next
			c.(*net.TCPConn).SetLinger(0)
		})
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		close(next)
		if _, err := io.ReadAll(c); !wasResetFor(err) {
			t.Errorf("the client saw %v", err)
		}
	})
}

func through(t *testing.T, serve func(net.Conn)) *net.TCPConn {
	t.Helper()
	p := newProxy(t, Options{})
	b := newBackend(t, "b", serve)
	p.Switch(p.NewTarget("b", b.addr()))
	return dial(t, p)
}

func mustWrite(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}
