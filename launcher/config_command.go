package main

import (
	"fmt"
	"strings"
	"text/template"
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

func render(word string, data CommandData) (string, error) {
	t, err := template.New("").Option("missingkey=error").Parse(word)
	if err != nil {
		return "", fmt.Errorf("not a template: %s", templateText(err))
	}
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return "", fmt.Errorf("not a template: %s", templateText(err))
	}
	return b.String(), nil
}

// templateText is the telling part of a template error; the place in front of it is ours, not the file's.
func templateText(err error) string {
	text := err.Error()
	for _, mark := range []string{">: ", ":1: "} {
		if i := strings.LastIndex(text, mark); i >= 0 {
			return text[i+len(mark):]
		}
	}
	return text
}
