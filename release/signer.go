package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/manifest"
)

// The bounds of one call of a signing command. A minute is for the person who has to touch a device.
const (
	execPrefix   = "exec:"
	execTime     = time.Minute
	execLinger   = 2 * time.Second // for children that keep its output open
	execOutBytes = 4 << 10
	ed25519Bytes = 64
)

// execSigner is a key that a command signs with: a key service, a security module, a smart card. The command gets
// the bytes to be signed on its standard input and writes the 64 bytes of the ed25519 signature, raw or in
// base64, on its standard output. What it writes is verified with the public key before it is used.
type execSigner struct {
	ctx    context.Context
	name   string
	public manifest.PublicKey
	argv   []string
	limit  time.Duration
}

// errElsewhere is a signing command that is not on this machine: the key is elsewhere, as a file may be.
var errElsewhere = errors.New("the command is not on this machine")

func (s execSigner) Public() manifest.PublicKey { return s.public }

func (s execSigner) Sign(message []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.limit)
	defer cancel()
	out, errs := capped{limit: execOutBytes}, capped{limit: execOutBytes, drop: true}
	cmd := exec.CommandContext(ctx, s.argv[0], s.argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(message), &out, &errs
	cmd.Env, cmd.WaitDelay = withoutPassphrases(os.Environ()), execLinger
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("key %s: %w: %s", s.name, errElsewhere, s.argv[0])
	case ctx.Err() == context.DeadlineExceeded:
		return nil, refuse("key %s: %s gave no signature within %v", s.name, s.argv[0], s.limit)
	case out.full:
		return nil, refuse("key %s: %s wrote more than %s: it shall write the signature and nothing else", s.name, s.argv[0], size(execOutBytes))
	case err != nil:
		return nil, refuse("key %s: %s: %w%s", s.name, s.argv[0], err, evidence(errs.kept))
	}
	signature, err := parseSignature(out.kept)
	if err != nil {
		return nil, refuse("key %s: %s: %w%s", s.name, s.argv[0], err, evidence(errs.kept))
	}
	return signature, nil
}

// parseSignature reads 64 bytes, as they are or in base64.
func parseSignature(out []byte) ([]byte, error) {
	if len(out) == ed25519Bytes {
		return out, nil
	}
	text := strings.TrimSpace(string(out))
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding} {
		if b, err := encoding.DecodeString(text); err == nil && len(b) == ed25519Bytes {
			return b, nil
		}
	}
	return nil, fmt.Errorf("it wrote %d bytes that are no signature: 64 bytes, or their base64, are expected on its standard output", len(out))
}

// evidence is what a command said on its standard error, on one line and printable.
func evidence(out []byte) string {
	text := strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(out), "?"))), " ")
	if text == "" {
		return ""
	}
	return ": " + text
}

// capped keeps the first bytes of an output and then refuses more, or drops it. It has no other method than Write:
// io.Copy would read past the limit with the ReadFrom of an embedded bytes.Buffer.
type capped struct {
	kept  []byte
	limit int
	drop  bool
	full  bool
}

var errFull = errors.New("too much output")

func (c *capped) Write(p []byte) (int, error) {
	room := min(len(p), c.limit-len(c.kept))
	c.kept = append(c.kept, p[:room]...)
	if room == len(p) {
		return len(p), nil
	}
	c.full = true
	if c.drop {
		return len(p), nil
	}
	return room, errFull
}

// withoutPassphrases is the environment less what opens our own keys.
func withoutPassphrases(env []string) []string {
	var kept []string
	for _, v := range env {
		if !strings.HasPrefix(strings.ToUpper(v), passphraseEnv) && !strings.HasPrefix(strings.ToUpper(v), newPassphraseEnv) {
			kept = append(kept, v)
		}
	}
	return kept
}

// parseExec splits exec:COMMAND ARGS at blanks. Double quotes hold a part with blanks together, for paths on
// Windows; there is no shell, and nothing else is special.
func parseExec(text string) ([]string, error) {
	rest, is := strings.CutPrefix(text, execPrefix)
	if !is {
		return nil, usage("signer %q: write it as exec:COMMAND ARGS", text)
	}
	var argv []string
	var part strings.Builder
	quoted, begun := false, false
	for _, r := range rest {
		switch {
		case r == '"':
			quoted, begun = !quoted, true
		case r == ' ' && !quoted:
			if begun {
				argv = append(argv, part.String())
			}
			part.Reset()
			begun = false
		default:
			part.WriteRune(r)
			begun = true
		}
	}
	if begun {
		argv = append(argv, part.String())
	}
	if quoted || len(argv) == 0 || argv[0] == "" {
		return nil, usage("signer %q: write it as exec:COMMAND ARGS, with both quotes around a part that has blanks", text)
	}
	return argv, nil
}
