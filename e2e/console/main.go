//go:build windows

// Command console runs a launcher in a hidden console of its own, as a window that nobody looks at, and ends with
// its exit code. The end of standard input presses Ctrl-C in that window, by the launcher's own helper: Wine gives
// the event to the process group of the sender alone, so it must come from here.
//
//	console LAUNCHER ARGS...
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/windows"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: console LAUNCHER ARGS...")
		os.Exit(2)
	}
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "console:", err)
		os.Exit(2)
	}
	fmt.Println(cmd.Process.Pid)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // any end of it is the end
		press := exec.Command(os.Args[1], "ctrl-c", strconv.Itoa(cmd.Process.Pid))
		press.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS}
		if out, err := press.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "console: ctrl-c: %v: %s\n", err, out)
		}
	}()
	err := cmd.Wait()
	var exited *exec.ExitError
	if errors.As(err, &exited) {
		os.Exit(exited.ExitCode())
	} else if err != nil {
		os.Exit(2)
	}
}
