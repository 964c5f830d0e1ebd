//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// initArg is the first argument of the process that becomes the first one of a machine.
const initArg = "--as-init-of-a-machine"

// runInit is that process: it puts the machine's files together, runs the program and ends with its exit
// code. With it ends everything in the machine, because the kernel kills what is left of a pid namespace.
// Without a program it stays until it is killed.
//
// All mounts are made in a mount namespace of our own. Seen from outside DIR holds plain files, so
// removing DIR can never reach anything else.
func runInit(args []string) int {
	dir, fresh, program := args[0], args[1] == "fresh", args[2:]
	if err := assemble(dir, fresh); err != nil {
		fmt.Fprintln(os.Stderr, "wine: make a machine:", err)
		return 2
	}
	if len(program) == 0 {
		return reap(-1)
	}
	code := runHere(append([]string{loader}, program...))
	if !fresh {
		// The server writes the registry when the last program has ended.
		return max(code, runHere([]string{server, "-w"}))
	}
	return code
}

// runHere runs a program of the machine's root to its end.
func runHere(argv []string) int {
	pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		fmt.Fprintln(os.Stderr, "wine:", &os.PathError{Op: "run", Path: argv[0], Err: err})
		return 2
	}
	return reap(pid)
}

// reap waits for pid and for whatever else the kernel gives to the first process of a pid namespace.
func reap(pid int) int {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.ECHILD):
			time.Sleep(100 * time.Millisecond) // a machine without a program; orphans may still come
		case err != nil:
			return 2
		case got == pid && status.Exited():
			return status.ExitStatus()
		case got == pid && status.Signaled():
			return 128 + int(status.Signal())
		}
	}
}

// own are the folders of the root that are Wine's or made here. All others are this computer's.
var own = []string{"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "lost+found", "proc", "run", "sbin", "sys", "usr", prefix[1:]}

// assemble makes the root and goes into it, keeping the working folder if it is there.
func assemble(dir string, fresh bool) error {
	wd, err := os.Getwd()
	if err != nil {
		wd = "/"
	}
	if err := mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	root := filepath.Join(dir, "root")
	if fresh {
		if root, err = overlay(dir, root); err != nil {
			return err
		}
	}
	hosts, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	for _, h := range hosts {
		if !h.IsDir() || slices.Contains(own, h.Name()) {
			continue
		}
		if err := bind("/"+h.Name(), filepath.Join(root, h.Name())); err != nil {
			return err
		}
	}
	if err := bind("/dev", filepath.Join(root, "dev")); err != nil {
		return err
	}
	if err := mount("proc", filepath.Join(root, "proc"), "proc", 0, ""); err != nil {
		return err
	}
	// Wine's server keeps its socket here. Two machines have prefixes of the same name, so each needs its own.
	sockets := filepath.Join(root, "tmp", ".wine-0")
	if err := os.Mkdir(sockets, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := mount("tmpfs", sockets, "tmpfs", 0, "mode=0700"); err != nil {
		return err
	}
	if err := syscall.Chroot(root); err != nil {
		return err
	}
	if os.Chdir(wd) != nil {
		return os.Chdir("/")
	}
	return nil
}

// overlay lays an empty folder in memory over the root; what the machine writes goes there.
func overlay(dir, lower string) (string, error) {
	over := filepath.Join(dir, "over")
	if err := mount("tmpfs", over, "tmpfs", 0, "mode=0755"); err != nil {
		return "", err
	}
	upper, work, root := filepath.Join(over, "upper"), filepath.Join(over, "work"), filepath.Join(over, "root")
	for _, d := range []string{upper, work, root} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return "", err
		}
	}
	return root, mount("overlay", root, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work)
}

func bind(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	return mount(from, to, "", syscall.MS_BIND|syscall.MS_REC, "")
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := syscall.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind+source, target, err)
	}
	return nil
}

// tool runs a tool of this computer and returns its output.
func tool(cmd *exec.Cmd) ([]byte, error) {
	out, err := cmd.Output()
	var exited *exec.ExitError
	if errors.As(err, &exited) {
		err = fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, exited.Stderr)
	}
	return out, err
}
