package host

import (
	"context"
	"time"
)

// Point makes name start target from now on, in one step that a power cut leaves done or not done. On Linux
// name is the absolute path that is registered, which becomes a link; on Windows it is the name of the service.
func Point(name, target string) error { return point(name, target) }

// Pointed returns the file that name starts, with every link followed.
func Pointed(name string) (string, error) { return pointed(name) }

// Registered returns the name by which Point and Pointed know what this process was started from: its own path as
// it was called, on Linux, and the service on Windows.
func Registered(service string) (string, error) { return registered(service) }

// Becomes says whether Become is possible here. On Windows it is not.
const Becomes = becomes

// Become replaces this process by another program, which keeps its pid, its environment and its files that are
// not closed by that. It returns only to fail.
func Become(file string, argv []string) error { return become(file, argv) }

// Managed says whether a service manager starts this process again when it ends.
func Managed() bool { return managed() }

// Restarts returns why the manager of this service would not start it again once it has ended, nil if it would. It
// asks only Windows, where a service may be disabled or deleted while it runs.
func Restarts(service string) error { return restarts(service) }

// RegisterGuard registers a program as a service of its own, which Windows starts with the machine until Unguard, and
// returns what starts it now. It is for a system where a process cannot become another.
func RegisterGuard(ctx context.Context, service, file string, args []string) (start func() error, err error) {
	return registerGuard(ctx, service, file, args)
}

// Unguard takes out what RegisterGuard registered, if it did.
func Unguard(service string) error { return unguard(service) }

// GuardName is the name of a service's guard. No product can have it.
func GuardName(service string) string { return service + ".guard" }

// Awaken waits until a service has been started since the machine was, where that can be asked.
func Awaken(ctx context.Context, service string) error { return awaken(ctx, service) }

// Revive starts a service that was ended, and not by somebody who wanted it to be stopped.
func Revive(ctx context.Context, service string) error { return revive(ctx, service) }

// ServicePID is the process of a service as its manager knows it, 0 if it has none.
func ServicePID(service string) int { return servicePID(service) }

// Spawn starts a program beside this one, in a session of its own. Nobody waits for it.
func Spawn(file string, argv []string) error { return spawn(file, argv) }

// Other is a process that is watched. It stays the same one when its number has gone to another.
type Other struct{ other }

// OpenParent returns the parent of this process if that still has the given pid, or nil.
func OpenParent(pid int) (*Other, error) { return openParent(pid) }

// OpenProgram returns the process with this pid if it runs the given file, or nil.
func OpenProgram(pid int, file string) (*Other, error) { return openProgram(pid, file) }

// Ended waits for the end of the process for at most this long, and says whether it has come.
func (o *Other) Ended(within time.Duration) bool { return o.ended(within) }

// Kill ends the process.
func (o *Other) Kill() { o.kill() }
