//go:build !linux && !windows

package payload

import (
	"context"
	"errors"
	"net"
)

// Elsewhere a program only runs alone; launchers exist for Linux and Windows.
type socket struct{}

var errElsewhere = errors.New("a launcher cannot start payloads on this system")

func adoptSocket(string) (*socket, error)                { return nil, errElsewhere }
func (s *socket) open() (net.Listener, error)            { return nil, errElsewhere }
func (s *socket) heal() error                            { return nil }
func handleValues([]*socket) []uint64                    { return nil }
func sendSockets(net.Conn, []byte, []*socket) error      { return errElsewhere }
func readToken(string) (string, error)                   { return "", errElsewhere }
func dialWire(context.Context, string) (net.Conn, error) { return nil, errElsewhere }
