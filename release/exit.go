package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/turnstone-go/turnstone/manifest"
	"github.com/turnstone-go/turnstone/release/repo"
)

// The exit codes are those of the launcher where both have one; they are stable.
const (
	codeOK        = 0
	codeFailed    = 1
	codeUsage     = 2
	codeNothing   = 3
	codeVerify    = 11
	codeDownload  = 12
	codePreflight = 13
)

var reasons = map[int]string{
	codeOK:        "done",
	codeFailed:    "failed: see the message; nothing that readers see has changed unless it says so",
	codeUsage:     "usage",
	codeNothing:   "nothing to do: it is so already",
	codeVerify:    "verification failed: a signature, a digest, a date or a name is not what was signed",
	codeDownload:  "download failed: missing, cut short, too slow or unreachable",
	codePreflight: "refused: a key file, missing signatures, or a version that exists with other bytes; nothing has changed unless the message says so",
}

// exitError is an error that knows its exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &exitError{codeUsage, fmt.Errorf(format, args...)}
}

// misgiven is usage for what a rule of documents says of a thing that was given: nobody has published it yet.
func misgiven(what string, err error) error {
	return usage("%s%s", what, strings.Replace(err.Error(), manifest.ErrDocument.Error()+": ", "", 1))
}

// checkVersion is usage unless text is a version as it is written everywhere.
func checkVersion(text string) error {
	if err := manifest.CheckVersion(text); err != nil {
		return misgiven("", err)
	}
	return nil
}

func nothing(format string, args ...any) error {
	return &exitError{codeNothing, fmt.Errorf(format, args...)}
}

func refuse(format string, args ...any) error {
	return &exitError{codePreflight, fmt.Errorf(format, args...)}
}

// codeOf maps an error to its exit code: what the error says of itself first, then what kind it is.
func codeOf(err error) int {
	var e *exitError
	switch {
	case err == nil:
		return codeOK
	case errors.As(err, &e):
		return e.code
	case errors.Is(err, manifest.ErrVerify):
		return codeVerify
	case errors.Is(err, repo.ErrConflict), errors.Is(err, repo.ErrBusy), errors.Is(err, manifest.ErrPublished),
		errors.Is(err, repo.ErrCredentials), errors.Is(err, repo.ErrUnconditional):
		return codePreflight
	}
	return codeFailed
}

// exitHelp is the part of a command's help that documents its exit codes.
func exitHelp(codes ...int) string {
	var b strings.Builder
	b.WriteString("Exit codes:\n")
	for _, c := range codes {
		fmt.Fprintf(&b, "  %2d  %s\n", c, reasons[c])
	}
	return strings.TrimRight(b.String(), "\n")
}
