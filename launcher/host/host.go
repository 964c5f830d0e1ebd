// Package host lets the launcher be a service: of the service control manager of Windows, of systemd, or in
// a console. It runs the service under its manager, registers it there and takes it out again, writes to
// the manager's log, and refuses to trust a folder that others can change.
//
// The manager always hears from us in time: the loop that talks to it never waits for the service. What
// takes long runs in a goroutine that the loop waits for, and while it runs the loop counts checkpoints. A
// stop that does not come to its end is ended by a watchdog, with every goroutine's stack in the log.
//
// It knows nothing of versions, traffic or updates, and it never ends a payload's process.
package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Verb is the command line's word for "you are started by the service manager". It is the first argument
// of the registered command.
const Verb = "run-service"

// Service is what runs, as seen from its manager.
type Service struct {
	Name string
	// Run is the service. It calls ready once it does its work, and returns soon after ctx ends, whose
	// cause is then a *Stopping. What it needs from the network must not delay ready.
	Run func(ctx context.Context, ready func(Controls)) error
	// Code is the exit code of an error of Run; 1 if nil.
	Code func(error) int
	// Managed says that the service control manager of Windows started us. If it did not, the service
	// runs in the console all the same.
	Managed bool
}

// Controls is how a running service takes orders of its manager. Each call may take its time.
type Controls struct {
	Reload  func() error // read the configuration again
	Pause   func() error // go on serving, start no updates
	Resume  func() error
	Longest time.Duration // that the service may take to stop by its own configuration
	// Serves is closed once clients are answered. systemd is told then that the service has started, so that
	// units that are ordered after it find it; the SCM, which holds others up meanwhile, is told before.
	Serves <-chan struct{}
	Log    *slog.Logger
}

// Stopping is the cause of the end of Run's context.
type Stopping struct {
	Reason string
	// Within bounds the drain: after it the manager, or the machine, does not wait. Zero leaves the time
	// to the service.
	Within time.Duration
}

func (s *Stopping) Error() string { return "stopping: " + s.Reason }

// Within returns the time that a service has which was told to stop by ctx, most if the manager sets none.
func Within(ctx context.Context, most time.Duration) time.Duration {
	var s *Stopping
	if errors.As(context.Cause(ctx), &s) && s.Within > 0 {
		return min(s.Within, most)
	}
	return most
}

// Run runs a service under the manager that started this process, until the service ends, the manager wants
// its end, or ctx ends. It returns the service's error, or ErrHung.
func Run(ctx context.Context, s Service) error { return run(ctx, s) }

// Harden makes the process load system libraries from the system's folder alone. It belongs at the very
// beginning of main.
func Harden() error { return harden() }

// Interruptible returns a context that ends when a person or the system wants this process to end. A service
// of Windows, which is what managed says, hears of that from its manager: what a console would send there
// means the end of somebody's session and not ours (golang.org/issue/40167).
func Interruptible(ctx context.Context, managed bool) (context.Context, context.CancelFunc) {
	return interruptible(ctx, managed)
}

// ErrHung says that the service did not stop in time and was given up.
var ErrHung = errors.New("the service did not stop in time")

// ErrPrivilege says that only an administrator may do this, and how to become one.
var ErrPrivilege = errors.New("needs the rights of an administrator: run it again " + asAdministrator)

// ErrUnsafe says that a folder, or one on the way to it, can be changed by others.
var ErrUnsafe = errors.New("can be changed by others")

// ErrNoService says that no service has this name.
var ErrNoService = errors.New("not installed as a service")

// ErrNoManager is returned where no service manager runs that we know, as in most containers.
var ErrNoManager = errors.New("no service manager runs here")

// Ended says that a service ended while it was being started. Code is its exit code.
type Ended struct {
	Code int
	text string
}

func (e *Ended) Error() string { return e.text }

// Exit codes that only a service has, beside those of the command line.
const (
	CodeHung   = 40
	CodeUnsafe = 41
)

// sentences is what each exit code of the service means, for the log; docs/WINDOWS.md has the same table.
var sentences = map[int]string{
	0:          "stopped in order",
	1:          "internal error: the last lines of launcher.log say which",
	2:          "the configuration is wrong or another launcher has this state folder: run `launcher config check`",
	11:         "the first trusted root could not be verified: compare repository.root with the vendor's",
	13:         "something on this machine is missing: run `launcher doctor`",
	30:         "the account of the service may not do this: it must be LocalSystem, or root",
	CodeHung:   "did not stop in time and was given up; the stacks are in launcher.log",
	CodeUnsafe: "the state folder can be changed by others: run `launcher doctor`, it says which part",
}

// Status is what a process exits with for an exit code of the command line. It is the same, except for a
// service of systemd and code 2, with which the Go runtime ends a program that crashed: systemd starts that
// again, and not one whose configuration waits for a person. That is 78 there, EX_CONFIG of sysexits.h.
func Status(code int) int { return exitStatus(code) }

// ExitCode is the exit code of what Run returned.
func (s Service) ExitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrHung):
		return CodeHung
	case errors.Is(err, ErrUnsafe):
		return CodeUnsafe
	case s.Code != nil:
		return s.Code(err)
	}
	return 1
}

// ExitSentence says what an exit code of the service means.
func ExitSentence(code int) string {
	if s, ok := sentences[code]; ok {
		return s
	}
	return fmt.Sprintf("exit code %d: see launcher --help", code)
}
