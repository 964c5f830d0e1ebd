package relay

import (
	"net"
	"testing"
)

const backlogKnown = false

func shrinkQueue(t *testing.T, _ uintptr) {
	t.Skip("a full accept queue refuses on Windows, and its length is not told")
}

func sentAll(*net.TCPConn) bool { return true }

func shortDir(t *testing.T) string { return t.TempDir() }
