package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/term"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/child"
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

// hostID is a random name of this installation, made once. It places the host in a rollout and is neither
// secret nor sent anywhere.
func hostID(d durable.Disk, name string) (string, error) {
	b, err := durable.ReadFile(d, name, 100)
	if err == nil && len(b) > 0 {
		return strings.TrimSpace(string(b)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the host's id: %w", err)
	}
	id := rand.Text()
	if err := durable.WriteFile(d, name, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the host's id: %w", err)
	}
	return id, nil
}

// account is what a payload runs as; nil is the launcher's own.
func account(name string) (*child.User, error) {
	if name == "same" {
		return nil, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("payload.user: %w", err)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("payload.user: %s has no numeric ids: %w", name, err)
	}
	return &child.User{UID: uint32(uid), GID: uint32(gid), Home: u.HomeDir}, nil
}

// giveTo makes the payload's account the owner of its data folder.
func giveTo(name, dir string) error {
	u, err := account(name)
	if u == nil || err != nil {
		return err
	}
	if err := os.Chown(dir, int(u.UID), int(u.GID)); err != nil {
		return fmt.Errorf("give the data folder to %s: %w", name, err)
	}
	return nil
}
