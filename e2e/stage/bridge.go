package stage

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// controlPipe is where the launcher listens for its operators in a machine.
const controlPipe = `\\.\pipe\ProtectedPrefix\Administrators\` + Product + "-control"

// bridge is the way of this program to that pipe: a socket here, forwarded to e2e/bridge in the machine.
type bridge struct {
	socket string
	cmd    *exec.Cmd
	stdin  io.Closer
	ln     net.Listener
	done   chan struct{}
}

// newBridge opens a way into a machine. Whether a launcher is at its end is seen by each connection.
func newBridge(m *Machine, program, home string) (*bridge, error) {
	b := &bridge{socket: filepath.Join(home, "bridge.sock"), done: make(chan struct{})}
	b.cmd = m.Command(context.Background(), program, controlPipe)
	var err error
	if b.stdin, err = b.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		b.ln, err = net.Listen("unix", b.socket)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bridge into the machine: %w", err), b.stdin.Close(), b.cmd.Wait())
	}
	go b.run(strings.TrimSpace(address))
	return b, nil
}

func (b *bridge) run(address string) {
	defer close(b.done)
	for {
		c, err := b.ln.Accept()
		if err != nil {
			return
		}
		go forward(c, address) // ends with the client, or with the machine
	}
}

// forward ends with the side that ends first: nobody here half-closes.
func forward(here net.Conn, address string) {
	defer here.Close()
	there, err := net.Dial("tcp", address)
	if err != nil {
		return // the client sees that nobody answers
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(there, here) // its end is the end of the conversation
		_ = there.Close()
	})
	_, _ = io.Copy(here, there) // as above
	_ = here.Close()
	_ = there.Close()
	wg.Wait()
}

func (b *bridge) close() error {
	_ = b.stdin.Close() // it may have ended with its machine
	err := b.ln.Close()
	<-b.done
	_ = b.cmd.Wait() // likewise
	return err
}
