package host

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

const asAdministrator = "with sudo"

// harden has nothing to do: the programs are static.
func harden() error { return nil }

func interruptible(ctx context.Context, _ bool) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// run is under systemd if it said where it listens, else in a console. SIGHUP reloads in both.
func run(ctx context.Context, s Service) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	requests := make(chan request)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case <-hup:
			case <-ended:
				return
			}
			select {
			case requests <- askReload:
			case <-ended:
				return
			}
		}
	}()
	m := manager{requests: requests, report: func(state) {}}
	if os.Getenv("NOTIFY_SOCKET") != "" {
		m.patient = true
		m.report = func(st state) { notify(words(st, monotonic())) }
		m.alive = func() { notify(daemon.SdNotifyWatchdog) }
		var err error
		if m.watch, err = daemon.SdWatchdogEnabled(false); err != nil {
			return fmt.Errorf("read the watchdog's interval from systemd: %w", err)
		}
	}
	return talk(ctx, m, s)
}

// notify tells systemd. It waits no longer than a full socket buffer lasts, and a word that is lost is said
// again by the next checkpoint.
func notify(text string) {
	if text != "" {
		_, _ = daemon.SdNotify(false, text) // nobody else could be told
	}
}

// words is a state as sd_notify(3) says it. A stop that goes on asks for more time at every checkpoint, so
// that TimeoutStopSec bounds silence and not work.
func words(st state, now time.Duration) string {
	var w []string
	switch {
	case st.reloading:
		w = append(w, daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", now.Microseconds()))
	case st.phase == starting && st.check == 1:
		w = append(w, "STATUS=starting")
	case st.phase == running:
		w = append(w, daemon.SdNotifyReady, "STATUS=running")
	case st.phase == paused:
		w = append(w, daemon.SdNotifyReady, "STATUS=updates are paused")
	case st.phase == stopping && st.check == 1:
		w = append(w, daemon.SdNotifyStopping, "STATUS=draining")
	}
	if st.phase.pending() && st.hint > 0 {
		w = append(w, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", st.hint.Microseconds()))
	}
	return strings.Join(w, "\n")
}

// monotonic is the clock that systemd compares a reload with.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// exitStatus must not be 2 for a wrong configuration: see RestartPreventExitStatus in Unit.
func exitStatus(code int) int {
	const usage, config = 2, 78
	if code == usage && os.Getenv("NOTIFY_SOCKET") != "" {
		return config
	}
	return code
}
