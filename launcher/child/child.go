// Package child runs payload processes for the launcher: it starts them, finds them again after the
// launcher itself has died, hears when they are ready, gives them orders, stops them, and keeps the
// evidence (exit and last output) of how they ended.
//
// The invariant: every living payload process has a record in the run folder, written and synced before
// the process is made and removed after the last of its descendants is gone. So a launcher that starts
// can tell every process that an earlier one left behind, and no payload ever runs twice unseen. A
// process is only ever signalled through a handle (a pidfd) that was checked against its start time, so a
// number that the kernel gave to somebody else in the meantime is never hit.
//
// A payload outlives its launcher on purpose: its output goes to a file and not to a pipe, it has a
// session of its own, and closing the Host leaves it alone.
//
// What it does not do: it decides nothing about versions, health or traffic, verifies no bytes, and never
// opens, closes or changes the mode of a listening socket that it hands over. A descendant that leaves
// the session, clears its environment and outlives its parents is not found; the service manager's
// control group is what catches that one.
package child

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

// Kind is how a program takes part.
type Kind string

// The three kinds of program.
const (
	SDK        Kind = "sdk"        // uses package payload: listeners, readiness and orders over the wire
	Plain      Kind = "plain"      // any program: sd_notify or nothing, told to end by SIGTERM
	Activation Kind = "activation" // takes its listeners as LISTEN_FDS, else as Plain
)

// Spec says what to run.
type Spec struct {
	Number string // the version, for people, file names and TURNSTONE_VERSION
	Digest string // the version's identity
	Role   string // what it was started as; a record for people, the journal decides
	Kind   Kind

	Path string   // of the executable: absolute, or a bare name to be found in PATH
	Args []string // what follows the program's name
	Dir  string   // working folder; "" is the launcher's
	Env  []string // NAME=value beside the allowed ones; the launcher's own names win
	Data string   // the folder the payload may write (TURNSTONE_DATA)
	User *User    // nil: the launcher's own

	Listeners []Listener        // inherited sockets (SDK and Activation)
	Addr      map[string]string // private addresses by listener name (proxy mode)

	// ReadyTimeout ends Ready with ErrNotReady. The program may lengthen it with EXTEND_TIMEOUT_USEC, up
	// to 30 minutes from its start. Zero leaves the wait to the context alone.
	ReadyTimeout time.Duration
}

// Listener is one socket to inherit. The descriptor is taken by Conn.Control and passed on as it is:
// asking an os.File for it (File.Fd) would make the socket blocking for every process that shares it.
type Listener struct {
	Name string
	Conn syscall.RawConn
}

// Errors of Start and Adopt.
var (
	ErrSpec   = errors.New("the process cannot be started as described")
	ErrClosed = errors.New("the host of the process is closed")
	// ErrUnsupported is returned for what this operating system cannot do yet.
	ErrUnsupported = errors.New("not available on this operating system yet")
)

// Errors of waiting and ordering.
var (
	ErrExited   = errors.New("the process has ended")
	ErrNotReady = errors.New("the process did not become ready in time")
	ErrNoWire   = errors.New("the program does not use the SDK and takes no orders")
	ErrNoAck    = errors.New("the process did not acknowledge the order in time")
	ErrRefused  = errors.New("the process answered that it could not")
	ErrNotOwner = errors.New("the address does not belong to the process")
)

// CheckKind says why programs of a kind cannot be run on this system; the error wraps ErrUnsupported.
func CheckKind(k Kind) error { return checkKind(k) }

// Foreign says of an error of Start that the file is no program for this machine, and will not become one.
func Foreign(err error) bool { return foreign(err) }

// Names are used in file names and in environment variables, so their alphabets are narrow.
var (
	numberForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$`)
	socketForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
)

// maxListeners bounds the sockets of one process, both handed over and given back.
const maxListeners = 16

// check refuses a Spec that would start something else than what it says.
func (s Spec) check() error {
	refuse := func(format string, a ...any) error {
		return fmt.Errorf("%w: %s", ErrSpec, fmt.Sprintf(format, a...))
	}
	switch {
	case !numberForm.MatchString(s.Number):
		return refuse("version %q is not a name of letters, digits and . _ + -", s.Number)
	case s.Kind != SDK && s.Kind != Plain && s.Kind != Activation:
		return refuse("unknown kind %q; use %s, %s or %s", s.Kind, SDK, Plain, Activation)
	case !filepath.IsAbs(s.Path):
		return refuse("%q is neither an absolute path nor a program of PATH", s.Path)
	case s.Kind == Plain && len(s.Listeners) > 0:
		return refuse("a plain program inherits no listeners; use kind %q or proxy mode", Activation)
	case s.Kind == Activation && len(s.Listeners) == 0:
		return refuse("kind %q needs at least one listener", Activation)
	case len(s.Listeners) > maxListeners:
		return refuse("%d listeners, at most %d", len(s.Listeners), maxListeners)
	}
	seen := make(map[string]bool)
	for _, l := range s.Listeners {
		if !socketForm.MatchString(l.Name) || seen[l.Name] || l.Conn == nil {
			return refuse("listener %q needs a socket and a name of its own", l.Name)
		}
		seen[l.Name] = true
	}
	for name := range s.Addr {
		if !socketForm.MatchString(name) {
			return refuse("address name %q is not a name of letters, digits and . _ -", name)
		}
	}
	return nil
}
