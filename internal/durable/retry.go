package durable

import "time"

// On Windows an open, rename or removal fails for a moment while a virus scanner or an indexer looks at a
// fresh file (golang.org/issue/25965, and cmd/internal/robustio for the same cure). Elsewhere nothing is
// retried. A real refusal costs this much patience before it is reported.
const (
	openPatience   = 1 * time.Second
	changePatience = 10 * time.Second
)

// retry repeats op while its error is a passing one, for at most the given time.
func retry(limit time.Duration, passing func(error) bool, op func() error) error {
	deadline := time.Now().Add(limit)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		err := op()
		if err == nil || !passing(err) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause)
	}
}
