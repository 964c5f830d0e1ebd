package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/turnstone-go/turnstone/internal/durable"
)

const (
	passphraseEnv    = "RELEASE_PASSPHRASE"
	newPassphraseEnv = "RELEASE_NEW_PASSPHRASE"
	passphraseLimit  = 1 << 10
)

// passphrases finds what opens encrypted key files: in a file, in the environment, or by asking the person at the
// terminal. Nothing of it is ever printed, saved or given to a command.
type passphrases struct {
	disk   durable.Disk
	file   string // --passphrase-file
	flag   string // its name
	env    string
	stderr io.Writer
	asked  map[string][]byte // by name, so that one invocation asks once
}

func (a *app) passphrases() *passphrases {
	return &passphrases{disk: durable.OS(), file: a.passphraseFile, flag: "--passphrase-file", env: passphraseEnv, stderr: a.stderr, asked: map[string][]byte{}}
}

// of returns the passphrase of a key: from the file, $RELEASE_PASSPHRASE_NAME, $RELEASE_PASSPHRASE, or a prompt.
func (p *passphrases) of(name string) ([]byte, error) {
	if found, err := p.given(name); err != nil || found != nil {
		return found, err
	}
	if known := p.asked[name]; known != nil {
		return known, nil
	}
	typed, err := p.prompt("passphrase of " + name)
	if err != nil {
		return nil, err
	}
	p.asked[name] = typed
	return typed, nil
}

// fresh returns a passphrase that is to be set; a person types it twice.
func (p *passphrases) fresh(name string) ([]byte, error) {
	if found, err := p.given(name); err != nil || found != nil {
		return found, err
	}
	if known := p.asked[""]; known != nil {
		return known, nil
	}
	first, err := p.prompt("new passphrase")
	if err != nil {
		return nil, err
	}
	second, err := p.prompt("the same again")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, refuse("the two passphrases differ: nothing was changed")
	}
	p.asked[""] = first
	return first, nil
}

// given looks where no person is needed; it returns nil if nothing is there.
func (p *passphrases) given(name string) ([]byte, error) {
	if p.file != "" {
		if err := checkMode(p.disk, p.file); err != nil {
			return nil, err
		}
		data, err := durable.ReadFile(p.disk, p.file, passphraseLimit)
		if err != nil {
			return nil, refuse("%s: %w", p.flag, err)
		}
		return notEmpty(bytes.TrimRight(data, "\r\n"), p.flag)
	}
	own := p.env + "_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	for _, variable := range []string{own, p.env} {
		if text, there := os.LookupEnv(variable); there {
			return notEmpty([]byte(text), "$"+variable)
		}
	}
	return nil, nil
}

func notEmpty(passphrase []byte, where string) ([]byte, error) {
	if len(passphrase) == 0 {
		return nil, refuse("%s is empty: put the passphrase there", where)
	}
	return passphrase, nil
}

// prompt asks on the terminal, without echo.
func (p *passphrases) prompt(what string) ([]byte, error) {
	terminal := int(os.Stdin.Fd())
	if !term.IsTerminal(terminal) {
		return nil, refuse("%s: give %s FILE or $%s, or run this on a terminal", what, p.flag, p.env)
	}
	fmt.Fprintf(p.stderr, "%s: ", what)
	typed, err := term.ReadPassword(terminal)
	fmt.Fprintln(p.stderr)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the passphrase: %w", err)
	}
	return notEmpty(typed, "the passphrase")
}
