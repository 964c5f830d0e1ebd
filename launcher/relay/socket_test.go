package relay

import (
	"errors"
	"io"
	"net"
	"testing"
)

func TestUnixSockets(t *testing.T) {
	path := shortDir(t) + "/s"
	s, err := Listen("http", "unix:"+path)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("unix sockets are for Linux: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("http", "unix:"+path); !errors.Is(err, ErrInUse) {
		t.Errorf("a second Listen on a living path: %v", err)
	}
	ln, err := net.Listen("unix", path+"b")
	if err != nil {
		t.Fatal(err)
	}
	b := startBackend(t, "b", ln, nil)
	p := NewProxy(s, Options{})
	p.Switch(p.NewTarget("b", "unix:"+b.addr()))
	stop := run(t, p)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mustAsk(t, c, "b")
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(c); err != nil || len(rest) != 0 {
		t.Errorf("after the half-close: %q, %v", rest, err)
	}

	stop()
	s.Close()
	s, err = Listen("http", "unix:"+path) // what the dead one left behind is replaced
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}
