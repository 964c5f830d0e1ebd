package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// CommandData is what a command line, or the value of an environment variable, may name in {{ }}.
type CommandData struct {
	Exe   string            // the version's artifact, as a program to execute
	File  string            // the same path, to hand to an interpreter: ["python3", "{{.File}}"]
	Dir   string            // the version's folder in the store
	Data  string            // the payload's data folder
	Port  string            // private port of the first listener, "" in handoff mode
	Ports map[string]string // private ports by listener name; a template says {{.PortOf "admin"}}
}

// PortOf is the private port of a listener.
func (d CommandData) PortOf(name string) (string, error) {
	port, ok := d.Ports[name]
	if !ok {
		return "", fmt.Errorf("no listener is named %q", name)
	}
	return port, nil
}

// renderCommand fills in a command line. Each word stays one word: there is no shell.
func renderCommand(command []string, data CommandData) ([]string, error) {
	words := make([]string, len(command))
	for i, w := range command {
		s, err := render(w, data)
		if err != nil {
			return nil, fmt.Errorf("word %d: %w", i+1, err)
		}
		words[i] = s
	}
	return words, nil
}

// render fills in one word. text/template could do the same, and brings 2 MiB into the binary: with it the linker
// cannot leave out a method that nobody calls.
func render(word string, data CommandData) (string, error) {
	var b strings.Builder
	for {
		text, rest, found := strings.Cut(word, "{{")
		b.WriteString(text)
		if !found {
			return b.String(), nil
		}
		name, rest, closed := strings.Cut(rest, "}}")
		if !closed {
			return "", errors.New("not a template: {{ without }}")
		}
		value, err := data.value(strings.TrimSpace(name))
		if err != nil {
			return "", fmt.Errorf("not a template: %w", err)
		}
		b.WriteString(value)
		word = rest
	}
}

// value is what stands for a name between the braces.
func (d CommandData) value(name string) (string, error) {
	switch name {
	case ".Exe":
		return d.Exe, nil
	case ".File":
		return d.File, nil
	case ".Dir":
		return d.Dir, nil
	case ".Data":
		return d.Data, nil
	case ".Port":
		return d.Port, nil
	}
	if arg, ok := strings.CutPrefix(name, ".PortOf"); ok {
		listener, err := strconv.Unquote(strings.TrimSpace(arg))
		if err != nil {
			return "", errors.New(`PortOf needs the name of a listener in quotes: {{.PortOf "http"}}`)
		}
		return d.PortOf(listener)
	}
	return "", fmt.Errorf("there is no %q", name)
}
