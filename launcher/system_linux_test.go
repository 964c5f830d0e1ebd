package main

import (
	"os"
	"strings"
	"testing"
)

// writePrivate writes a file that nobody else can read.
func writePrivate(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writeOpen writes one that everybody can read.
func writeOpen(t *testing.T, name, text string) {
	t.Helper()
	write(t, name, text)
}

// closeHint is what is advised about a file that others can read.
func closeHint(name string) string { return "chmod 600 " + name }

// native is a text with paths as this system has them.
func native(text string) string { return text }

// path is a native path as the configuration makes one of a relative one.
func path(p string) string { return p }

// badHere are configurations that are wrong on Linux alone, or in other words than elsewhere.
var badHere = []badConfig{
	{"mirror on a share", `"/mnt/releases"`, `'\\nas\releases'`, `'\\nas\releases'`, "on Windows only", "mount the share"},
	{"mirror on a share by URL", `"/mnt/releases"`, `"file://nas/releases"`, `"file://nas/releases"`, "on another computer", "absolute path"},
	{"long socket", `/run/acme/control.sock`, "/" + strings.Repeat("s", 107), `"/` + strings.Repeat("s", 107) + `"`, "at most 107", "shorter path"},
}

// The longest state folder that is let pass is one in which the sockets of payloads can be made.
func TestConfigStateFolderHasRoomForSockets(t *testing.T) {
	for n := 80; n < 100; n++ {
		dir := "/" + strings.Repeat("s", n-1)
		file := strings.Replace(smallest, `dir = "state"`, `dir = "`+dir+`"`, 1)
		_, err := parseConfig(conf, []byte(file), false)
		if fits := len(dir+"/0123456789abcdef.n") <= 107; fits != (err == nil) {
			t.Errorf("%d bytes: %v", n, err)
		} else if !fits {
			checkFault(t, file, err, `"`+dir+`"`, "state.dir: too long", "shorter path")
		}
	}
}
