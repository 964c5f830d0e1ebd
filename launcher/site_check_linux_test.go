package main

import (
	"context"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/turnstone-go/turnstone/updater"
)

// condemns says whether err is evidence against the version.
func condemns(err error) bool {
	return reflect.TypeOf(err) == reflect.TypeOf(updater.Bad(errors.New("")))
}

// What keeps the version that serves from being healthy condemns no candidate, also if it ends for it and the other does
// not. Beside a healthy one its end is evidence.
func TestCandidateEndsAtItsStart(t *testing.T) {
	for _, words := range []string{"unhealthy", ""} {
		t.Run("baseline "+words, func(t *testing.T) {
			g := newGround(t, func(c *Config) { c.Health.Timeout = 20 * time.Second })
			one, two := g.release("1.0.0", words), g.release("1.1.0", "die-at-start")
			g.must(g.Serve(t.Context(), one))
			if err := g.Warm(t.Context(), two); err == nil || condemns(err) == (words == "unhealthy") {
				t.Errorf("condemned %v: %v", condemns(err), err)
			}
		})
	}
}

func TestSelfCheck(t *testing.T) {
	g := newGround(t, func(c *Config) {
		c.Health.SelfCheck = append(c.Payload.Command, "--self-check")
	})
	fit, unfit, hangs := g.release("1.0.0", ""), g.release("1.1.0", "unfit"), g.release("1.2.0", "hang")
	if err := g.SelfCheck(t.Context(), fit); err != nil || len(g.told("self-check")) != 1 {
		t.Errorf("%v; told %v", err, g.told("self-check"))
	}
	atOnce := g.SelfCheck(t.Context(), unfit)
	g.site.cfg.Health.ReadyTimeout = time.Second
	for _, tc := range []struct {
		err  error
		says []string
	}{
		{atOnce, []string{"exit", "3", "needs a newer kernel", filepath.Base(g.dir), "1.1.0"}},
		{g.SelfCheck(t.Context(), hangs), []string{"no answer within 1s"}},
	} {
		if !condemns(tc.err) {
			t.Errorf("no evidence against the version: %v", tc.err)
			continue
		}
		for _, word := range tc.says {
			if !strings.Contains(tc.err.Error(), word) {
				t.Errorf("%q does not say %q", tc.err, word)
			}
		}
	}
	if n := len(g.Running()); n != 0 {
		t.Errorf("%d versions run", n)
	}
}

// What the machine lacks says nothing about the version, and neither does a stop.
func TestSelfCheckThatCannotRun(t *testing.T) {
	g := newGround(t, func(c *Config) {
		c.Health.SelfCheck = []string{filepath.Join(c.State.Dir, "no-such-interpreter"), "{{.File}}"}
	})
	v := g.release("1.0.0", "")
	if err := g.SelfCheck(t.Context(), v); err == nil || condemns(err) || !strings.Contains(err.Error(), "health.self_check") {
		t.Errorf("%v", err)
	}
	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopped)
	if err := g.SelfCheck(ctx, v); !errors.Is(err, stopped) && !errors.Is(err, context.Canceled) || condemns(err) {
		t.Errorf("%v", err)
	}
}

// What asks after health and is not there says nothing of a version that has nobody to be compared with.
func TestProbeThatCannotRun(t *testing.T) {
	g := newGround(t, func(c *Config) {
		c.Health.Probe = "exec"
		c.Health.Command = []string{filepath.Join(c.State.Dir, "no-such-program")}
	})
	v := g.release("1.0.0", "")
	m, err := g.start(t.Context(), v)
	g.must(err)
	_, err = m.proc.Ready(t.Context())
	g.must(err)
	g.site.cfg.Health.ReadyTimeout = 500 * time.Millisecond
	if err := g.Warm(t.Context(), v); err == nil || condemns(err) || !strings.Contains(err.Error(), "health.command") {
		t.Errorf("%v", err)
	}
}
