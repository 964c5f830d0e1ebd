package payload

import "golang.org/x/sys/windows"

// ignoreLogoff keeps somebody's logging off (CTRL_LOGOFF_EVENT), of which every console process of a service hears, from
// being what Go calls SIGTERM, a drain (golang.org/issue/40167, learn.microsoft.com/windows/console/handlerroutine).
// The handler that was registered last is asked first, and 1 ends the asking.
func ignoreLogoff() {
	handler := windows.NewCallback(func(event uint32) uintptr {
		if event == windows.CTRL_LOGOFF_EVENT {
			return 1
		}
		return 0
	})
	_, _, _ = windows.NewLazySystemDLL("kernel32.dll").NewProc("SetConsoleCtrlHandler").Call(handler, 1) // without it all is as Go has it
}
