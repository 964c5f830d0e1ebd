package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// hookRole is in the record of a hook's process: the next launcher ends it and does not take it for a payload.
const hookRole = "before_switch"

// maxHookText bounds what of a hook's output is told when it fails.
const maxHookText = 300

var errHook = errors.New("update.before_switch")

// beforeSwitch runs the program of update.before_switch, if there is one, as the payload's account and with its data
// folder as working folder: whatever it must keep safe before another version touches it. The whole tree of its
// processes ends with it.
func (s *site) beforeSwitch(ctx context.Context, from, to journal.Version) error {
	u := s.cfg.Update
	if len(u.BeforeSwitch) == 0 {
		return nil
	}
	if err := durable.Room(s.disk, s.cfg.Payload.Data, int64(u.SpaceMB)<<20); err != nil {
		return fmt.Errorf("%w: %w", errHook, err)
	}
	begun := time.Now()
	p, err := s.startHook(ctx, from, to)
	if err != nil {
		return fmt.Errorf("%w: %w", errHook, err)
	}
	limited, cancel := context.WithTimeout(ctx, u.Timeout)
	defer cancel()
	select {
	case <-p.Done():
	case <-limited.Done():
		p.Stop(context.WithoutCancel(ctx), s.tuned().Drain.Kill)
		if ctx.Err() == nil {
			return fmt.Errorf("%w: did not end within %s, which before_switch_timeout allows", errHook, u.Timeout)
		}
		return context.Cause(ctx)
	}
	if e := p.Exit(); e.Signal != "" || e.Code != 0 {
		return fmt.Errorf("%w: %s: %s", errHook, e, strings.TrimSpace(p.Tail(maxHookText)))
	}
	s.event("hook", to, "before_switch ended well after %s", time.Since(begun).Round(time.Millisecond))
	return nil
}

func (s *site) startHook(ctx context.Context, from, to journal.Version) (*child.Process, error) {
	argv, err := renderCommand(s.cfg.Update.BeforeSwitch, s.commandData(&member{version: to}))
	if err != nil {
		return nil, err
	}
	data := s.cfg.Payload.Data
	return s.host.Start(ctx, child.Spec{
		Number: to.Number, Digest: to.Digest, Role: hookRole, Kind: child.Plain,
		Path: argv[0], Args: argv[1:], Dir: data, Data: data, User: s.user,
		Env: []string{"TURNSTONE_FROM=" + from.Number, "TURNSTONE_TO=" + to.Number},
	})
}
