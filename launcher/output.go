package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/turnstone-go/turnstone/launcher/control"
)

// schema is the version of the shape of every --json object. Fields may be added under the same number.
const schema = 1

// app is one invocation of the command line.
type app struct {
	program        string // what the user called us
	beside         string // the folder of that
	stdout, stderr io.Writer
	config         string
	json           bool

	command string // the command that began, "" while the command line is still being read
	answer  answer // what it has to say, perhaps beside an error
}

// answer is the result of a command: its fields are the JSON, text is for people.
type answer interface {
	text(w io.Writer, now time.Time)
}

// said is an answer that is one sentence.
type said struct {
	Text string `json:"text"`
}

func (s said) text(w io.Writer, _ time.Time) { fmt.Fprintln(w, s.Text) }

// envelope is what --json prints, always, also beside an error.
type envelope struct {
	Schema  int    `json:"schema"`
	Command string `json:"command"`
	Exit    status `json:"exit"`
	Error   string `json:"error,omitempty"`
	Result  answer `json:"result,omitempty"`
}

type status struct {
	Code   control.Code `json:"code"`
	Reason string       `json:"reason"`
}

// work is the body of a command. It may return an answer beside an error.
type work func(ctx context.Context, args []string) (answer, error)

// do lets body answer for a cobra command. Whatever fails before it begins was a mistake in the command line.
func (a *app) do(body work) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) (err error) {
		a.command = commandName(cmd)
		a.answer, err = body(cmd.Context(), args)
		return err
	}
}

// commandName is what was called, less the program: "pin", or "history show".
func commandName(cmd *cobra.Command) string {
	_, name, _ := strings.Cut(cmd.CommandPath(), " ")
	return name
}

// finish prints what the command had to say and returns the exit code.
func (a *app) finish(err error) control.Code {
	code := codeOf(err)
	if a.json && (a.command != "" || err != nil) { // a help text stays text
		a.print(envelope{Schema: schema, Command: a.command, Exit: status{code, code.String()}, Error: message(err), Result: a.answer})
		return code
	}
	if a.answer != nil {
		a.answer.text(a.stdout, time.Now())
	}
	if err != nil && !errors.Is(err, errSaid) {
		fmt.Fprintf(a.stderr, "%s: %s\n", strings.TrimSpace(a.program+" "+a.command), err)
	}
	return code
}

// errSaid marks an outcome that the answer has told in full: only its exit code is left to give.
var errSaid = errors.New("see the answer")

// outcome is nil for OK, or an error that carries the code of a told outcome.
func outcome(code control.Code) error {
	if code == control.OK {
		return nil
	}
	return &exitError{code, errSaid}
}

func message(err error) string {
	if err == nil || errors.Is(err, errSaid) {
		return ""
	}
	return err.Error()
}

// print writes one JSON object on a line of its own.
func (a *app) print(v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic("launcher: internal error: " + err.Error())
	}
	_, _ = a.stdout.Write(append(data, '\n')) // there is nowhere left to report to
}

// terminal tells whether a person looks at w.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
