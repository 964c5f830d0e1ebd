package main

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// demoResult is the last line of the demo.
type demoResult struct {
	Requests, Refused, Failed, Retryable int
	CutByCrash                           int `json:"cut_by_crash"`
	Switches, Rollbacks                  int
	Serving                              string
}

// lastWords are what the demo has to tell of the versions that failed: what the one that died said last, and how the
// other one answered.
var lastWords = []string{
	"last output of 1.2.0", "example: exit: the fault of this release, exit code 1",
	"last probes of 1.3.0", "health-fail: the fault of this release",
}

// checkDemo holds the demo to its promise: traffic flowed, it was switched three times, two bad versions were rolled
// back and left their evidence in the story, nothing was lost, and 1.1.0 serves.
func checkDemo(out, story []byte) error {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	var r demoResult
	if err := json.Unmarshal(lines[len(lines)-1], &r); err != nil {
		return fmt.Errorf("last line of the demo: %w", err)
	}
	if r.Refused+r.Failed+r.Retryable != 0 {
		return fmt.Errorf("lost requests: %+v", r)
	}
	if r.Requests < 1000 || r.Switches != 3 || r.Rollbacks != 2 || r.Serving != "1.1.0" {
		return fmt.Errorf("the demo did not do its job: %+v", r)
	}
	for _, words := range lastWords {
		if !bytes.Contains(story, []byte(words)) {
			return fmt.Errorf("the demo does not tell %q", words)
		}
	}
	return nil
}
