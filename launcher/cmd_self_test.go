package main

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/launcher/self"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/updater"
	"github.com/turnstone-go/turnstone/updater/fetch"
)

// Only the service counts as a start of a launcher on trial, whatever flags stand before its verb.
func TestServes(t *testing.T) {
	for _, c := range []struct {
		argv []string
		want bool
	}{
		{[]string{"launcher", "run"}, true},
		{[]string{"launcher", "--config", "x.toml", "run"}, true},
		{[]string{"launcher", "--config=run", "status"}, false},
		{[]string{"launcher", "--config", "run", "status"}, false},
		{[]string{"launcher", "--json", "run-service", "--name", "x"}, true},
		{[]string{"launcher", "reap", "run"}, false},
		{[]string{"launcher", "guard", "run"}, false},
		{[]string{"launcher"}, false},
		{nil, false},
	} {
		if got := serves(c.argv); got != c.want {
			t.Errorf("%v: %v", c.argv, got)
		}
	}
}

// A self-update that failed has the exit code of what was wrong, not of the step that noticed.
func TestExitCodesOfSelfUpdates(t *testing.T) {
	download := func(err error) error { return fmt.Errorf("launcher 2.0.0: %w", exit(control.NotDownloaded, "%w", err)) }
	for _, c := range []struct {
		err  error
		want control.Code
	}{
		{download(errors.New("connection refused")), control.NotDownloaded},
		{download(updater.Refused(fetch.ErrDigest)), control.NotVerified},
		{download(fmt.Errorf("read channel: %w", manifest.ErrExpired)), control.NotVerified},
		{download(syscall.ENOSPC), control.NotPrepared},
		{fmt.Errorf("place: %w", self.ErrRefused), control.NotVerified},
		{exit(control.NotVerified, "is no launcher"), control.NotVerified},
		{exit(control.HeldBack, "waits"), control.HeldBack},
		{errors.New("start the guard"), control.NotPrepared},
	} {
		if got := renewCode(c.err); got != c.want {
			t.Errorf("%v: exit code %d, want %d", c.err, got, c.want)
		}
	}
}
