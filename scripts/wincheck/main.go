//go:build windows

// Command wincheck tries on a Windows machine what Turnstone expects of Windows and prints a line for each
// thing: pass or FAIL, what it is, and what was seen. It needs an administrator's terminal.
//
//	wincheck          run everything
//	wincheck -list    name the checks
//	wincheck -run X   run the checks whose name contains X, and what they need
//
// It registers itself as the service turnstone-wincheck, with the launcher's own code, makes a folder of that
// name in ProgramData and a user of that name, and takes all of it out again. It exits 1 if anything failed. docs/WINDOWS.md says which
// lines fail under Wine, and a test holds it to that.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/launcher/child"
	"github.com/turnstone-go/turnstone/launcher/host"
)

const name = "turnstone-wincheck"

// check is one thing that must be so. What it returns was seen; an error is why it is not so.
type check struct {
	name string
	what string
	run  func(context.Context, *bench) (saw string, err error)
	need bool // the others make no sense without it
}

// checks run in this order, on one service.
var checks = []check{
	{"accept-both", "two processes accept on one listener", crossed(bothAccept), false},
	{"accept-cancel", "CancelIoEx in one leaves the other's accept alone", crossed(cancelled), false},
	{"accept-killed", "a process is ended with its accept pending: nobody is refused", crossed(killed), false},
	{"accept-hung", "a process that stands still with its accept pending does not park, is ended, and the other goes on", crossed(hung), false},
	{"accept-provider", "layered providers (antivirus, VPN) leave inherited sockets alone", provider, false},
	{"share", "a repository on a share of this machine can be read", share, false},
	{"library", "a DLL beside the program is not loaded by its name", library, false},
	{"privilege", "without the rights of an administrator install is refused", privilege, false},
	{"install", "a service can be created", install, true},
	{"setting-description", "the description is kept", kept("description"), false},
	{"setting-sid", "the service SID is kept", kept("service SID"), false},
	{"setting-recovery", "the recovery actions are kept", kept("recovery"), false},
	{"setting-failures", "recovery counts after an exit code too", kept("recovery after an exit code"), false},
	{"setting-privileges", "the list of privileges is kept", kept("privileges"), false},
	{"setting-preshutdown", "the preshutdown timeout is kept", kept("preshutdown"), false},
	{"event-source", "the event source is registered", kept("event source " + name), false},
	{"folder", "the state folder belongs to administrators alone", kept("state folder"), false},
	{"account-password", "the password of a user is tried, and kept among the secrets of Windows", accountPassword, false},
	{"start", "the service starts and says so at once", start, true},
	{"session", "the service runs in session 0", session, false},
	{"account-local", "a payload runs as LocalService and can write to its data folder alone", tried("account-local"), false},
	{"account-virtual", "the same as NT SERVICE\\" + name, tried("account-virtual"), false},
	{"account-restricted", "the same with a restricted token", tried("account-restricted"), false},
	{"account-named", "the same as a user of this machine, whose password is kept", tried("account-named"), false},
	{"ctrl-c", "CTRL_C from the service reaches a program without the SDK", tried("ctrl-c"), false},
	{"holder", "who holds a file is named", holder, false},
	{"pause", "pause and continue", pause, false},
	{"interrogate", "interrogate is answered", func(_ context.Context, b *bench) (string, error) { return "", b.control(controlInterrogate) }, false},
	{"events", "its events are stored, with plain text", events, false},
	{"recovery-crash", "a service that crashes is started again", crash, false},
	{"recovery-exit", "a service that ends with an exit code is started again", exitCode, false},
	{"stop", "a stop drains with checkpoints", stop, false},
	{"junction", "a junction in the way to the state folder is refused", junction, false},
	{"hard-link", "a second name of a state file is refused", hardLink, false},
	{"open-folder", "a state folder that users may write is refused", openFolder, false},
	{"marked", "a deleted service that somebody has open is waited for", marked, false},
	{"uninstall", "nothing is left", uninstall, false},
}

func main() {
	if err := host.Harden(); err != nil {
		fmt.Fprintln(os.Stderr, "wincheck:", err)
		os.Exit(1)
	}
	if len(os.Args) > 1 && os.Args[1] == host.Verb {
		os.Exit(beService(os.Args[2:]))
	}
	if code, known := beOther(os.Args[1:]); known {
		os.Exit(code)
	}
	list := flag.Bool("list", false, "name the checks")
	only := flag.String("run", "", "run only the checks whose name contains `X`")
	flag.Parse()
	if *list {
		for _, c := range checks {
			fmt.Printf("%-20s %s\n", c.name, c.what)
		}
		return
	}
	if !runAll(*only) {
		os.Exit(1)
	}
}

// beOther is what this program does when a check has started it.
func beOther(args []string) (code int, known bool) {
	roles := map[string]func([]string) error{
		asPayload: bePayload, asVersion: func([]string) error { return beVersion() }, asUser: beUser, asSilent: beSilent, "ctrl-c": child.SendCtrlC,
	}
	if len(args) == 0 || roles[args[0]] == nil {
		return 0, false
	}
	if err := roles[args[0]](args[1:]); err != nil {
		fmt.Println(err)
		return 1, true
	}
	return 0, true
}

// bench is what the checks share.
type bench struct {
	spec  host.Spec
	steps []host.Step // of a look at the registration after install
	user  bool        // was made
}

func runAll(only string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	exe, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "wincheck:", err)
		return false
	}
	folder := filepath.Join(os.Getenv("ProgramData"), name)
	b := &bench{spec: host.Spec{
		Name: name, Description: "Checks this machine for Turnstone.", Exe: exe, Args: []string{host.Verb, folder},
		Start: host.Manual, PreShutdown: 90 * time.Second, State: folder, Unprotected: true,
	}}
	defer b.clean()
	passed, failed := 0, 0
	for _, c := range checks {
		if !c.need && !strings.Contains(c.name, only) {
			continue
		}
		saw, err := c.run(ctx, b)
		switch {
		case err == nil:
			passed++
			fmt.Printf("pass  %-20s %s%s\n", c.name, c.what, bracket(saw))
		default:
			failed++
			fmt.Printf("FAIL  %-20s %s: %v\n", c.name, c.what, err)
		}
		if err != nil && c.need {
			fmt.Println("the rest needs this one")
			break
		}
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	return failed == 0
}

func bracket(saw string) string {
	if saw == "" {
		return ""
	}
	return " (" + saw + ")"
}

// clean takes out what a failed check may have left.
func (b *bench) clean() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := host.Uninstall(ctx, name, b.spec.State)
	if err = errors.Join(err, b.removeUser(), os.RemoveAll(b.spec.State)); err != nil {
		fmt.Println("left behind:", err)
	}
}
