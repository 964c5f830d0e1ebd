package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// schema is the version of the shape of every --json object. Fields may be added under the same number.
const schema = 1

// app is one invocation.
type app struct {
	stdout, stderr io.Writer
	dir            string
	json           bool
	passphraseFile string
	ctx            context.Context

	command string // the command that was meant, "" if none
	begun   bool   // it began: its flags and arguments were right
	answer  answer // what it has to say, perhaps beside an error
	printed bool   // its one object is out already
}

// answer is the result of a command: its fields are the JSON, text is for people.
type answer interface{ text(w io.Writer) }

// envelope is what --json prints.
type envelope struct {
	Schema  int    `json:"schema"`
	Command string `json:"command"`
	Exit    status `json:"exit"`
	Error   string `json:"error,omitempty"`
	Result  answer `json:"result,omitempty"`
}

type status struct {
	Code   int    `json:"code"`
	Reason string `json:"reason"`
}

// work is the body of a command. It may return an answer beside an error.
type work func(ctx context.Context, args []string) (answer, error)

// runE lets body answer for a cobra command. Whatever fails before it begins was a mistake in the command line.
func (a *app) runE(body work) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) (err error) {
		a.command, a.begun, a.ctx = commandName(cmd), true, cmd.Context()
		a.answer, err = body(cmd.Context(), args)
		return err
	}
}

// commandName is what was called, less the program: "add", or "keys add".
func commandName(cmd *cobra.Command) string {
	_, name, _ := strings.Cut(cmd.CommandPath(), " ")
	return name
}

// finish prints what the command had to say and returns the exit code.
func (a *app) finish(err error) int {
	name := strings.TrimSpace("release " + a.command)
	if err != nil && !a.begun {
		err = &exitError{codeUsage, fmt.Errorf("%s (see %s --help)", strings.Join(strings.Fields(err.Error()), " "), name)}
	}
	code := codeOf(err)
	if a.json {
		if a.printed || !a.begun && err == nil { // out already, or a help text
			return code
		}
		a.print(envelope{Schema: schema, Command: cmp.Or(a.command, "release"), Exit: status{code, short(code)}, Error: message(err), Result: a.answer})
		return code
	}
	if a.answer != nil {
		a.answer.text(a.stdout)
	}
	if err != nil {
		if code == codeNothing {
			name += ": " + short(code)
		}
		fmt.Fprintln(a.stderr, name+": "+err.Error())
	}
	return code
}

// print writes one JSON object on a line of its own.
func (a *app) print(e envelope) {
	data, err := json.Marshal(e)
	if err != nil {
		panic("release: internal error: " + err.Error())
	}
	_, _ = a.stdout.Write(append(data, '\n')) // there is nowhere left to report to
}

func short(code int) string {
	reason, _, _ := strings.Cut(reasons[code], ":")
	return reason
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// line prints one step for people: a word, then what it came to.
func line(w io.Writer, word, format string, args ...any) {
	fmt.Fprintf(w, "%-12s%s\n", word, fmt.Sprintf(format, args...))
}

// size prints a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}

// count prints "1 file" and "2 files".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
