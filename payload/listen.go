package payload

import (
	"errors"
	"fmt"
	"net"
	"strings"
)

func (p *program) listen(name, addr string) (net.Listener, error) {
	if p.envErr != nil {
		return nil, fmt.Errorf("listen %s: %w", name, p.envErr)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase >= draining {
		return nil, fmt.Errorf("listen %s: %w", name, ErrDraining)
	}
	g, err := p.openGate(name, addr)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", name, err)
	}
	p.gates = append(p.gates, g)
	return g, nil
}

// openGate finds out what kind of listener name is. p.mu is held.
func (p *program) openGate(name, addr string) (*gate, error) {
	for _, g := range p.gates {
		if g.name == name && !g.isClosed() {
			return nil, errors.New("a listener of that name is open already")
		}
	}
	if s := p.env.sockets[name]; s != nil {
		return p.inheritedGate(name, s)
	}
	if a, ok := p.env.addrs[name]; ok {
		return privateGate(name, a, p.maybeReady)
	}
	if p.env.wire != "" {
		return nil, fmt.Errorf("the launcher passes no listener of that name, only %q: add it to [[listen]] in the launcher's configuration", p.env.known())
	}
	return privateGate(name, addr, p.maybeReady)
}

func (p *program) inheritedGate(name string, s *socket) (*gate, error) {
	ln, err := s.open() // for its address, and to see that it works
	if err != nil {
		return nil, err
	}
	g := &gate{name: name, addr: ln.Addr(), sock: s, onLoop: p.maybeReady}
	if p.phase == accepting {
		g.inner = ln
		return g, nil
	}
	return g, ln.Close()
}

func privateGate(name, addr string, onLoop func()) (*gate, error) {
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		return nil, err
	}
	return &gate{name: name, addr: ln.Addr(), inner: ln, onLoop: onLoop}, nil
}
