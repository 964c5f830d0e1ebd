package host

import (
	"os"
	"syscall"
)

// No service manager of Windows keeps sockets: they come back from the payloads alone.

func sockets() map[string]*os.File { return nil }

func keepSocket(string, syscall.RawConn) error { return nil }

func forgetSocket(string) error { return nil }
