package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/e2e/load"
	"github.com/turnstone-go/turnstone/e2e/stage"
	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// kind is a way to serve, and what a storm means for its clients.
type kind struct {
	config   map[string]string
	program  func(t *testing.T, version, fault string) string // nil is the example
	workers  map[load.Class]int
	outage   bool // what comes while there is no launcher may be lost, and nothing else
	servesOn bool // a payload that its launcher has left is there for its clients all the same
}

var (
	// handoff loses nothing, whatever happens.
	handoff = kind{workers: map[load.Class]int{load.KeepAlive: 4, load.Fresh: 4, load.H2: 2, load.Stream: 2}}
	// proxy has the launcher in the way of every byte: what is open is cut, and the port is closed until the next one runs.
	proxy = kind{config: map[string]string{"traffic": "mode = \"proxy\"\n"}, workers: handoff.workers, outage: true}
	// activation has a program that takes its socket by LISTEN_FDS, one version at a time. It serves on without a launcher,
	// but cannot give its socket back: the next launcher ends it, and what waits in its queue is lost.
	activation = kind{
		config: map[string]string{
			"payload":   "kind = \"activation\"\nuser = \"same\"\ncommand = [%q, \"{{.File}}\"]\n",
			"health":    "probe = \"none\"\nnotify = true\ninterval = \"20ms\"\nready_timeout = \"20s\"\n",
			"probation": "time = \"500ms\"\nmin_requests = 0\n",
			"drain":     "deadline = \"5s\"\nidle = \"200ms\"\nstream = \"5s\"\nkill = \"5s\"\n",
		},
		program: activated, workers: map[load.Class]int{load.Fresh: 8}, outage: true, servesOn: true,
	}
)

// activatedServer answers what it has accepted, one connection after the other, before it ends by SIGTERM or after its life.
const activatedServer = `
import os, select, signal, socket, sys, time
version, end = %q, time.monotonic() + %d / 1000
s = socket.socket(fileno=3)
s.setblocking(False)
told, tell = os.pipe()
os.set_blocking(tell, False)
signal.set_wakeup_fd(tell)
signal.signal(signal.SIGTERM, lambda *args: None)
body = b'{"pid":%%d,"version":"%%s"}' %% (os.getpid(), version.encode())
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.connect(os.environ["NOTIFY_SOCKET"])
    notify.send(b"READY=1\n")
while time.monotonic() < end:
    ready, _, _ = select.select([s, told], [], [], end - time.monotonic())
    if told in ready:
        sys.exit(0)
    try:
        c, _ = s.accept()
    except BlockingIOError:
        continue
    with c:
        c.settimeout(5)
        asked = b""
        while not asked.endswith(b"\r\n\r\n"):
            more = c.recv(4096)
            if not more:
                break
            asked += more
        else:
            c.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %%d\r\n\r\n%%s" %% (len(body), body))
sys.exit(1)
`

// activated is a release of that server. One with a fault lives for a moment.
func activated(t *testing.T, version, fault string) string {
	t.Helper()
	life := time.Hour
	if fault != "" {
		life = 100 * time.Millisecond
	}
	file := filepath.Join(t.TempDir(), "server.py")
	if err := os.WriteFile(file, fmt.Appendf(nil, activatedServer, version, life.Milliseconds()), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// stormy is a host that serves 1.0.0, is offered 1.1.0 and 1.2.0, and takes nothing without an order.
func stormy(t *testing.T, k kind) *storm {
	t.Helper()
	mortal, err := stormProgram()
	if err != nil {
		t.Fatal(err)
	}
	p := programs
	p.Launcher = mortal
	return stormOn(t, p, nil, k)
}

// stormOn is a host in a storm, on a Windows if there is a machine.
func stormOn(t *testing.T, p stage.Programs, m *stage.Machine, k kind) *storm {
	t.Helper()
	config := map[string]string{
		"health":    "interval = \"20ms\"\ngood = 2\nready_timeout = \"20s\"\n",
		"probation": "time = \"150ms\"\nmin_requests = 0\n",
		"drain":     "deadline = \"30s\"\nidle = \"10s\"\nstream = \"30s\"\nkill = \"1s\"\n",
	}
	maps.Copy(config, k.config)
	program := k.program
	switch {
	case program != nil:
		config["payload"] = fmt.Sprintf(config["payload"], interpreter(t))
	case m == nil:
		program = func(t *testing.T, version, fault string) string { return example(t, version, fault) }
	default:
		program = func(t *testing.T, version, fault string) string {
			file, err := p.Example(t.Context(), version, fault)
			if err != nil {
				t.Fatal(err)
			}
			return file
		}
	}
	s, err := stage.New(t.Context(), p, stage.Options{Machine: m, Config: config})
	if err != nil {
		t.Fatal(err)
	}
	h := &storm{Stage: s, kind: k, machine: m, plan: filepath.Join(s.Home, "die"), active: "1.0.0"}
	s.Env = []string{"LAUNCHER_DIE=" + h.plan}
	if m != nil {
		s.Env = []string{"LAUNCHER_DIE=Z:" + strings.ReplaceAll(h.plan, "/", `\`)}
	}
	t.Cleanup(func() { h.end(t) })
	publish(t, s, "1.0.0", program(t, "1.0.0", ""))
	launch(t, s)
	serving(t, s, "1.0.0")
	h.load = load.Start(load.Options{Address: s.Listen, NoSlow: true, Pause: 20 * time.Millisecond, Workers: k.workers})
	h.order(t, "pause", control.Request{})
	publish(t, s, "1.1.0", program(t, "1.1.0", ""))
	publish(t, s, "1.2.0", program(t, "1.2.0", "health-fail:0s"))
	return h
}

func (h *storm) end(t *testing.T) {
	if h.load != nil {
		h.load.Stop()
	}
	if t.Failed() {
		log := h.Log()
		t.Logf("the launcher's log:\n%s", log[max(0, len(log)-30<<10):])
	}
	if err := h.Close(); err != nil && h.machine == nil { // else the launcher ends with the machine
		t.Errorf("close the stage: %v", err)
	}
}

// stormOfProxy has some tens of deaths at the points where a proxy's host differs.
func stormOfProxy(t *testing.T, h *storm) {
	for _, p := range []journal.Phase{journal.Warming, journal.Switching, journal.Probation, journal.Retiring} {
		h.upTo(t, 2, p, forward, back)
	}
	for _, p := range []journal.Phase{journal.Switching, journal.Probation, journal.Reverting, journal.Discarding} {
		h.upTo(t, 2, p, astray)
	}
	h.moments(t, journal.Switching, 400*time.Microsecond, forward, back)
	h.random(t, 20, 800*time.Millisecond, func() { kill(t, h.Stage) })
}

// stormOfActivation is the same where versions are exchanged, which takes as long as one needs to end and the next to start.
func stormOfActivation(t *testing.T, h *storm) {
	for _, p := range []journal.Phase{journal.Switching, journal.Probation, journal.Retiring} {
		h.upTo(t, 2, p, forward, back)
	}
	for _, p := range []journal.Phase{journal.Switching, journal.Probation, journal.Reverting, journal.Discarding} {
		h.upTo(t, 2, p, astray)
	}
	h.moments(t, journal.Switching, 15*time.Millisecond, forward, back)
	h.random(t, 20, time.Second, func() { kill(t, h.Stage) })
}
