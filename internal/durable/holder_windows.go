package durable

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// The Restart Manager knows which processes have a file open.
// https://learn.microsoft.com/windows/win32/rstmgr/using-restart-manager-with-a-secondary-installer
var (
	restartManager      = windows.NewLazySystemDLL("rstrtmgr.dll")
	rmStartSession      = restartManager.NewProc("RmStartSession")
	rmRegisterResources = restartManager.NewProc("RmRegisterResources")
	rmGetList           = restartManager.NewProc("RmGetList")
	rmEndSession        = restartManager.NewProc("RmEndSession")
)

// rmProcess is RM_PROCESS_INFO, restartmanager.h.
type rmProcess struct {
	pid     uint32
	started windows.Filetime
	name    [256]uint16 // CCH_RM_MAX_APP_NAME + 1
	service [64]uint16  // CCH_RM_MAX_SVC_NAME + 1
	kind    uint32
	status  uint32
	session uint32
	restart int32
}

const sessionKeyChars = 33 // CCH_RM_SESSION_KEY + 1

// holders names the processes that have a file open, none if that cannot be found out.
func holders(name string) []string {
	for _, p := range []*windows.LazyProc{rmStartSession, rmRegisterResources, rmGetList, rmEndSession} {
		if p.Find() != nil {
			return nil
		}
	}
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil
	}
	var session uint32
	var key [sessionKeyChars]uint16
	if code, _, _ := rmStartSession.Call(uintptr(unsafe.Pointer(&session)), 0, uintptr(unsafe.Pointer(&key[0]))); code != 0 {
		return nil
	}
	defer rmEndSession.Call(uintptr(session))
	if code, _, _ := rmRegisterResources.Call(uintptr(session), 1, uintptr(unsafe.Pointer(&path)), 0, 0, 0, 0); code != 0 {
		return nil
	}
	var list [16]rmProcess
	var need, why uint32
	n := uint32(len(list))
	code, _, _ := rmGetList.Call(uintptr(session), uintptr(unsafe.Pointer(&need)), uintptr(unsafe.Pointer(&n)), uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&why)))
	if code != 0 {
		return nil
	}
	var names []string
	for _, p := range list[:min(int(n), len(list))] {
		names = append(names, fmt.Sprintf("%s (process %d)", windows.UTF16ToString(p.name[:]), p.pid))
	}
	return names
}
