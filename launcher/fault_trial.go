//go:build trialfault

package main

import (
	"os"

	"github.com/turnstone-go/turnstone/launcher/self"
)

// trialFault is what a launcher that is built for tests does wrong, set with -X main.trialFault=...: "exit" or "hang" before
// main, and "exit-late" or "hang-late" after the first act.
var trialFault string

func init() {
	exe, _ := os.Executable()
	if _, _, ours := self.Find(exe); !ours || !serves(os.Args) {
		return
	}
	switch trialFault {
	case "exit-late":
		firstAct(os.Args)
		os.Exit(3)
	case "exit":
		os.Exit(3)
	case "hang":
		select {}
	case "hang-late":
		firstAct(os.Args)
		select {}
	}
}
