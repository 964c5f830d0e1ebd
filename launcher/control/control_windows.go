package control

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/Microsoft/go-winio"
)

const pipePrefix = `\\.\pipe\`

// administrators gives the pipe to LocalSystem and to elevated administrators, and to nobody else: P keeps
// inherited entries out, GA is all rights (Security Descriptor String Format, learn.microsoft.com).
const administrators = "D:P(A;;GA;;;SY)(A;;GA;;;BA)"

func address(_, product string) string { return pipePrefix + product + "-control" }

func checkAddress(addr string) error {
	if !strings.HasPrefix(addr, pipePrefix) {
		return fmt.Errorf(`not the name of a pipe, which begins with \\.\pipe\`)
	}
	if len(addr) > 256 {
		return fmt.Errorf("%d bytes long; the name of a pipe has at most 256", len(addr))
	}
	return nil
}

func listen(addr, readGroup string) (net.Listener, error) {
	if err := checkAddress(addr); err != nil {
		return nil, fmt.Errorf("open control pipe %s: %w", addr, err)
	}
	if readGroup != "" {
		return nil, fmt.Errorf("open control pipe: control.read_group is not available on Windows yet: remove it")
	}
	ln, err := winio.ListenPipe(addr, &winio.PipeConfig{SecurityDescriptor: administrators})
	if err != nil {
		return nil, fmt.Errorf("open control pipe: %w", err)
	}
	consumeFirst(addr)
	return ln, nil
}

// consumeFirst dials once and hangs up. go-winio holds the name by a first instance of the pipe that nobody
// is to be connected to; Windows 7 and Wine connect the first client to it all the same, which then waits for
// ever (github.com/microsoft/go-winio issues 173 and 313). Elsewhere the dial finds no free instance, and the
// wait for one is short.
func consumeFirst(addr string) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if c, err := winio.DialPipeContext(ctx, addr); err == nil {
		_ = c.Close() // nobody hears of it
	}
}

func dial(ctx context.Context, addr string) (net.Conn, error) {
	return winio.DialPipeContext(ctx, addr)
}

// peer needs no look at the client: the pipe's descriptor lets administrators in and nobody else.
func peer(net.Conn) (caller, error) { return caller{name: "administrator", admin: true}, nil }
