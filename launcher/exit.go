package main

import (
	"errors"
	"fmt"

	"github.com/turnstone-go/turnstone/launcher/control"
	"github.com/turnstone-go/turnstone/launcher/host"
	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/updater/bundle"
)

// exitError is an error that knows its exit code.
type exitError struct {
	code control.Code
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// exit makes an error with an exit code.
func exit(code control.Code, format string, args ...any) error {
	return &exitError{code, fmt.Errorf(format, args...)}
}

// codeOf is the exit code of an error: what it says of itself first, then what kind it is.
func codeOf(err error) control.Code {
	var own *exitError
	var api *control.Error
	var cfg *configError
	var ended *host.Ended
	switch {
	case err == nil:
		return control.OK
	case errors.As(err, &own):
		return own.code
	case errors.As(err, &api):
		return api.Code
	case errors.As(err, &ended):
		return control.Code(ended.Code)
	case errors.Is(err, host.ErrPrivilege):
		return control.NoPrivilege
	case errors.Is(err, host.ErrUnsafe), errors.Is(err, host.ErrNoManager):
		return control.NotPrepared
	case errors.Is(err, control.ErrNotRunning):
		return control.NotRunning
	case errors.Is(err, manifest.ErrVerify), errors.Is(err, bundle.ErrBundle):
		return control.NotVerified
	case errors.As(err, &cfg), errors.Is(err, errNoConfig):
		return control.Usage
	}
	return control.Internal
}

// exitHelp documents the exit codes at the end of the help.
const exitHelp = `Exit codes:
   0  done, or healthy               12  download failed
   1  internal error                 13  preflight failed
   2  usage or configuration         14  the candidate never became healthy
   3  nothing to do                  20  switched and rolled back
   4  unhealthy                      21  rollback impossible
   5  launcher not running           30  needs an administrator
  10  held back by policy
  11  verification failed`
