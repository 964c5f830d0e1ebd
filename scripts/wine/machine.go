//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The machine's first process ends with the thread that made it (Pdeathsig), so that thread must stay.
func init() { runtime.LockOSThread() }

// machine is a command that makes the namespaces and runs args in them as Wine sees it: see runInit. With
// keep its changes stay on disk, which is how the first prefix is made.
func machine(ctx context.Context, dir string, keep bool, args ...string) *exec.Cmd {
	mode := "fresh"
	if keep {
		mode = "keep"
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{initArg, dir, mode}, args...)...)
	cmd.Env = environment()
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	cmd.SysProcAttr = attr
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// prefix is where a machine has its registry and its C:, inside the root.
const prefix = "/wine"

// environment is what the Windows program and Wine itself see. Of ours only what tests are told by.
func environment() []string {
	env := []string{
		"HOME=/tmp", "PATH=/usr/lib/wine", "LANG=C",
		"WINESERVER=" + server, "WINELOADER=" + loader, "WINEPREFIX=" + prefix, // the default server is a shell script
		"WINEDEBUG=" + or(os.Getenv("WINEDEBUG"), "-all"), "WINEDLLOVERRIDES=mscoree,mshtml,winemenubuilder.exe=",
	}
	for _, nv := range os.Environ() {
		for _, prefix := range []string{"GO", "TURNSTONE_", "EXAMPLE_", "LAUNCHER_", "TS_"} {
			if strings.HasPrefix(nv, prefix) {
				env = append(env, nv)
			}
		}
	}
	return env
}

const (
	loader = "/usr/lib/wine/wine64"
	server = "/usr/lib/wine/wineserver64"
)

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// boot holds a machine until standard input ends. It prints "ready" when programs can be run there.
func boot(ctx context.Context, dir, state string) error {
	if err := setup(ctx, dir); err != nil {
		return err
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(state, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := machine(ctx, dir, false) // no program: the first process just stays
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // any end of it is the end
		cancel()
	}()
	pid := strconv.Itoa(cmd.Process.Pid)
	if err := os.WriteFile(filepath.Join(state, "pid"), []byte(pid), 0o600); err != nil {
		return err
	}
	up := make(chan error, 1)
	go func() { up <- awake(ctx, state, log) }()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-up:
		if err == nil {
			fmt.Println("ready")
			err = <-ended
		}
	case err = <-ended:
	}
	if ctx.Err() != nil {
		return nil // as it was told to
	}
	return errors.Join(errors.New("the machine ended"), err)
}

// reset ends every program of a machine at once, as a power cut does, except that the registry is written first, and
// starts Windows again.
func reset(ctx context.Context, state string) error {
	for _, how := range []string{"-k", "-w"} { // end, and wait for the end
		cmd, err := enter(ctx, state, server, how)
		if err != nil {
			return err
		}
		if out, err := cmd.CombinedOutput(); err != nil && how == "-w" {
			return fmt.Errorf("end Windows: %w: %s", err, out)
		}
	}
	log, err := os.OpenFile(filepath.Join(state, "log"), os.O_APPEND|os.O_WRONLY, 0) // the services keep it open
	if err != nil {
		return err
	}
	defer log.Close()
	return awake(ctx, state, log)
}

// awake waits until the machine has started its services.
func awake(ctx context.Context, state string, log *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var err error
	for range 100 {
		var cmd *exec.Cmd
		if !assembled(state) {
			err = errors.New("its files are not together yet")
		} else if cmd, err = enter(ctx, state, loader, "wineboot"); err == nil {
			cmd.Stdout, cmd.Stderr = log, log
			if err = cmd.Run(); err == nil {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("start Windows: %w: %w", ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("start Windows: %w", err)
}

// assembled tells whether the first process of the machine has gone into its root.
func assembled(state string) bool {
	pid, err := os.ReadFile(filepath.Join(state, "pid"))
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join("/proc", string(pid), "root", prefix))
	return err == nil
}

// enter is a command that runs args in the machine of state. Ending it ends the program, not the machine.
func enter(ctx context.Context, state string, args ...string) (*exec.Cmd, error) {
	pid, err := os.ReadFile(filepath.Join(state, "pid"))
	if err != nil {
		return nil, fmt.Errorf("%s holds no machine: %w; start one with boot", state, err)
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return nil, err
	}
	wd, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	opts := []string{"--target", string(pid), "--mount", "--pid", "--root", "--wdns=" + wd}
	if os.Geteuid() != 0 {
		opts = append(opts, "--user", "--preserve-credentials")
	}
	opts = append(append(opts, "--"), args...)
	cmd := exec.CommandContext(ctx, nsenter, opts...)
	cmd.Env = environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // nsenter waits for its child
	cmd.WaitDelay = 5 * time.Second
	return cmd, nil
}
