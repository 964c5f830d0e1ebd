//go:build trialfault

package main

import (
	"os"
	"time"

	"github.com/turnstone-go/turnstone/launcher/self"
)

// trialFault is what a launcher that is built for tests does wrong before its main, set with -X main.trialFault=...:
// "exit" or "hang".
var trialFault string

func init() {
	exe, _ := os.Executable()
	if _, _, ours := self.Find(exe); !ours || !serves(os.Args) {
		return
	}
	switch trialFault {
	case "exit":
		os.Exit(3)
	case "hang":
		time.Sleep(24 * time.Hour) // select {} would be a deadlock, and end
	}
}
