package load

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

// rogue serves raw connections, each by f with its number from 0, and returns its address.
func rogue(t *testing.T, f func(c net.Conn, nth int)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for nth := 0; ; nth++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c, nth)
			}()
		}
	}()
	return ln.Addr().String()
}

const whole200 = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

// answers writes one of the texts for each request, and ends the connection behind the last one. An empty
// text answers nothing.
func answers(texts ...string) func(net.Conn, int) {
	return func(c net.Conn, _ int) {
		r := bufio.NewReader(c)
		for _, text := range texts {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			if _, err := io.WriteString(c, text); err != nil {
				return
			}
		}
	}
}

// HTTP/2 frame types and flags, RFC 9113 section 6.
const (
	frameData, frameHeaders, frameReset, frameSettings, frameGoAway = 0, 1, 3, 4, 7

	flagEndStream, flagAck, flagEndHeaders = 1, 1, 4
)

// status200 is the header block ":status: 200", entry 8 of HPACK's static table.
var status200 = []byte{0x88}

func frame(w io.Writer, kind, flags byte, stream uint32, body []byte) {
	head := []byte{byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body)), kind, flags}
	head = binary.BigEndian.AppendUint32(head, stream)
	_, _ = w.Write(append(head, body...)) // a client that has gone is seen at the next read
}

func goAway(w io.Writer, last uint32) {
	frame(w, frameGoAway, 0, 0, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, last), 0))
}

func answer(w io.Writer, stream uint32) {
	frame(w, frameHeaders, flagEndHeaders, stream, status200)
	frame(w, frameData, flagEndStream, stream, []byte("{}"))
}

// serveH2 calls f for each request with its stream and its number on the connection, until f returns false.
func serveH2(f func(c net.Conn, stream uint32, request int) bool) func(net.Conn, int) {
	return func(c net.Conn, _ int) {
		r := bufio.NewReader(c)
		if _, err := io.CopyN(io.Discard, r, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
			return
		}
		frame(c, frameSettings, 0, 0, nil)
		for request := 0; ; {
			var head [9]byte
			if _, err := io.ReadFull(r, head[:]); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, r, int64(head[0])<<16|int64(head[1])<<8|int64(head[2])); err != nil {
				return
			}
			switch kind, flags := head[3], head[4]; {
			case kind == frameSettings && flags&flagAck == 0:
				frame(c, frameSettings, flagAck, 0, nil)
			case kind == frameHeaders:
				if !f(c, binary.BigEndian.Uint32(head[5:]), request) {
					return
				}
				request++
			}
		}
	}
}

// echoServer upgrades and echoes lines; after that many it says what is given, and ends.
func echoServer(lines int, end string) func(net.Conn, int) {
	return func(c net.Conn, _ int) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nServer: echo/1\r\n\r\n")
		for range lines {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			fmt.Fprint(c, line)
		}
		fmt.Fprint(c, end)
	}
}

// liar upgrades and answers every line with another.
func liar(c net.Conn, _ int) {
	echoServer(0, "")(c, 0)
	for r := bufio.NewReader(c); ; {
		if _, err := r.ReadString('\n'); err != nil {
			return
		}
		fmt.Fprint(c, "another line\n")
	}
}
