package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
)

// The Windows launcher, in its console mode, under Wine; the repository and the clients are on Linux.

// windowsPrograms are built once for all tests that need them.
var windowsPrograms = sync.OnceValues(func() (stage.Programs, error) {
	return stage.BuildWindows(context.Background(), programs.Dir)
})

// windows boots a machine of its own for a test. Without Wine that is a failure where the tests must be
// complete.
func windows(t *testing.T) (stage.Programs, *stage.Machine) {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("Wine runs programs for x86-64 on Linux for x86-64 only")
	}
	if testing.Short() {
		t.Skip("a Windows of its own takes a while; -short was given")
	}
	programs, err := windowsPrograms()
	if err != nil {
		t.Fatal(err)
	}
	m, err := programs.Boot(t.Context())
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("there is no Wine, and under CI=true it may not be missing: %v", err)
		}
		t.Skipf("there is no Wine: %v", err)
	}
	t.Cleanup(func() { _ = m.Close() }) // it was ended
	return programs, m
}

func TestWindows(t *testing.T) {
	for _, mode := range []string{"handoff", "proxy"} {
		t.Run(mode, func(t *testing.T) { updateOnWindows(t, mode) })
	}
}

func updateOnWindows(t *testing.T, mode string) {
	programs, m := windows(t)
	s, err := stage.New(t.Context(), programs, stage.Options{Machine: m, Config: map[string]string{
		"traffic": fmt.Sprintf("mode = %q\n", mode),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the launcher's log:\n%s", s.Log())
		}
		_ = s.Close() // the launcher ends with the machine
	})
	release := func(version, fault string) {
		t.Helper()
		file, err := programs.Example(t.Context(), version, fault)
		if err != nil {
			t.Fatal(err)
		}
		publish(t, s, version, file)
	}
	release("1.0.0", "")
	launch(t, s)
	serving(t, s, "1.0.0")
	told(t, s, mode)

	l := load.Start(load.Options{Address: s.Listen, Workers: map[load.Class]int{load.KeepAlive: 8, load.Fresh: 8, load.H2: 2}})
	defer l.Stop()
	flow(t, l, 300)
	release("1.1.0", "")
	operator(t, s, 0, "update", "--now", "--follow")
	serving(t, s, "1.1.0")
	told(t, s, mode)
	release("1.2.0", "health-fail:300ms")
	operator(t, s, 20, "update", "--now", "--follow")
	serving(t, s, "1.1.0")
	told(t, s, mode)
	if mode == "handoff" { // where the launcher's death is no outage
		if out, err := m.Run(t.Context(), "taskkill", "/f", "/im", "launcher.exe"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		flow(t, l, 300) // without a launcher
		launch(t, s)
		serving(t, s, "1.1.0")
		release("1.3.0", "")
		operator(t, s, 0, "update", "--now", "--follow")
		serving(t, s, "1.3.0")
		told(t, s, mode)
	}
	flow(t, l, 300)
	r := l.Stop()
	if r.Lost() {
		t.Errorf("lost requests: %+v", r)
	}
	t.Logf("%s: %d requests over a switch, another and the way back: %d refused, %d failed, %d retryable; by version %v",
		mode, r.Requests, r.Refused, r.Failed, r.Retryable, r.Versions)
}

// told checks and prints who has the connections of the service: in handoff mode the payload itself, in proxy
// mode the launcher. The answer says the payload's Windows pid; who holds the server's end of the connection
// is what Linux knows (Wine's server holds every socket beside its process).
func told(t *testing.T, s *stage.Stage, mode string) {
	t.Helper()
	c, err := net.Dial("tcp", s.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: test\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var who struct {
		Version string
		PID     int
	}
	if err := json.NewDecoder(resp.Body).Decode(&who); err != nil {
		t.Fatal(err)
	}
	holders := holders(t, c.LocalAddr().(*net.TCPAddr))
	want := "launcher.exe"
	if mode == "handoff" {
		want = "store"
	}
	has := func(name string) bool {
		return slices.ContainsFunc(holders, func(h string) bool { return strings.Contains(h, name) })
	}
	if !has(want) || mode == "handoff" && has("launcher.exe") {
		t.Errorf("%s mode: the connection is held by %q", mode, holders)
	}
	t.Logf("%s: version %s, payload pid %d answered; its connection is held by %s", mode, who.Version, who.PID, strings.Join(holders, ", "))
}

// holders are the command lines of the processes that hold the server's end of a connection from client.
func holders(t *testing.T, client *net.TCPAddr) []string {
	t.Helper()
	inode := ""
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) { // sl local remote st tx:rx tr:tm retr uid timeout inode
			f := strings.Fields(line)
			if len(f) > 9 && strings.HasSuffix(f[2], fmt.Sprintf(":%04X", client.Port)) && f[3] == "01" {
				inode = f[9]
			}
		}
	}
	var names []string
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || target != "socket:["+inode+"]" {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(fd, "/")[2])
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		name, _, _ := strings.Cut(string(line), "\x00")
		if !strings.Contains(name, "wineserver") && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
