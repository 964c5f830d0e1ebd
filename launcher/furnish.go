package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/child"
)

// walk is what the mode of the state folder must allow: everything in it is the launcher's alone, except that a payload
// with an account of its own must be able to walk to its program, its socket and its data.
func (c Config) walk() fs.FileMode {
	if c.Payload.User == child.Same {
		return 0o700
	}
	return 0o711
}

// furnished says whether the folders of a process are there, and its account can walk to them.
func (c Config) furnished(d durable.Disk) bool {
	_, err := d.Lstat(c.Payload.Data)
	return c.open(d) && !errors.Is(err, fs.ErrNotExist)
}

func (c Config) open(d durable.Disk) bool {
	info, err := d.Lstat(c.State.Dir)
	return err == nil && info.Mode()&c.walk() == c.walk()
}

// furnish makes the folders of a process, whatever the umask.
func (c Config) furnish(d durable.Disk) error {
	if err := durable.MkdirAll(d, c.State.Dir, c.walk()); err != nil {
		return fmt.Errorf("make the state folder: %w", err)
	}
	if !c.open(d) {
		if err := d.Chmod(c.State.Dir, c.walk()); err != nil {
			return fmt.Errorf("let the payload walk through the state folder: %w", err)
		}
	}
	if err := durable.MkdirAll(d, c.Payload.Data, 0o750); err != nil {
		return fmt.Errorf("make the payload's data folder: %w", err)
	}
	return nil
}

// furnish makes again what somebody cleared away or closed while the launcher runs: else what serves could not be
// started after its end.
func (s *site) furnish() error {
	if s.cfg.furnished(s.disk) {
		return nil
	}
	s.log.Warn("somebody removed or closed a folder of the payload; it is made again", "state", s.cfg.State.Dir, "data", s.cfg.Payload.Data)
	if err := s.cfg.furnish(s.disk); err != nil {
		return err
	}
	return s.user.Give(s.cfg.Payload.Data)
}
