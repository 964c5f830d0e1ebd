package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
)

// server is a program that knows nothing of a launcher but what systemd taught it: it says READY=1, and ends
// on SIGTERM, or does not. Each version is one file.
const server = `
import http.server, os, signal, socket, socketserver, sys, threading, time
version, port, data, manners = %q, int(sys.argv[1]), sys.argv[2], %q

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = ('{"version":"' + version + '"}').encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

def polite(*args):
    with open(os.path.join(data, "goodbye-" + version), "w") as f:
        f.write("SIGTERM")
    os._exit(0)

signal.signal(signal.SIGTERM, polite if "deaf" not in manners else signal.SIG_IGN)
s = Server(("127.0.0.1", port), Handler)
threading.Thread(target=s.serve_forever).start()
if "mute" not in manners:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(os.environ["NOTIFY_SOCKET"])
        notify.send(b"STATUS=warm\nREADY=1\n")
while True:
    time.sleep(1)
`

func script(t *testing.T, version, manners string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "server.py")
	if err := os.WriteFile(file, fmt.Appendf(nil, server, version, manners), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// scripted is a stage of such programs.
func scripted(t *testing.T, health string) *stage.Stage {
	t.Helper()
	python := interpreter(t)
	s := staged(t, quick(map[string]string{
		"payload": fmt.Sprintf("kind = \"plain\"\nuser = \"same\"\ncommand = [%q, \"{{.File}}\", \"{{.Port}}\", \"{{.Data}}\"]\n", python),
		"health":  health,
		"drain":   "deadline = \"5s\"\nidle = \"1s\"\nstream = \"5s\"\nkill = \"1s\"\n",
	}))
	publish(t, s, "1.0.0", script(t, "1.0.0", ""))
	launch(t, s)
	serving(t, s, "1.0.0")
	return s
}

// interpreter is python itself: what is found by its name may be a script of a version manager.
func interpreter(t *testing.T) string {
	t.Helper()
	out, err := exec.Command(need(t, "python3"), "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

var plainLoad = load.Options{NoSlow: true, Workers: map[load.Class]int{load.Fresh: 8}}

// Readiness is the program's own READY=1; its end is SIGTERM, and when it does not listen the end of its whole
// tree. One that never says READY=1 gets no connection.
func TestNotifyAndStop(t *testing.T) {
	s := scripted(t, "probe = \"none\"\nnotify = true\nready_timeout = \"8s\"\n")
	r := underLoad(t, s, plainLoad, func(*load.Load) {
		publish(t, s, "1.1.0", script(t, "1.1.0", "deaf"))
		operator(t, s, 0, "update", "--now", "--follow")
		goodbye := filepath.Join(s.State(), "data", "goodbye-1.0.0")
		eventually(t, "1.0.0 was asked to stop", func() bool { _, err := os.Stat(goodbye); return err == nil })

		publish(t, s, "1.2.0", script(t, "1.2.0", "mute"))
		says(t, operator(t, s, 14, "update", "--now", "--follow"), "1.2.0", "ready")

		deaf := pids(t, s)["1.1.0"]
		publish(t, s, "1.3.0", script(t, "1.3.0", ""))
		operator(t, s, 0, "update", "--now", "--follow")
		eventually(t, "the deaf one was ended", func() bool { return ended(deaf) })
	})
	nothingLost(t, r)
	if r.Versions["1.2.0"] > 0 || r.Versions["1.3.0"] == 0 {
		t.Errorf("answers by version: %v", r.Versions)
	}
}

// A TCP probe is content with a port that answers, and an exec probe with the program's own judge; neither
// lets a release through that fails it.
func TestTCPAndExecProbe(t *testing.T) {
	judge := filepath.Join(t.TempDir(), "judge")
	text := "#!/bin/sh\n# healthy is who is not on the list\n! grep -q \"version, port, data, manners = .sick\" \"$1\"\n"
	if err := os.WriteFile(judge, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, health := range map[string]string{
		"tcp":  "probe = \"tcp\"\n",
		"exec": fmt.Sprintf("probe = \"exec\"\ncommand = [%q, \"{{.File}}\"]\n", judge),
	} {
		t.Run(name, func(t *testing.T) {
			s := scripted(t, health+"interval = \"100ms\"\ngood = 2\nready_timeout = \"8s\"\ntimeout = \"2s\"\n")
			r := underLoad(t, s, plainLoad, func(*load.Load) {
				publish(t, s, "1.1.0", script(t, "1.1.0", ""))
				operator(t, s, 0, "update", "--now", "--follow")
				bad := script(t, "sick", "")
				if name == "tcp" {
					bad = lame(t)
				}
				publish(t, s, "1.2.0", bad)
				says(t, operator(t, s, 14, "update", "--now", "--follow"), "1.2.0")
				operator(t, s, 0, "rollback", "--follow")
			})
			nothingLost(t, r)
			if r.Versions["1.1.0"] == 0 || r.Versions["sick"] > 0 {
				t.Errorf("answers by version: %v", r.Versions)
			}
			serving(t, s, "1.0.0")
		})
	}
}

// lame is a program that lives and listens nowhere.
func lame(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "lame.py")
	if err := os.WriteFile(file, []byte("import time\ntime.sleep(1000)\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// ended says whether no process has that number any more.
func ended(pid int) bool {
	p, err := os.FindProcess(pid)
	return err != nil || p.Signal(syscall.Signal(0)) != nil
}
