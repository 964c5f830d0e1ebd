package child

import (
	"strconv"
	"strings"
	"time"
)

// maxNotifyBytes is the largest datagram that systemd itself accepts.
const maxNotifyBytes = 4096

// hearNotify takes in what the process and its descendants send to their own NOTIFY_SOCKET, until the
// socket is closed.
func (p *Process) hearNotify() {
	defer p.host.wg.Done()
	if p.note == nil {
		return
	}
	buf := make([]byte, maxNotifyBytes)
	for {
		n, err := readNotify(p, buf)
		if err != nil {
			return
		}
		p.notified(string(buf[:n]))
	}
}

// notified follows sd_notify(3) for READY, STOPPING, STATUS and EXTEND_TIMEOUT_USEC. Nothing else counts:
// MAINPID, FDSTORE and WATCHDOG are between a service and its manager, which the launcher is not.
func (p *Process) notified(text string) {
	ready := false
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch {
		case name == "READY" && value == "1" && p.spec.Kind != SDK:
			ready = true // last, so that who waits for it finds the STATUS of the same message
		case name == "STATUS":
			p.setStatus(clip(value))
		case name == "STOPPING" && value == "1":
			p.setStatus("stopping")
		case name == "EXTEND_TIMEOUT_USEC":
			if usec, err := strconv.ParseUint(value, 10, 64); err == nil {
				p.extend(time.Duration(min(usec, uint64(extendLimit.Microseconds()))) * time.Microsecond)
			}
		}
	}
	if ready {
		p.notifiedReady()
	}
}

// notifiedReady writes the readiness down: the program will not repeat it to the next launcher.
func (p *Process) notifiedReady() {
	if !p.becomeReady("") {
		return
	}
	if err := extendRecord(p.host.o.Disk, p.rec.path, record{Ready: true}); err != nil {
		p.host.o.Log.Warn("record that a process is ready", "version", p.spec.Number, "err", err)
	}
}

func (p *Process) setStatus(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = s
}
