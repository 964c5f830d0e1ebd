package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"strings"

	"golang.org/x/term"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/host"
)

// output is where a running launcher writes.
type output struct {
	log   *slog.Logger
	level *slog.LevelVar
}

// newOutput writes text to a terminal and JSON elsewhere, with the stable id of each event.
func newOutput(level slog.Level) output {
	out := output{level: new(slog.LevelVar)}
	out.level.Set(level)
	o := &slog.HandlerOptions{Level: out.level}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		out.log = slog.New(slog.NewTextHandler(os.Stderr, o))
	} else {
		out.log = slog.New(host.WithIDs(slog.NewJSONHandler(os.Stderr, o)))
	}
	return out
}

// hostForm is what a host's id may be: ours are 26 letters and digits.
var hostForm = regexp.MustCompile(`^[!-~]{1,99}$`)

// hostID is a random name of this installation, made once. It places the host in a rollout and is neither
// secret nor sent anywhere. A file that holds no name is replaced, at the cost of another place in rollouts.
func hostID(d durable.Disk, name string) (string, error) {
	b, err := durable.ReadFile(d, name, 100)
	if id := strings.TrimSpace(string(b)); err == nil && hostForm.MatchString(id) {
		return id, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, durable.ErrTooLarge) {
		return "", fmt.Errorf("read the host's id: %w", err)
	}
	id := rand.Text()
	if err := durable.WriteFile(d, name, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the host's id: %w", err)
	}
	return id, nil
}
