package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/host"
)

// passwordOf is what install keeps for the payload of a configuration.
func passwordOf(cfg Config) child.Password {
	return child.Password{Account: cfg.Payload.User, Service: cfg.Product}
}

// keeper is a child.Password, or the fake of a test that knows what Wine lacks.
type keeper interface {
	Needed() bool
	Allow() (changed bool, err error)
	Keep(password []byte) (was string, changed bool, err error)
	Check() (since string, err error)
	Forget() (was string, err error)
}

// readPassword reads the one line of a file that nobody else may read; nil if none is named. The caller zeroes it.
func readPassword(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	data, err := readSecret(file)
	if err != nil {
		return nil, fmt.Errorf("--payload-password-file: %w", err)
	}
	line := bytes.TrimRight(data, "\r\n")
	if len(line) == 0 || len(line) > passwordBytes || bytes.ContainsAny(line, "\r\n\x00\ufeff") || !utf8.Valid(line) {
		clear(data)
		return nil, fmt.Errorf("--payload-password-file: %s does not hold one line with a password, in UTF-8 without a byte order mark", file)
	}
	return line, nil
}

// passwordBytes is more than the 256 characters that Windows takes.
const passwordBytes = 1 << 10

// askPassword asks the person at the terminal, without echo; nil, if there is none, or nothing was typed. What the
// terminal's own buffers held of it is gone with this process.
func askPassword(account string, prompt io.Writer) ([]byte, error) {
	terminal := int(os.Stdin.Fd())
	if !term.IsTerminal(terminal) {
		return nil, nil
	}
	fmt.Fprintf(prompt, "password of %s (nothing: the one that is kept): ", account)
	typed, err := term.ReadPassword(terminal)
	fmt.Fprintln(prompt)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the password: %w", err)
	}
	return typed, nil
}

// passwordSteps lets the payload's account log on with a password that was given or typed, or else looks whether it
// does with the one that is kept. For every other sort of account what is kept is taken out.
func passwordSteps(k keeper, given []byte, ask func() ([]byte, error)) []host.Step {
	if !k.Needed() {
		return forgetSteps(k)
	}
	right := host.Step{Name: "right to log on as a service", Result: host.Right}
	if changed, err := k.Allow(); err != nil {
		right.Result, right.Err = host.Failed, err.Error()
	} else if changed {
		right.Result = host.Created
	}
	return []host.Step{right, passwordStep(k, given, ask)}
}

// passwordName is the step of that, in every command.
const passwordName = "password of the payload's account"

func passwordStep(k keeper, given []byte, ask func() ([]byte, error)) host.Step {
	if given == nil {
		typed, err := ask()
		if err != nil {
			return host.Step{Name: passwordName, Result: host.Failed, Err: err.Error()}
		}
		defer clear(typed)
		given = typed
	}
	if len(given) == 0 {
		return keptStep(k)
	}
	step := host.Step{Name: passwordName, Result: host.Right}
	was, changed, err := k.Keep(given)
	switch {
	case err != nil:
		step.Result, step.Err = host.Failed, err.Error()
	case changed && was == "":
		step.Result = host.Created
	case changed:
		step.Result, step.Now = host.Changed, "before: "+was
	}
	return step
}

// keptStep tries the password that is kept.
func keptStep(k keeper) host.Step {
	since, err := k.Check()
	if err != nil {
		return host.Step{Name: passwordName, Result: host.Failed, Err: err.Error()}
	}
	return host.Step{Name: passwordName, Result: host.Right, Now: "since " + since}
}

// forgetSteps takes out what is kept for the service; there is no step where nothing is.
func forgetSteps(k keeper) []host.Step {
	was, err := k.Forget()
	step := host.Step{Name: passwordName, Result: host.Removed, Now: was}
	if err != nil {
		step.Result, step.Err = host.Failed, err.Error()
	} else if was == "" {
		return nil
	}
	return []host.Step{step}
}
