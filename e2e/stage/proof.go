package stage

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Proof tells in which mode traffic flows, by one connection: which payload answered on it, and which
// processes of this computer hold the server's end.
type Proof struct {
	Version string
	PID     int      // of the payload, as it knows it: in a machine that is Windows' number
	Holders []string // programs; Wine's server holds every socket beside its process and is left out
}

// Mode is handoff if the launcher is none of those that hold the connection, proxy if it is one.
func (p Proof) Mode() string {
	if slices.ContainsFunc(p.Holders, func(h string) bool { return strings.Contains(h, "launcher") }) {
		return "proxy"
	}
	return "handoff"
}

func (p Proof) String() string {
	return fmt.Sprintf("%s: version %s, payload pid %d answered; its connection is held by %s", p.Mode(), p.Version, p.PID, strings.Join(p.Holders, ", "))
}

// Prove asks the example on a connection of its own. Linux only.
func (s *Stage) Prove(ctx context.Context) (p Proof, err error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", s.Listen)
	if err != nil {
		return p, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience)) // a socket that is open has deadlines
	if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: test\r\n\r\n"); err != nil {
		return p, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return p, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		return p, err
	}
	p.Holders, err = holders(c.LocalAddr().(*net.TCPAddr))
	if err == nil && len(p.Holders) == 0 {
		err = fmt.Errorf("nobody holds the server's end of the connection from %s", c.LocalAddr())
	}
	return p, err
}

// holders are the programs of the processes that hold the server's end of a connection from client.
func holders(client *net.TCPAddr) (names []string, err error) {
	inode := ""
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(table)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) { // sl local remote st tx:rx tr:tm retr uid timeout inode
			f := strings.Fields(line)
			if len(f) > 9 && strings.HasSuffix(f[2], fmt.Sprintf(":%04X", client.Port)) && f[3] == "01" {
				inode = f[9]
			}
		}
	}
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || target != "socket:["+inode+"]" {
			continue
		}
		pid, _ := strconv.Atoi(strings.Split(fd, "/")[2])
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // a process that has ended has no name
		name, _, _ := strings.Cut(string(line), "\x00")
		if !strings.Contains(name, "wineserver") && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, err
}
