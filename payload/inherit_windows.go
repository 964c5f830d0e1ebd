package payload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/windows"
)

// socket is an inherited listening socket. Go ties every listener to a completion port of its process, and
// a socket can have only one, so two Go processes cannot share a net.Listener here (see the documentation
// of WSADuplicateSocket and golang.org/issue/9503); an accept loop of its own will take its place.
type socket struct{}

var errInherit = errors.New("inherited listeners are not supported on Windows yet: set traffic mode to \"proxy\"")

func adoptSocket(string) (*socket, error) { return nil, errInherit }

func (s *socket) open() (net.Listener, error) { return nil, errInherit }

func (s *socket) heal() error { return nil }

func sendSockets(net.Conn, []byte, []*socket) error { return errInherit }

// readToken reads the pipe whose handle is value to its end and closes it.
func readToken(value string) (string, error) {
	if value == "" {
		return "", nil
	}
	handle, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return "", fmt.Errorf("%q is not a handle", value)
	}
	f := os.NewFile(uintptr(handle), "token")
	defer f.Close()
	token, err := io.ReadAll(io.LimitReader(f, maxToken))
	return string(token), err
}

// dialWire opens the launcher's named pipe. All instances of a pipe may be taken for a moment; the file
// must be overlapped, or a pending read would hold up every write.
func dialWire(ctx context.Context, addr string) (net.Conn, error) {
	for {
		f, err := os.OpenFile(addr, os.O_RDWR|windows.FILE_FLAG_OVERLAPPED, 0)
		if err == nil {
			return pipeConn{f}, nil
		}
		if !errors.Is(err, windows.ERROR_PIPE_BUSY) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// pipeConn is a named pipe as a net.Conn.
type pipeConn struct{ *os.File }

type pipeAddr string

func (a pipeAddr) Network() string { return "pipe" }
func (a pipeAddr) String() string  { return string(a) }

func (c pipeConn) LocalAddr() net.Addr  { return pipeAddr("") }
func (c pipeConn) RemoteAddr() net.Addr { return pipeAddr(c.Name()) }
