package probe

import (
	"fmt"
	"os"
	"os/exec"
	"unsafe"

	"golang.org/x/sys/windows"
)

var resumeProcess = windows.NewLazySystemDLL("ntdll.dll").NewProc("NtResumeProcess")

// startTree starts cmd in a job of its own, which ends with its last handle, and so with the launcher too. The command
// is let go when it is in the job, so that nothing it starts is outside.
func startTree(cmd *exec.Cmd) (end func(), err error) {
	job, err := endingJob()
	if err != nil {
		return nil, err
	}
	end = func() { _ = windows.CloseHandle(job) } // ends what is left in it
	cmd.SysProcAttr.CreationFlags |= windows.CREATE_SUSPENDED
	cmd.Cancel = func() error { return windows.TerminateJobObject(job, 1) }
	if err := cmd.Start(); err != nil {
		end()
		return nil, err
	}
	herr := cmd.Process.WithHandle(func(h uintptr) {
		if err = windows.AssignProcessToJobObject(job, windows.Handle(h)); err != nil {
			err = os.NewSyscallError("AssignProcessToJobObject", err)
		} else if status, _, _ := resumeProcess.Call(h); status != 0 {
			err = fmt.Errorf("NtResumeProcess: status %#x", uint32(status))
		}
	})
	if err == nil {
		err = herr
	}
	if err != nil {
		_ = cmd.Process.Kill() // it has not run yet
		_ = cmd.Wait()         // which says that it was killed
		end()
		return nil, err
	}
	return end, nil
}

// endingJob makes a job whose processes end when its last handle is closed.
func endingJob() (windows.Handle, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0, os.NewSyscallError("CreateJobObject", err)
	}
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits))); err != nil {
		_ = windows.CloseHandle(job) // empty
		return 0, os.NewSyscallError("SetInformationJobObject", err)
	}
	return job, nil
}
