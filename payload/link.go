package payload

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
)

// Bounds of the connection to the launcher.
const (
	handshake  = 5 * time.Second       // dial, hello, welcome
	writeLimit = time.Second           // one message; the launcher reads all the time
	firstPause = 20 * time.Millisecond // between two attempts to connect, doubling
	lastPause  = 2 * time.Second
)

// Variables for the tests: how long the process goes on without a launcher that knows it, and how often it
// reports its counters.
var (
	orphan      = wire.Orphan
	statsPeriod = wire.StatsPeriod
)

var errNoLauncher = errors.New("no launcher is connected")

// link is the wire to the launcher, made again for ever. What the launcher must know is kept in program
// and sent again on every new connection, so a message that cannot be sent is never stored.
type link struct {
	p *program

	mu       sync.Mutex // held while writing
	conn     net.Conn   // nil while no launcher knows this process
	reported wire.Stats
}

func newLink(p *program) *link { return &link{p: p} }

// run keeps the wire up until the program has drained. The process does not need it to serve.
func (l *link) run() {
	pause, known := firstPause, time.Now()
	for {
		if l.session() {
			pause, known = firstPause, time.Now()
		}
		if time.Since(known) > orphan {
			go l.p.drain(defaultGrace)
		}
		select {
		case <-l.p.done:
			return
		case <-time.After(pause/2 + rand.N(pause)): // many payloads lose the same launcher at once
		}
		pause = min(2*pause, lastPause)
	}
}

// session is one connection. It reports whether a launcher knew this process.
func (l *link) session() (welcomed bool) {
	ctx, cancel := context.WithTimeout(context.Background(), handshake)
	defer cancel()
	conn, err := dialWire(ctx, l.p.env.wire)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(handshake)) // an error shows at the next write
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 0, 4<<10), wire.MaxLine)
	hello := wire.Message{Kind: wire.Hello, Token: l.p.env.token, PID: os.Getpid(), Protocol: wire.Protocol, Fence: l.p.lease.held()}
	if write(conn, hello) != nil || !lines.Scan() {
		return false
	}
	var m wire.Message
	if json.Unmarshal(lines.Bytes(), &m) != nil || m.Kind != wire.Welcome {
		return false
	}
	_ = conn.SetDeadline(time.Time{})
	l.attach(conn)
	defer l.attach(nil)
	l.resend()
	l.read(conn, lines)
	return true
}

func (l *link) attach(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn, l.reported = conn, wire.Stats{}
}

// resend tells a launcher that has just come all that it has to know.
func (l *link) resend() {
	l.p.maybeReady()
	if fence, waits := l.p.lease.wanted(); waits {
		l.p.want(fence)
	}
	if b := l.p.busy.current(); b != nil {
		_ = l.send(wire.Message{Kind: wire.Hold, Busy: b})
	}
	l.report(l.p.stats())
}

// read obeys orders one after the other until the wire breaks. A yield waits for the program's own work,
// so it does not hold up the others.
func (l *link) read(conn net.Conn, lines *bufio.Scanner) {
	for lines.Scan() {
		var m wire.Message
		if json.Unmarshal(lines.Bytes(), &m) != nil {
			return // not a launcher, or one that is out of step: begin again
		}
		switch m.Kind {
		case wire.Sockets:
			l.answer(conn, m, l.giveBack(conn, m))
		case wire.Drain:
			finish := l.p.beginDrain(m.Grace)
			l.answer(conn, m, nil) // before the process may end
			go finish()
		case wire.Yield:
			go func() { l.answer(conn, m, l.p.obey(m)) }()
		default:
			l.answer(conn, m, l.p.obey(m))
		}
	}
}

// errAnswered is an order whose ack is written already.
var errAnswered = errors.New("answered")

// answer acknowledges an order on the connection that it came by.
func (l *link) answer(conn net.Conn, m wire.Message, err error) {
	if m.ID == 0 || errors.Is(err, errAnswered) {
		return
	}
	ack := wire.Message{Kind: wire.Ack, ID: m.ID}
	if err != nil {
		ack.Error = clip(err.Error())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = write(conn, ack) // a broken wire shows in read, and the launcher asks again
}

// giveBack sends the inherited sockets with the ack.
func (l *link) giveBack(conn net.Conn, m wire.Message) error {
	sockets := make([]*socket, 0, len(l.p.env.names))
	for _, name := range l.p.env.names {
		sockets = append(sockets, l.p.env.sockets[name])
	}
	if len(sockets) == 0 {
		return errors.New("this process has no inherited listener")
	}
	line, err := encode(wire.Message{Kind: wire.Ack, ID: m.ID, Names: l.p.env.names, Handles: handleValues(sockets)})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = conn.SetWriteDeadline(time.Now().Add(writeLimit))
	if err := sendSockets(conn, line, sockets); err != nil {
		return fmt.Errorf("send the listeners: %w", err)
	}
	return errAnswered
}

// send writes m if a launcher is there.
func (l *link) send(m wire.Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil {
		return errNoLauncher
	}
	return write(l.conn, m)
}

// report sends the counters if they have changed.
func (l *link) report(s wire.Stats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == nil || s == l.reported {
		return
	}
	if write(l.conn, wire.Message{Kind: wire.Count, Stats: &s}) == nil {
		l.reported = s
	}
}

// write sends one message. A launcher that does not read is as good as none, so a failed write ends conn.
func write(conn net.Conn, m wire.Message) error {
	line, err := encode(m)
	if err != nil {
		return err
	}
	_ = conn.SetWriteDeadline(time.Now().Add(writeLimit)) // an error shows at the write
	if _, err := conn.Write(line); err != nil {
		_ = conn.Close() // the read fails then too, and a new session begins
		return err
	}
	return nil
}

func encode(m wire.Message) ([]byte, error) {
	var buf bytes.Buffer
	if err := json.NewEncoder(&buf).Encode(m); err != nil {
		return nil, err
	}
	if buf.Len() > wire.MaxLine {
		return nil, fmt.Errorf("message of %d bytes is too long", buf.Len())
	}
	return buf.Bytes(), nil
}

// clip keeps a text short enough for one line of the wire.
func clip(s string) string {
	const most = 1 << 10
	if len(s) > most {
		return s[:most]
	}
	return s
}
