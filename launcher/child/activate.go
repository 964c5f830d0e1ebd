package child

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/turnstone-go/turnstone/internal/wire"
)

// ExecActivated is the body of the hidden command "exec-child PROGRAM ARGS...". It runs in the process
// that is to become the program: LISTEN_PID must be that process's own pid, which nobody knows before it
// exists. It returns only if it fails.
func ExecActivated(args []string) error {
	if len(args) == 0 {
		return errors.New("exec-child: the program is missing; this command is for the launcher's own use")
	}
	env, err := activated(os.Environ(), os.Getpid())
	if err != nil {
		return fmt.Errorf("exec-child: %w", err)
	}
	return fmt.Errorf("exec-child: run %s: %w", args[0], execProgram(args, env))
}

// SendCtrlC is the body of the hidden command "ctrl-c PID": on Windows it sends CTRL_C to every process of
// the console of that one. It must run in a process of its own, since it leaves its own console for good and
// because a service that attaches itself to another console may never return from that.
func SendCtrlC(args []string) error {
	if len(args) != 1 {
		return errors.New("ctrl-c: one process id is needed; this command is for the launcher's own use")
	}
	pid, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil {
		return fmt.Errorf("ctrl-c: %w", err)
	}
	if err := sendCtrlC(uint32(pid)); err != nil {
		return fmt.Errorf("ctrl-c %d: %w", pid, err)
	}
	return nil
}

// activated turns wire.EnvListen into the variables of sd_listen_fds(3).
func activated(environment []string, pid int) ([]string, error) {
	env := environ(environment)
	listen := ""
	for _, nv := range environment {
		if v, ok := strings.CutPrefix(nv, wire.EnvListen+"="); ok {
			listen = v
		}
	}
	if listen == "" {
		return nil, errors.New(wire.EnvListen + " names no listeners")
	}
	var names []string
	for i, part := range strings.Split(listen, ",") {
		name, fd, _ := strings.Cut(part, "=")
		if fd != strconv.Itoa(firstFD+i) {
			return nil, fmt.Errorf("%s: %q is not descriptor %d", wire.EnvListen, part, firstFD+i)
		}
		names = append(names, name)
	}
	env.set(wire.EnvListen, "")
	env.set("LISTEN_PID", strconv.Itoa(pid))
	env.set("LISTEN_FDS", strconv.Itoa(len(names)))
	env.set("LISTEN_FDNAMES", strings.Join(names, ":"))
	return env, nil
}
