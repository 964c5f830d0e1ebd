package main

import (
	"context"
	"fmt"

	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/host"
	"github.com/turnstone-go/turnstone/launcher/relay"
)

// recovered collects the listening sockets that outlived the last launcher, by name. What the service manager
// kept comes first: it is there at once, and when no payload lives too. Living payloads are asked for what is
// still missing.
func (s *site) recovered(ctx context.Context, left []*child.Process) map[string]child.Socket {
	files := s.kept()
	if len(files) == len(s.cfg.Listen) {
		return files
	}
	for name, f := range s.returned(ctx, left) {
		if files[name] != nil {
			_ = f.Close() // a duplicate of one that we have
			continue
		}
		files[name] = f
	}
	return files
}

// kept returns what the service manager kept, as far as it is what the configuration asks for. It closes the
// rest, which would hold addresses that nobody serves any more.
func (s *site) kept() map[string]child.Socket {
	files := make(map[string]child.Socket)
	for name, f := range host.Sockets() {
		err := s.fits(name, f)
		if err == nil {
			files[name] = f
			continue
		}
		s.log.Warn("a socket that the service manager kept is of no use", "name", name, "err", err)
		_ = f.Close() // a duplicate
		if err := host.ForgetSocket(name); err != nil {
			s.log.Warn("have the service manager close it", "name", name, "err", err)
		}
	}
	return files
}

// fits checks that a file is the listening socket that the configuration has under this name.
func (s *site) fits(name string, f child.Socket) error {
	for _, l := range s.cfg.Listen {
		if l.Name != name {
			continue
		}
		socket, err := relay.Adopt(name, l.Address, f)
		if err != nil {
			return err
		}
		return socket.Close() // another duplicate
	}
	return fmt.Errorf("no [[listen]] is named %q", name)
}

// keep has the service manager keep a public socket. Without it nothing is lost as long as either the launcher
// or a payload that has the socket lives.
func (s *site) keep(socket *relay.Socket) {
	if err := host.KeepSocket(socket.Name(), socket.RawConn()); err != nil {
		s.log.Warn("the service manager does not keep a public socket", "name", socket.Name(), "err", err)
	}
}
