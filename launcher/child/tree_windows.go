package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// maxMembers bounds the list of a job's processes.
const maxMembers = 1024

var openJobObject = windows.NewLazySystemDLL("kernel32.dll").NewProc("OpenJobObjectW")

// openJob finds the job of a record; 0 if nothing of it lives.
func openJob(recordPath string) windows.Handle {
	const queryAndTerminate = 0x0004 | 0x0008 // JOB_OBJECT_QUERY, JOB_OBJECT_TERMINATE
	job, _, _ := openJobObject.Call(queryAndTerminate, 0, uintptr(unsafe.Pointer(jobName(recordPath))))
	return windows.Handle(job)
}

// members lists the processes of a job.
func members(job windows.Handle) []uint32 {
	var list struct { // JOBOBJECT_BASIC_PROCESS_ID_LIST
		assigned, listed uint32
		pids             [maxMembers]uintptr
	}
	err := windows.QueryInformationJobObject(job, windows.JobObjectBasicProcessIdList,
		uintptr(unsafe.Pointer(&list)), uint32(unsafe.Sizeof(list)), nil)
	if err != nil && !errors.Is(err, windows.ERROR_MORE_DATA) {
		return nil
	}
	var pids []uint32
	for _, pid := range list.pids[:min(list.listed, maxMembers)] {
		pids = append(pids, uint32(pid))
	}
	return pids
}

// descendants returns handles of the job's processes but h itself; the caller closes them. A member that
// ended and whose pid went to another process between the two calls is told apart by the job.
func (h *handle) descendants(recordPath string) []*handle {
	job := h.job
	if job == 0 {
		if job = openJob(recordPath); job == 0 {
			return nil
		}
		defer windows.CloseHandle(job)
	}
	var ds []*handle
	for _, pid := range members(job) {
		if int(pid) == h.pid {
			continue
		}
		d, err := openProcess(int(pid), 0)
		if err != nil || d == nil {
			continue
		}
		if !inJob(d.proc, job) {
			d.close()
			continue
		}
		ds = append(ds, d)
	}
	return ds
}

var processMemory = windows.NewLazySystemDLL("kernel32.dll").NewProc("K32GetProcessMemoryInfo")

// memory adds up what the processes of the job have committed for themselves.
func (h *handle) memory(recordPath string) (bytes int64) {
	all := h.descendants(recordPath)
	for _, d := range append(all, h) {
		var c struct { // PROCESS_MEMORY_COUNTERS_EX
			size, faults uint32
			counters     [8]uintptr
			private      uintptr
		}
		c.size = uint32(unsafe.Sizeof(c))
		if ok, _, _ := processMemory.Call(uintptr(d.proc), uintptr(unsafe.Pointer(&c)), uintptr(c.size)); ok != 0 {
			bytes += int64(c.private)
		}
	}
	for _, d := range all {
		d.close()
	}
	return bytes
}

var isProcessInJob = windows.NewLazySystemDLL("kernel32.dll").NewProc("IsProcessInJob")

func inJob(proc, job windows.Handle) bool {
	var in int32
	ok, _, _ := isProcessInJob.Call(uintptr(proc), uintptr(job), uintptr(unsafe.Pointer(&in)))
	return ok != 0 && in != 0
}

// terminate sends CTRL_C to the payload's hidden console, which its descendants share unless they made one of
// their own. CTRL_BREAK would reach single process groups, but arrives only from within the same console, and
// sending either means to leave one's own console: so a helper process does it. Whoever does not hear it is
// ended with the grace.
func (h *handle) terminate(_ []*handle, command []string) {
	ctx, cancel := context.WithTimeout(context.Background(), ctrlCLimit)
	defer cancel()
	args := append(slices.Clone(command[1:]), strconv.Itoa(h.pid))
	helper := exec.CommandContext(ctx, command[0], args...)
	helper.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.DETACHED_PROCESS}
	_ = helper.Run() // the program may have ended; what hears nothing is killed
}

// ctrlCLimit bounds the helper: attaching to the console of a process that is just ending may hang.
const ctrlCLimit = 3 * time.Second

var (
	attachConsole         = windows.NewLazySystemDLL("kernel32.dll").NewProc("AttachConsole")
	freeConsole           = windows.NewLazySystemDLL("kernel32.dll").NewProc("FreeConsole")
	setConsoleCtrlHandler = windows.NewLazySystemDLL("kernel32.dll").NewProc("SetConsoleCtrlHandler")
)

// sendCtrlC goes to the console of pid and sends CTRL_C to all that are there, this process left out.
func sendCtrlC(pid uint32) error {
	_, _, _ = freeConsole.Call() // fails if there is none, as it should be
	if ok, _, err := attachConsole.Call(uintptr(pid)); ok == 0 {
		return os.NewSyscallError("AttachConsole", err)
	}
	if ok, _, err := setConsoleCtrlHandler.Call(0, 1); ok == 0 {
		return os.NewSyscallError("SetConsoleCtrlHandler", err)
	}
	return os.NewSyscallError("GenerateConsoleCtrlEvent", windows.GenerateConsoleCtrlEvent(windows.CTRL_C_EVENT, 0))
}

// endTree kills what a record's job still holds and waits until it is empty.
func endTree(ctx context.Context, recordPath string) error {
	job := openJob(recordPath)
	if job == 0 {
		return nil
	}
	defer windows.CloseHandle(job)
	err := windows.TerminateJobObject(job, 1)
	for _, pid := range members(job) {
		if d, oerr := openProcess(int(pid), 0); oerr == nil && d != nil {
			d.waitFor(ctx, killLimit)
			d.close()
		}
	}
	if left := len(members(job)); left > 0 {
		return fmt.Errorf("%d processes survive the end of their job: %w", left, errors.Join(err, ctx.Err()))
	}
	return nil
}

// endStrays finds none: a job without a record has no name to be found by.
func endStrays(ctx context.Context, dir string, known map[string]bool) error { return nil }
