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

// checkDemo holds the demo to its promise: traffic flowed, two bad versions were rolled back, nothing was
// lost, and 1.1.0 serves.
func checkDemo(out []byte) error {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	var r demoResult
	if err := json.Unmarshal(lines[len(lines)-1], &r); err != nil {
		return fmt.Errorf("last line of the demo: %w", err)
	}
	if r.Refused+r.Failed+r.Retryable != 0 {
		return fmt.Errorf("lost requests: %+v", r)
	}
	if r.Requests < 1000 || r.Switches < 1 || r.Rollbacks != 2 || r.Serving != "1.1.0" {
		return fmt.Errorf("the demo did not do its job: %+v", r)
	}
	return nil
}
