package host

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
)

const asAdministrator = "from a terminal that was opened with \"Run as administrator\""

// harden keeps DLLs that lie beside the program, in the working folder or in PATH from being loaded.
func harden() error { return windows.SetDefaultDllDirectories(windows.LOAD_LIBRARY_SEARCH_SYSTEM32) }

func interruptible(ctx context.Context, managed bool) (context.Context, context.CancelFunc) {
	if managed {
		return context.WithCancel(ctx)
	}
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// run asks the service control manager first, within milliseconds: it gives a new process 30 s to do so,
// and at a cold boot much of that may be gone (golang.org/issue/23479). Whether we are a service is not
// guessed: the dispatcher answers with error 1063 if we are not.
func run(ctx context.Context, s Service) error {
	if !s.Managed {
		return talk(ctx, manager{report: func(state) {}}, s)
	}
	h := &handler{ctx: ctx, service: s}
	err := svc.Run(s.Name, h)
	if errors.Is(err, windows.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) {
		slog.Warn("the service control manager did not start this process: running in the console")
		s.Managed = false
		ctx, stop := interruptible(ctx, false)
		defer stop()
		return run(ctx, s)
	}
	return errors.Join(err, h.err)
}

// Bounds on the end, by who asks. A machine that shuts down gives services without preshutdown 5 s
// (WaitToKillServiceTimeout) and then ends them.
const (
	stopTime     = 30 * time.Second
	shutdownTime = 3 * time.Second
	// preShutdownLess is what we leave of the preshutdown timeout, for the watchdog and the SCM itself.
	preShutdownLess = 5*time.Second + grace
)

// handler is one run of the service under the SCM.
type handler struct {
	ctx     context.Context
	service Service
	err     error
}

// Execute translates between the SCM and the loop. The package svc reads changes whenever it does not hold
// a request for us, and holds one only until we take it, so neither side can wait for the other.
func (h *handler) Execute(_ []string, requests <-chan svc.ChangeRequest, changes chan<- svc.Status) (bool, uint32) {
	over := make(chan struct{})
	defer close(over)
	m := manager{
		requests: translate(requests, over),
		report:   func(st state) { changes <- status(st) },
		within: map[request]time.Duration{
			askStop: stopTime, askShutdown: shutdownTime,
			askPreShutdown: max(preShutdown(h.service.Name)-preShutdownLess, shutdownTime),
		},
	}
	h.err = talk(h.ctx, m, h.service)
	code := h.service.ExitCode(h.err)
	return code != 0, uint32(code)
}

// translate reads requests all the time: the SCM's own thread waits inside package svc until we do.
func translate(requests <-chan svc.ChangeRequest, over <-chan struct{}) <-chan request {
	out := make(chan request)
	go func() {
		for {
			select {
			case c := <-requests:
				q, known := asked[c.Cmd]
				if !known {
					continue
				}
				select {
				case out <- q:
				case <-over:
					return
				}
			case <-over:
				return
			}
		}
	}()
	return out
}

var asked = map[svc.Cmd]request{
	svc.Stop: askStop, svc.Shutdown: askShutdown, svc.PreShutdown: askPreShutdown,
	svc.Pause: askPause, svc.Continue: askResume, svc.ParamChange: askReload, svc.Interrogate: askState,
}

var states = map[phase]svc.State{
	starting: svc.StartPending, running: svc.Running, pausing: svc.PausePending, paused: svc.Paused,
	resuming: svc.ContinuePending, stopping: svc.StopPending,
}

// status is a state as the SCM knows it. While something is pending only what may overtake it is accepted.
func status(st state) svc.Status {
	s := svc.Status{State: states[st.phase], CheckPoint: st.check, WaitHint: uint32(st.hint.Milliseconds())}
	switch st.phase {
	case running, paused:
		s.Accepts = svc.AcceptStop | svc.AcceptShutdown | svc.AcceptPreShutdown | svc.AcceptPauseAndContinue | svc.AcceptParamChange
	case pausing, resuming:
		s.Accepts = svc.AcceptStop | svc.AcceptShutdown | svc.AcceptPreShutdown
	}
	return s
}

// preShutdown is how long the SCM waits for this service when the machine is about to shut down: what was
// set at install, or Windows' own default since version 1703 (docs of SERVICE_PRESHUTDOWN_INFO).
func preShutdown(name string) time.Duration {
	const usual = 10 * time.Second
	e, err := openService(name)
	if err != nil {
		return usual
	}
	defer e.close()
	text, err := e.get(settingPreShutdown)
	if err != nil {
		return usual
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return usual
	}
	return d
}

// exitStatus changes nothing: the SCM is told the code itself, and a crash is one by its missing farewell.
func exitStatus(code int) int { return code }
