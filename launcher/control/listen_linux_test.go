package control

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A socket that was removed, or put back from a copy, is made again, as often as that happens, and its end is the
// listener's.
func TestSocketIsMadeAgain(t *testing.T) {
	dir, err := os.MkdirTemp("", "ts")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	addr := filepath.Join(dir, "control.sock")
	l, err := Listen(addr, "")
	if err != nil {
		t.Fatal(err)
	}
	l.look = time.Millisecond
	accepted := make(chan error)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				accepted <- err
				return
			}
			accepted <- c.Close()
		}
	}()
	for range 3 {
		if err := os.Remove(addr); err != nil {
			t.Fatal(err)
		}
		var c net.Conn
		for deadline := time.Now().Add(20 * time.Second); ; {
			if c, err = net.Dial("unix", addr); err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if err := errors.Join(<-accepted, c.Close()); err != nil {
			t.Fatal(err)
		}
		if st, err := os.Stat(addr); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", st, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-accepted; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := os.Lstat(addr); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}
