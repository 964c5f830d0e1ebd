package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

var errNotRun = errors.New("the command cannot be started")

// askExec runs the command. Its last output is the text when it fails. What it started ends with it: a shell that is
// killed at the timeout would else leave what hung, once for each probe.
func (c Check) askExec(ctx context.Context) (string, error) {
	if len(c.Command) == 0 {
		return "", errors.New("no command to run")
	}
	out := &tail{max: maxText}
	cmd := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = c.Env
	if len(cmd.Env) == 0 { // nil would be the launcher's own environment, secrets included
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	}
	attr := syscall.SysProcAttr{}
	if c.Attr != nil {
		attr = *c.Attr
	}
	cmd.SysProcAttr, cmd.Dir = &attr, c.Dir
	// A child of the command that keeps the output open must not keep us: the pipe is then closed.
	cmd.WaitDelay = 100 * time.Millisecond
	end, err := startTree(cmd)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNotRun, err)
	}
	err = cmd.Wait()
	end()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) { // the latter only after exit code 0
		return "exit code 0", nil
	}
	if text := out.String(); text != "" {
		return "", fmt.Errorf("%w: %s", err, text)
	}
	return "", err
}

// tail keeps the last bytes written to it.
type tail struct {
	max  int
	kept []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.kept = append(t.kept, b[max(0, len(b)-t.max):]...)
	if over := len(t.kept) - t.max; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string { return string(t.kept) }
