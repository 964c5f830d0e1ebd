package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/turnstone-go/turnstone/internal/wire"
	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/probe"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/journal"
)

// SelfCheck runs health.self_check over the bytes of v, as the payload's account and with its environment, but
// with no socket, port or wire: it takes no part in serving. It must end with exit code 0 within ready_timeout.
func (s *site) SelfCheck(ctx context.Context, v journal.Version) error {
	h := s.tuned().Health
	if len(h.SelfCheck) == 0 {
		return nil
	}
	release, err := s.verified(ctx, v)
	if err != nil {
		return err
	}
	defer release()
	check, err := s.selfCheck(h, v)
	if err != nil {
		return err
	}
	r := check.Once(ctx)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case r.Mute:
		return fmt.Errorf("run %s, which health.self_check names: %s", check.Command[0], r.Text)
	case !r.OK:
		return updater.Bad(errors.New(r.Text))
	}
	s.event("self-check", v, "checked itself in %s", r.Took.Round(100*time.Microsecond))
	return nil
}

func (s *site) selfCheck(h HealthConfig, v journal.Version) (probe.Check, error) {
	data := s.commandData(&member{version: v})
	argv, err := renderCommand(h.SelfCheck, data)
	if err != nil {
		return probe.Check{}, fmt.Errorf("health.self_check: %w", err)
	}
	env, err := s.variables(data)
	if err != nil {
		return probe.Check{}, err
	}
	env = append(env, wire.EnvVersion+"="+v.Number, wire.EnvData+"="+data.Data)
	return probe.Check{Kind: probe.Exec, Command: argv, Env: child.Environment(s.user, env), Dir: data.Data,
		Attr: s.user.Attr(), Timeout: h.ReadyTimeout}, nil
}
