package child

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
)

// Bounds on what payloads may do to the wire.
const (
	maxClients   = 32              // connections in all
	maxLinks     = 4               // connections of one process, old ones that it has not closed included
	helloTimeout = 5 * time.Second // from connecting to a valid Hello
	maxPerSecond = 1000            // messages; a payload needs a handful
	maxRefusals  = 10              // log lines about one process's bad connections
	acceptPause  = 100 * time.Millisecond
)

// errGarbage ends a connection that does not keep to the words of package wire.
var errGarbage = errors.New("not a message of the wire protocol")

// link is one connection of a process. It is made for a known pid and counts for nothing before its Hello.
type link struct {
	conn  net.Conn
	p     *Process
	ended chan struct{} // closed when nothing more is read from it

	files []Socket // received and not yet claimed by an acknowledgement

	second  time.Time // the current window of maxPerSecond
	inSoFar int

	wmu sync.Mutex // one line at a time
}

// acceptWire takes connections until the Host closes, or listens elsewhere.
func (h *Host) acceptWire(ln net.Listener) {
	defer h.wg.Done()
	for {
		c, err := ln.Accept()
		if h.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			if err == nil {
				_ = c.Close() // nothing was said on it
			}
			return
		}
		if err != nil { // no descriptors left, say: it passes, and payloads dial again
			h.o.Log.Error("accept a payload's connection", "err", err)
			select {
			case <-time.After(acceptPause):
			case <-h.ctx.Done():
			}
			continue
		}
		if l := h.admit(c); l != nil {
			go l.serve()
		}
	}
}

// admit checks the peer's pid as the kernel tells it before anything is read, so that strangers cannot use
// up the places of payloads.
func (h *Host) admit(c net.Conn) *link {
	pid, err := peerPID(c)
	p := h.lookup(pid)
	if err != nil || p == nil || p.spec.Kind != SDK {
		h.o.Log.Debug("connection of a process that is no payload", "pid", pid, "err", err)
		_ = c.Close() // nothing was said on it
		return nil
	}
	l := &link{conn: c, p: p, ended: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.ctx.Err() != nil || h.clients >= maxClients || len(p.links) >= maxLinks {
		_ = c.Close() // as above
		return nil
	}
	h.clients++
	p.links[l] = true
	h.wg.Add(1)
	return l
}

// release undoes admit.
func (l *link) release() {
	_ = l.conn.Close() // only says that it was closed before
	h := l.p.host
	h.mu.Lock()
	h.clients--
	h.mu.Unlock()
	l.p.mu.Lock()
	delete(l.p.links, l)
	if l.p.link == l {
		l.p.link = nil
	}
	l.p.mu.Unlock()
	closeAll(l.files)
	close(l.ended)
	h.wg.Done()
}

// serve reads lines until the connection ends or breaks the rules.
func (l *link) serve() {
	defer l.release()
	_ = l.conn.SetReadDeadline(time.Now().Add(helloTimeout)) // fails only when closed; then the read does too
	buf, have := make([]byte, wire.MaxLine), 0
	greeted := false
	for {
		n, files, err := readWire(l.conn, buf[have:])
		l.files = append(l.files, files...)
		have += n
		rest, gerr := l.lines(buf[:have], &greeted)
		have = copy(buf, rest)
		switch {
		case gerr == nil && have == len(buf):
			gerr = fmt.Errorf("%w: a line of more than %d bytes", errGarbage, wire.MaxLine)
		case gerr == nil && (len(l.files) > maxListeners || len(l.files) > 0 && have == 0):
			gerr = fmt.Errorf("%w: %d descriptors that nobody asked for", errGarbage, len(l.files))
		}
		if gerr != nil {
			l.p.refused(gerr)
			return
		}
		if err != nil {
			return
		}
	}
}

// lines handles every whole line of b and returns what is left.
func (l *link) lines(b []byte, greeted *bool) ([]byte, error) {
	for {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			return b, nil
		}
		if err := l.line(line, greeted); err != nil {
			return nil, err
		}
		b = rest
	}
}

func (l *link) line(b []byte, greeted *bool) error {
	if now := time.Now(); now.Sub(l.second) >= time.Second {
		l.second, l.inSoFar = now, 0
	}
	if l.inSoFar++; l.inSoFar > maxPerSecond {
		return fmt.Errorf("%w: more than %d messages in a second", errGarbage, maxPerSecond)
	}
	var m wire.Message
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("%w: %w", errGarbage, err)
	}
	if *greeted {
		return l.hear(m)
	}
	if err := l.p.host.greet(l, m); err != nil {
		return err
	}
	*greeted = true
	return nil
}

// greet accepts or refuses the first message of a connection.
func (h *Host) greet(l *link, m wire.Message) error {
	p := l.p
	switch {
	case m.Kind != wire.Hello:
		return fmt.Errorf("%w: %q before hello", errGarbage, clip(string(m.Kind)))
	case !p.rec.matches(token(m.Token)):
		return fmt.Errorf("%w: the token is not that of pid %d", errGarbage, p.handle.pid)
	case m.Protocol != wire.Protocol:
		return fmt.Errorf("%w: protocol %d, this launcher speaks %d", errGarbage, m.Protocol, wire.Protocol)
	}
	_ = l.conn.SetReadDeadline(time.Time{}) // as in serve
	if !l.send(wire.Message{Kind: wire.Welcome}) {
		return nil // the next read ends the connection
	}
	p.mu.Lock()
	old, first := p.link, !p.linked
	p.link, p.linked, p.protocol, p.fence = l, true, m.Protocol, m.Fence
	if first {
		close(p.found)
	}
	var waiting []wire.Message
	for _, o := range p.orders {
		waiting = append(waiting, o.message)
	}
	p.mu.Unlock()
	if old != nil {
		_ = old.conn.Close() // the process has left it
	}
	for _, w := range waiting {
		l.send(w)
	}
	return nil
}

// hear takes in one message of a connection that was greeted. An unknown kind is a word of a newer
// payload and is passed over.
func (l *link) hear(m wire.Message) error {
	p := l.p
	switch m.Kind {
	case wire.Ready:
		if err := checkHealth(m.Health); err != nil {
			return err
		}
		p.becomeReady(m.Health)
	case wire.Ack:
		files, err := given(l, m)
		if err != nil {
			return err
		}
		if p.acknowledge(answer{message: m, files: files}) {
			l.files = nil
		} else {
			l.files = files // closed with the connection
		}
	case wire.Want:
		p.ended(m.Fence)
		select {
		case p.wants <- struct{}{}:
		default: // one is waiting to be seen already
		}
	case wire.Count:
		if m.Stats != nil {
			p.mu.Lock()
			p.stats = *m.Stats
			p.mu.Unlock()
		}
	case wire.Hold:
		p.mu.Lock()
		p.busy, p.busyEnd = m.Busy, time.Now()
		if m.Busy != nil {
			p.busy.Reason = clip(m.Busy.Reason)
			p.busyEnd = p.busyEnd.Add(m.Busy.For)
		}
		p.mu.Unlock()
	}
	return nil
}

// checkHealth refuses an address that would make the launcher probe another machine.
func checkHealth(addr string) error {
	if addr == "" {
		return nil
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || !ap.Addr().Unmap().IsLoopback() || ap.Port() == 0 {
		return fmt.Errorf("%w: health address %q is not a loopback address and port", errGarbage, clip(addr))
	}
	return nil
}

// send writes one message and reports whether it could. A payload that does not read for AckTimeout loses
// the connection.
func (l *link) send(m wire.Message) bool {
	b, err := json.Marshal(m)
	if err != nil {
		panic("child: internal error: " + err.Error()) // wire.Message always has a JSON form
	}
	l.wmu.Lock()
	defer l.wmu.Unlock()
	_ = l.conn.SetWriteDeadline(time.Now().Add(wire.AckTimeout)) // fails only when closed; then the write does too
	if _, err := l.conn.Write(append(b, '\n')); err != nil {
		_ = l.conn.Close() // its reader ends with this
		return false
	}
	return true
}

// refused tells why a connection was ended, a bounded number of times for each process.
func (p *Process) refused(err error) {
	p.mu.Lock()
	p.refusals++
	n := p.refusals
	p.mu.Unlock()
	if n <= maxRefusals {
		p.host.o.Log.Warn("payload connection refused", "version", p.spec.Number, "pid", p.handle.pid, "err", err)
	}
}

// dropLinks closes every connection of the process.
func (p *Process) dropLinks() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		_ = l.conn.Close() // only says that it was closed before
	}
}
