//go:build linux || windows

package payload

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
)

const patience = 20 * time.Second // for anything that must happen at all

// launcher is the launcher's half of the wire, for tests.
type launcher struct {
	t    *testing.T
	path string

	mu    sync.Mutex
	ln    net.Listener
	procs map[string]*proc
	last  int
}

// proc is one child process and what it has said.
type proc struct {
	t     *testing.T
	token string
	cmd   *exec.Cmd
	gone  chan struct{} // closed when the process has ended
	err   error         // of its end

	mu     sync.Mutex
	change chan struct{}
	conn   net.Conn
	lastID uint64
	acks   map[uint64]wire.Message
	fds    []int
	hellos []wire.Message
	readys []wire.Message
	stats  wire.Stats
	wants  int
	busy   *wire.Busy
}

func newLauncher(t *testing.T) *launcher {
	t.Helper()
	dir, err := os.MkdirTemp("", "ts") // a socket path is limited to 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	l := &launcher{t: t, path: wirePath(dir), procs: make(map[string]*proc)}
	l.up()
	t.Cleanup(func() {
		l.down()
		_ = os.RemoveAll(dir)
	})
	return l
}

// up begins to listen, as a launcher does at its start.
func (l *launcher) up() {
	ln, err := listenWire(l.path)
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	l.ln = ln
	l.mu.Unlock()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go l.hear(c)
		}
	}()
}

// down is the launcher's death: nobody listens, and every wire breaks.
func (l *launcher) down() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.ln.Close()
	for _, p := range l.procs {
		p.mu.Lock()
		if p.conn != nil {
			_ = p.conn.Close()
		}
		p.mu.Unlock()
	}
}

func (l *launcher) hear(c net.Conn) {
	defer c.Close()
	r := newRights(c)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, wire.MaxLine)
	var p *proc
	for lines.Scan() {
		var m wire.Message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			l.t.Errorf("bad message %q: %v", lines.Bytes(), err)
			return
		}
		if p == nil {
			l.mu.Lock()
			p = l.procs[m.Token]
			l.mu.Unlock()
			if m.Kind != wire.Hello || p == nil || m.PID != p.cmd.Process.Pid {
				l.t.Errorf("a stranger says %+v", m)
				return
			}
			_, _ = c.Write([]byte(`{"kind":"welcome"}` + "\n"))
		}
		p.note(c, m, r)
	}
}

func (p *proc) note(c net.Conn, m wire.Message, r *rights) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m.Kind {
	case wire.Hello:
		p.conn = c
		p.hellos = append(p.hellos, m)
	case wire.Ready:
		p.readys = append(p.readys, m)
	case wire.Ack:
		p.acks[m.ID] = m
		p.fds = append(p.fds, r.fds...)
		r.fds = nil
	case wire.Count:
		p.stats = *m.Stats
	case wire.Want:
		p.wants++
	case wire.Hold:
		p.busy = m.Busy
	}
	p.signal()
}

func (p *proc) signal() {
	close(p.change)
	p.change = make(chan struct{})
}

// until waits until cond, which is called with p.mu held.
func (p *proc) until(what string, cond func() bool) {
	p.t.Helper()
	timeout := time.After(patience)
	for {
		p.mu.Lock()
		ok, change := cond(), p.change
		p.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-change:
		case <-timeout:
			p.t.Fatalf("%s: not after %v", what, patience)
		}
	}
}

// start runs this test binary as a child with role and the public listener.
func (l *launcher) start(role string, public publicSocket, env ...string) *proc {
	l.t.Helper()
	l.mu.Lock()
	l.last++
	p := &proc{t: l.t, token: fmt.Sprintf("token-%d", l.last), gone: make(chan struct{}), change: make(chan struct{}), acks: make(map[uint64]wire.Message)}
	l.mu.Unlock()
	p.cmd = exec.Command(os.Args[0], "-test.run=^$")
	p.cmd.Stdout, p.cmd.Stderr = os.Stderr, os.Stderr
	p.cmd.Env = append(os.Environ(), "PAYLOAD_TEST_ROLE="+role, wire.EnvWire+"="+l.path, wire.EnvVersion+"=1.2.3")
	p.cmd.Env = append(p.cmd.Env, env...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := startWith(l.t, p.cmd, p.token, public); err != nil {
		l.t.Fatal(err)
	}
	l.procs[p.token] = p
	go p.wait()
	l.t.Cleanup(p.kill)
	return p
}

func (p *proc) wait() {
	err := p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	close(p.gone)
	p.signal()
}

func (p *proc) kill() {
	_ = p.cmd.Process.Kill()
	<-p.gone
}

// ended waits for the process to end and returns how.
func (p *proc) ended() error {
	p.t.Helper()
	select {
	case <-p.gone:
		return p.err
	case <-time.After(patience):
		p.t.Fatalf("process %d has not ended after %v", p.cmd.Process.Pid, patience)
		return nil
	}
}

// ready waits for the ready message and returns the health address.
func (p *proc) ready() string {
	p.t.Helper()
	p.until("ready", func() bool { return len(p.readys) > 0 })
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.readys[len(p.readys)-1].Health
}

// send sends an order and returns its number.
func (p *proc) send(m wire.Message) uint64 {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lastID++
	m.ID = p.lastID
	line, err := encode(m)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.conn.Write(line); err != nil {
		p.t.Fatalf("send %s: %v", m.Kind, err)
	}
	return m.ID
}

// try sends an order and waits for its ack.
func (p *proc) try(m wire.Message) error {
	p.t.Helper()
	id := p.send(m)
	p.until(string(m.Kind)+" is acknowledged", func() bool { return p.acks[id].ID == id })
	p.mu.Lock()
	defer p.mu.Unlock()
	if text := p.acks[id].Error; text != "" {
		return errors.New(text)
	}
	return nil
}

// order is try that must work.
func (p *proc) order(m wire.Message) {
	p.t.Helper()
	if err := p.try(m); err != nil {
		p.t.Fatalf("%s: %v", m.Kind, err)
	}
}

func (p *proc) accept() { p.t.Helper(); p.order(wire.Message{Kind: wire.Accept}) }
func (p *proc) park()   { p.t.Helper(); p.order(wire.Message{Kind: wire.Park}) }
func (p *proc) drain(g wire.Grace) {
	p.t.Helper()
	p.order(wire.Message{Kind: wire.Drain, Grace: &g})
}

// ask makes one request on a new connection and returns the body.
func ask(t *testing.T, addr net.Addr, path string) string {
	t.Helper()
	c, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, body, _, err := roundTrip(c, bufio.NewReader(c), "GET "+path+" HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	return body
}
