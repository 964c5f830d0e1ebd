package host

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Start says when a service begins.
type Start string

// The four ways to start.
const (
	Automatic Start = "automatic" // with the machine
	Delayed   Start = "delayed"   // two minutes after the others (Windows; elsewhere like Automatic)
	Manual    Start = "manual"
	Disabled  Start = "disabled"
)

// Spec is a service as it is to be registered.
type Spec struct {
	Name        string
	Display     string
	Description string
	Exe         string   // absolute
	Args        []string // after it
	Start       Start
	Needs       []string      // services that start before this one
	PreShutdown time.Duration // that Windows waits before it shuts down; 3 minutes if 0
	State       string        // the folder that the launcher alone may change
	// Unprotected accepts folders that others may change, on a file system that keeps no access lists.
	Unprotected bool
}

// check finds what no manager could make sense of, and fills the defaults.
func (s Spec) check() (Spec, error) {
	if s.PreShutdown == 0 {
		s.PreShutdown = 3 * time.Minute
	}
	if s.Start == "" {
		s.Start = Automatic
	}
	if s.Display == "" {
		s.Display = s.Name
	}
	switch s.Start {
	case Automatic, Delayed, Manual, Disabled:
	default:
		return s, fmt.Errorf("start %q: use automatic, delayed, manual or disabled", s.Start)
	}
	if s.Name == "" || strings.ContainsAny(s.Name, `/\`) || len(s.Name) > 80 {
		return s, fmt.Errorf("%q is not the name of a service", s.Name)
	}
	if !filepath.IsAbs(s.Exe) || !filepath.IsAbs(s.State) {
		return s, fmt.Errorf("%s and %s must be absolute paths", s.Exe, s.State)
	}
	for _, word := range append([]string{s.Exe}, s.Args...) {
		if strings.ContainsAny(word, "\"\n\r%\x00") {
			return s, fmt.Errorf("%q cannot stand in the command of a service", word)
		}
	}
	return s, nil
}

// command is the command line of the service. Every word is quoted, so that a space in a folder's name can
// never make another program run ("C:\Program.exe").
func (s Spec) command() string {
	words := []string{`"` + s.Exe + `"`}
	for _, a := range s.Args {
		word := `"` + a + `"`
		if strings.HasSuffix(a, `\`) { // a backslash before a quote would hide it
			word = `"` + a + `\"`
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// Result is what a step came to.
type Result string

// The results of a step.
const (
	Created  Result = "created"
	Changed  Result = "changed"
	Right    Result = "right" // already
	Removed  Result = "removed"
	Absent   Result = "absent" // nothing was there to remove
	Differs  Result = "differs"
	NotKept  Result = "not kept" // accepted, but the system does not remember it
	Warned   Result = "warning"  // right by the rules, and worth a thought
	Failed   Result = "failed"
	Accepted Result = "accepted" // set, and the system cannot tell what it has
)

// Step is one thing that was done, or looked at.
type Step struct {
	Name   string `json:"name"`
	Result Result `json:"result"`
	Was    string `json:"was,omitempty"`
	Now    string `json:"now,omitempty"`
	Err    string `json:"err,omitempty"`
}

// Bad says whether the step leaves something to be mended.
func (s Step) Bad() bool { return s.Result == Failed || s.Result == NotKept || s.Result == Differs }

func (s Step) failed(err error) Step {
	s.Result, s.Err = Failed, err.Error()
	return s
}

// exposed is a look at a folder that ended with err. That others can change it is a warning where it was accepted.
func (s Spec) exposed(step Step, err error) Step {
	step = step.failed(err)
	if s.Unprotected && errors.Is(err, ErrUnsafe) {
		step.Result = Warned
	}
	return step
}

// String is the step as a line.
func (s Step) String() string {
	text := s.Name + ": " + string(s.Result)
	switch {
	case s.Result == Changed && s.Was != "":
		text += fmt.Sprintf(" from %q to %q", s.Was, s.Now)
	case s.Result == Differs, s.Result == NotKept:
		text += fmt.Sprintf(": is %q, should be %q", s.Was, s.Now)
	case s.Now != "":
		text += " (" + s.Now + ")"
	}
	if s.Err != "" {
		text += ": " + s.Err
	}
	return text
}

// Install registers the service or mends its registration, and says step by step what it did. The service
// exists after the first step; a later step that fails is reported and leaves it usable. The error is only
// for what keeps the service from being there at all. A second Install changes nothing.
func Install(ctx context.Context, s Spec) ([]Step, error) {
	s, err := s.check()
	if err != nil {
		return nil, err
	}
	return install(ctx, s, false)
}

// Inspect compares a registration with s and changes nothing.
func Inspect(ctx context.Context, s Spec) ([]Step, error) {
	s, err := s.check()
	if err != nil {
		return nil, err
	}
	return install(ctx, s, true)
}

// Uninstall stops the service, waits for its end, and takes out all that Install registered. The state folder
// stays, but nothing outside needs it any more: where a self-update made the launcher a link into it, the file
// itself takes the link's place. A step that fails is reported and the rest is done; the error is for the right that
// is missing, and then nothing was.
func Uninstall(ctx context.Context, name, state string) ([]Step, error) {
	return uninstall(ctx, name, state)
}

// StartService starts the service and waits until it runs, or says why it ended.
func StartService(ctx context.Context, name string) error { return startService(ctx, name) }

// StopService stops the service and waits until it has.
func StopService(ctx context.Context, name string) error { return stopService(ctx, name) }

// StopAsked says whether the service manager ends the service because somebody wants that (a stop, a restart, the
// end of the machine), as opposed to starting it again after it died. Only systemd can be asked.
func StopAsked(ctx context.Context, name string) (bool, error) { return stopAsked(ctx, name) }

// Running says how the service is: one word for people, and whether it has a process.
func Running(ctx context.Context, name string) (word string, up bool, err error) {
	return serviceState(ctx, name)
}
