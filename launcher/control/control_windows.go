package control

import (
	"context"
	"fmt"
	"net"
	"strings"

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
	return ln, nil
}

func dial(ctx context.Context, addr string) (net.Conn, error) {
	return winio.DialPipeContext(ctx, addr)
}

// peer needs no look at the client: the pipe's descriptor lets administrators in and nobody else.
func peer(net.Conn) (caller, error) { return caller{name: "administrator", admin: true}, nil }
