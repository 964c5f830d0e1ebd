package child

import (
	"net"
	"os"
	"testing"
)

// What an administrator cleared away, or put back from a copy, keeps no process from being started and from saying
// that it is ready.
func TestClearedAway(t *testing.T) {
	for name, clear := range map[string]func(Options) error{
		"run":    func(o Options) error { return os.RemoveAll(o.Dir) },
		"log":    func(o Options) error { return os.RemoveAll(o.Output) },
		"wire":   func(o Options) error { return os.Remove(o.Wire) },
		"a copy": func(o Options) error { return deadSocket(o.Wire) },
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			h := open(t, o)
			first := start(t, h, program(t, SDK, "sdk", ""))
			ready(t, first)
			if err := clear(o); err != nil {
				t.Fatal(err)
			}
			ready(t, start(t, h, program(t, SDK, "sdk", "")))
			if err := first.Accept(soon(t)); err != nil {
				t.Errorf("a payload that was there before is not heard any more: %v", err)
			}
		})
	}
}

// deadSocket puts a socket at path that nobody listens at, as a copied folder has.
func deadSocket(path string) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	ln.SetUnlinkOnClose(false)
	return ln.Close()
}
