package child

import (
	"errors"
	"os"
	"strings"
	"unicode/utf16"
	"unsafe"

	"golang.org/x/sys/windows"
)

// procThreadAttributeJobList is of Windows 10 and Server 2016 on, see UpdateProcThreadAttribute.
const procThreadAttributeJobList = 0x0002000D

// create makes the process of p suspended, and in its job from its first moment: of one that is put there afterwards
// nobody would know if the launcher ended in between, and it would hold the public sockets for ever. The functions of os
// and syscall cannot say that. It inherits what is listed and nothing else.
func create(p *Process, env []string, std [3]windows.Handle, inherited []windows.Handle, job windows.Handle) (*windows.ProcessInformation, error) {
	list, err := windows.NewProcThreadAttributeList(2)
	if err != nil {
		return nil, os.NewSyscallError("InitializeProcThreadAttributeList", err)
	}
	defer list.Delete()
	start := &windows.StartupInfoEx{ProcThreadAttributeList: list.List()}
	start.Cb, start.Flags = uint32(unsafe.Sizeof(*start)), windows.STARTF_USESTDHANDLES
	to := []*windows.Handle{&start.StdInput, &start.StdOutput, &start.StdErr}
	for i, h := range std {
		own := windows.CurrentProcess()
		if err := windows.DuplicateHandle(own, h, own, to[i], 0, true, windows.DUPLICATE_SAME_ACCESS); err != nil {
			return nil, os.NewSyscallError("DuplicateHandle", err)
		}
		defer windows.CloseHandle(*to[i])
		inherited = append(inherited, *to[i])
	}
	size := unsafe.Sizeof(job)
	err = errors.Join(
		list.Update(windows.PROC_THREAD_ATTRIBUTE_HANDLE_LIST, unsafe.Pointer(&inherited[0]), uintptr(len(inherited))*size),
		list.Update(procThreadAttributeJobList, unsafe.Pointer(&job), size),
	)
	if err != nil {
		return nil, os.NewSyscallError("UpdateProcThreadAttribute", err)
	}
	path, err := windows.UTF16PtrFromString(p.spec.Path)
	line, lerr := windows.UTF16PtrFromString(windows.ComposeCommandLine(append([]string{p.spec.Path}, p.spec.Args...)))
	dir, derr := windows.UTF16PtrFromString(p.spec.Dir)
	block, berr := environmentBlock(env)
	if err := errors.Join(err, lerr, derr, berr); err != nil {
		return nil, err
	}
	if p.spec.Dir == "" {
		dir = nil
	}
	const flags = windows.CREATE_SUSPENDED | windows.CREATE_NO_WINDOW | windows.CREATE_UNICODE_ENVIRONMENT | windows.EXTENDED_STARTUPINFO_PRESENT
	made := new(windows.ProcessInformation)
	if u := p.spec.User; u != nil {
		err = windows.CreateProcessAsUser(windows.Token(u.attr().Token), path, line, nil, nil, true, flags, block, dir, &start.StartupInfo, made)
		return made, os.NewSyscallError("CreateProcessAsUser", err)
	}
	err = windows.CreateProcess(path, line, nil, nil, true, flags, block, dir, &start.StartupInfo, made)
	return made, os.NewSyscallError("CreateProcess", err)
}

// environmentBlock is NAME=VALUE, each with a zero behind it, and one more at the end.
func environmentBlock(env []string) (*uint16, error) {
	for _, nv := range env {
		if strings.Contains(nv, "\x00") {
			return nil, windows.ERROR_INVALID_PARAMETER
		}
	}
	return &utf16.Encode([]rune(strings.Join(append(env, "", ""), "\x00")))[0], nil
}
