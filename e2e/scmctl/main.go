//go:build windows

// Command scmctl does to a service what Wine's own tools cannot: it sends one control and prints what the
// service control manager says then, with checkpoint and wait hint, as one JSON object. With -watch it
// prints the state again whenever it changes, until the service has stopped.
//
//	scmctl NAME query|pause|continue|interrogate|paramchange|stop [-watch]
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

var controls = map[string]uint32{
	"query": 0, "stop": windows.SERVICE_CONTROL_STOP, "pause": windows.SERVICE_CONTROL_PAUSE, "continue": windows.SERVICE_CONTROL_CONTINUE,
	"interrogate": windows.SERVICE_CONTROL_INTERROGATE, "paramchange": windows.SERVICE_CONTROL_PARAMCHANGE,
}

// State is one line of output.
type State struct {
	State      uint32 // SERVICE_STOPPED is 1, RUNNING 4, PAUSED 7
	Checkpoint uint32
	HintMS     uint32
	PID        uint32
	Win32      uint32
	Specific   uint32
	Accepts    uint32
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "scmctl:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: scmctl NAME CONTROL [-watch]")
	}
	control, known := controls[args[1]]
	if !known {
		return fmt.Errorf("unknown control %q", args[1])
	}
	m, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return err
	}
	name, err := windows.UTF16PtrFromString(args[0])
	if err != nil {
		return err
	}
	s, err := windows.OpenService(m, name, windows.SERVICE_ALL_ACCESS)
	if err != nil {
		return fmt.Errorf("open %s: %w", args[0], err)
	}
	if control != 0 {
		var st windows.SERVICE_STATUS
		if err := windows.ControlService(s, control, &st); err != nil {
			return fmt.Errorf("%s: %w", args[1], err)
		}
	}
	return show(s, slices.Contains(args, "-watch"))
}

// show prints the state, and with watch every other state until the end, for at most two minutes.
func show(s windows.Handle, watch bool) error {
	var last State
	for range 1200 {
		st, err := query(s)
		if err != nil {
			return err
		}
		if st != last {
			if err := json.NewEncoder(os.Stdout).Encode(st); err != nil {
				return err
			}
		}
		if last = st; !watch || st.State == windows.SERVICE_STOPPED {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("did not stop")
}

func query(s windows.Handle) (State, error) {
	var t windows.SERVICE_STATUS_PROCESS
	var need uint32
	err := windows.QueryServiceStatusEx(s, windows.SC_STATUS_PROCESS_INFO, (*byte)(unsafe.Pointer(&t)), uint32(unsafe.Sizeof(t)), &need)
	return State{t.CurrentState, t.CheckPoint, t.WaitHint, t.ProcessId, t.Win32ExitCode, t.ServiceSpecificExitCode, t.ControlsAccepted}, err
}
