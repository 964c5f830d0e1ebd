package probe

import (
	"os/exec"
	"syscall"
)

// startTree starts cmd in a process group of its own. Cancelling it kills the group, and end what is left of it when
// the command has ended: the number of a group is not given away while it has a member.
func startTree(cmd *exec.Cmd) (end func(), err error) {
	cmd.SysProcAttr.Setpgid = true
	kill := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = kill
	return func() { _ = kill() }, cmd.Start() // usually nobody is left
}
