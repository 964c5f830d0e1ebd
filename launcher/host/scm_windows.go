package host

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
	"unsafe"

	"golang.org/x/sys/windows"
)

// realSCM is the service control manager of this machine. It asks for the rights that each call needs and
// no more, so that looking at a service needs no administrator.
func realSCM() scm { return scm{open: openService, create: createService} }

// service is an open handle.
type service struct {
	name   string
	handle windows.Handle
}

const serviceAccess = windows.SERVICE_QUERY_CONFIG | windows.SERVICE_QUERY_STATUS | windows.SERVICE_START | windows.SERVICE_STOP |
	windows.SERVICE_CHANGE_CONFIG | windows.SERVICE_PAUSE_CONTINUE | windows.DELETE

func openService(name string) (*entry, error) {
	m, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return nil, explain("open the service control manager", err)
	}
	defer windows.CloseServiceHandle(m)
	text, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	h, err := windows.OpenService(m, text, serviceAccess)
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		h, err = windows.OpenService(m, text, windows.SERVICE_QUERY_CONFIG|windows.SERVICE_QUERY_STATUS)
	}
	if err != nil {
		return nil, explain("open service "+name, err)
	}
	return service{name, h}.entry(), nil
}

func createService(name string, b basics) (*entry, error) {
	m, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT|windows.SC_MANAGER_CREATE_SERVICE)
	if err != nil {
		return nil, explain("open the service control manager", err)
	}
	defer windows.CloseServiceHandle(m)
	t, err := b.texts()
	if err != nil {
		return nil, err
	}
	named, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	h, err := windows.CreateService(m, named, t.display, serviceAccess, windows.SERVICE_WIN32_OWN_PROCESS,
		startTypes[b.Start], windows.SERVICE_ERROR_NORMAL, t.command, nil, nil, t.needs, nil, nil) // nil account: LocalSystem
	if err != nil {
		return nil, explain("create service "+name, err)
	}
	return service{name, h}.entry(), nil
}

func (s service) entry() *entry {
	return &entry{
		basics: s.basics, change: s.change, get: s.get, set: s.set, status: s.status, start: s.start,
		stop:   s.stop,
		remove: func() error { return explain("delete it", windows.DeleteService(s.handle)) },
		close:  func() { _ = windows.CloseServiceHandle(s.handle) }, // nothing is lost
	}
}

// explain turns the SCM's errors into ours.
func explain(what string, err error) error {
	kinds := map[error]error{
		windows.ERROR_ACCESS_DENIED:             ErrPrivilege,
		windows.ERROR_SERVICE_DOES_NOT_EXIST:    ErrNoService,
		windows.ERROR_SERVICE_MARKED_FOR_DELETE: errMarked,
		windows.ERROR_SERVICE_NOT_ACTIVE:        errNotActive,
		windows.ERROR_SERVICE_ALREADY_RUNNING:   errRunning,
	}
	for win, ours := range kinds {
		if errors.Is(err, win) {
			return fmt.Errorf("%s: %w", what, ours)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

var startTypes = map[Start]uint32{
	Automatic: windows.SERVICE_AUTO_START, Manual: windows.SERVICE_DEMAND_START, Disabled: windows.SERVICE_DISABLED,
}

type basicTexts struct{ display, command, needs *uint16 }

func (b basics) texts() (t basicTexts, err error) {
	if t.display, err = windows.UTF16PtrFromString(b.Display); err != nil {
		return t, err
	}
	if t.command, err = windows.UTF16PtrFromString(b.Command); err != nil {
		return t, err
	}
	t.needs = multi(b.Needs) // an empty list is two zeros: nil would keep what is there
	return t, nil
}

// multi is a list as Windows writes it: each text ends with a zero, and another zero ends the list.
func multi(list []string) *uint16 {
	text := strings.Join(list, "\x00") + "\x00"
	if len(list) > 0 {
		text += "\x00"
	}
	u := utf16.Encode([]rune(text))
	return &u[0]
}

// unmulti reads at most 4096 characters of such a list.
func unmulti(p *uint16) []string {
	var list []string
	for p != nil && *p != 0 && len(list) < 64 {
		s := windows.UTF16PtrToString(p)
		list = append(list, s)
		p = (*uint16)(unsafe.Add(unsafe.Pointer(p), 2*(len(utf16.Encode([]rune(s)))+1)))
	}
	return list
}

func (s service) basics() (basics, error) {
	b := make([]byte, 8<<10) // the documented most
	var need uint32
	q := (*windows.QUERY_SERVICE_CONFIG)(unsafe.Pointer(&b[0]))
	if err := windows.QueryServiceConfig(s.handle, q, uint32(len(b)), &need); err != nil {
		return basics{}, explain("read its configuration", err)
	}
	out := basics{Display: windows.UTF16PtrToString(q.DisplayName), Command: windows.UTF16PtrToString(q.BinaryPathName), Needs: unmulti(q.Dependencies)}
	for start, n := range startTypes {
		if n == q.StartType {
			out.Start = start
		}
	}
	return out, nil
}

func (s service) change(b basics) error {
	t, err := b.texts()
	if err != nil {
		return err
	}
	return explain("change it", windows.ChangeServiceConfig(s.handle, windows.SERVICE_WIN32_OWN_PROCESS, startTypes[b.Start],
		windows.SERVICE_ERROR_NORMAL, t.command, nil, nil, t.needs, nil, nil, t.display))
}

func (s service) status() (serviceStatus, error) {
	var t windows.SERVICE_STATUS_PROCESS // package mgr drops checkpoint and hint
	var need uint32
	err := windows.QueryServiceStatusEx(s.handle, windows.SC_STATUS_PROCESS_INFO, (*byte)(unsafe.Pointer(&t)), uint32(unsafe.Sizeof(t)), &need)
	if err != nil {
		return serviceStatus{}, explain("read its state", err)
	}
	return serviceStatus{
		State: stateWords[t.CurrentState], Check: t.CheckPoint, Hint: time.Duration(t.WaitHint) * time.Millisecond,
		PID: t.ProcessId, Win32: t.Win32ExitCode, Specific: t.ServiceSpecificExitCode,
	}, nil
}

var stateWords = map[uint32]string{
	windows.SERVICE_STOPPED: stateStopped, windows.SERVICE_START_PENDING: "starting", windows.SERVICE_RUNNING: "running",
	windows.SERVICE_PAUSE_PENDING: "pausing", windows.SERVICE_PAUSED: "paused", windows.SERVICE_CONTINUE_PENDING: "resuming",
	windows.SERVICE_STOP_PENDING: "stopping",
}

func (s service) start() error { return explain("start it", windows.StartService(s.handle, 0, nil)) }

func (s service) stop() error {
	var t windows.SERVICE_STATUS
	return explain("stop it", windows.ControlService(s.handle, windows.SERVICE_CONTROL_STOP, &t))
}

// level is how one setting is written and read: a number for ChangeServiceConfig2, and the structure's
// translation from and to words.
type level struct {
	number uint32
	write  func(text string) (unsafe.Pointer, error)
	read   func(b []byte) string
}

var levels = map[setting]level{
	settingDescription: {windows.SERVICE_CONFIG_DESCRIPTION,
		func(text string) (unsafe.Pointer, error) {
			p, err := windows.UTF16PtrFromString(text)
			return unsafe.Pointer(&windows.SERVICE_DESCRIPTION{Description: p}), err
		},
		func(b []byte) string {
			return windows.UTF16PtrToString((*windows.SERVICE_DESCRIPTION)(unsafe.Pointer(&b[0])).Description)
		}},
	settingSID:        {windows.SERVICE_CONFIG_SERVICE_SID_INFO, writeWord(sidTypes), readWord(sidTypes)},
	settingDelay:      {windows.SERVICE_CONFIG_DELAYED_AUTO_START_INFO, writeWord(yesNo), readWord(yesNo)},
	settingFailures:   {windows.SERVICE_CONFIG_FAILURE_ACTIONS_FLAG, writeWord(yesNo), readWord(yesNo)},
	settingRecovery:   {windows.SERVICE_CONFIG_FAILURE_ACTIONS, writeRecovery, readRecovery},
	settingPrivileges: {windows.SERVICE_CONFIG_REQUIRED_PRIVILEGES_INFO, writePrivileges, readPrivileges},
	settingPreShutdown: {windows.SERVICE_CONFIG_PRESHUTDOWN_INFO,
		func(text string) (unsafe.Pointer, error) {
			d, err := time.ParseDuration(text)
			n := uint32(d.Milliseconds())
			return unsafe.Pointer(&n), err
		},
		func(b []byte) string {
			return (time.Duration(*(*uint32)(unsafe.Pointer(&b[0]))) * time.Millisecond).String()
		}},
}

var (
	yesNo    = []string{"no", "yes"}
	sidTypes = []string{"none", "unrestricted", "", "restricted"} // SERVICE_SID_TYPE_*
)

func writeWord(words []string) func(string) (unsafe.Pointer, error) {
	return func(text string) (unsafe.Pointer, error) {
		n := uint32(slices.Index(words, text))
		return unsafe.Pointer(&n), nil
	}
}

func readWord(words []string) func([]byte) string {
	return func(b []byte) string {
		if n := *(*uint32)(unsafe.Pointer(&b[0])); int(n) < len(words) {
			return words[n]
		}
		return "unknown"
	}
}

// writeRecovery writes the one recovery that we use; the words beside it are for people.
func writeRecovery(string) (unsafe.Pointer, error) {
	restart := windows.SC_ACTION{Type: windows.SC_ACTION_RESTART, Delay: 5000}
	actions := []windows.SC_ACTION{restart, restart, restart}
	return unsafe.Pointer(&windows.SERVICE_FAILURE_ACTIONS{ResetPeriod: 24 * 60 * 60, ActionsCount: 3, Actions: &actions[0]}), nil
}

func readRecovery(b []byte) string {
	f := (*windows.SERVICE_FAILURE_ACTIONS)(unsafe.Pointer(&b[0]))
	if f.Actions == nil || f.ActionsCount == 0 || f.ActionsCount > 16 {
		return "none"
	}
	kinds := map[uint32]string{windows.SC_ACTION_NONE: "nothing", windows.SC_ACTION_RESTART: "restart", windows.SC_ACTION_REBOOT: "reboot", windows.SC_ACTION_RUN_COMMAND: "run a command"}
	var words []string
	for _, a := range unsafe.Slice(f.Actions, int(f.ActionsCount)) {
		words = append(words, fmt.Sprintf("%s after %s", kinds[a.Type], time.Duration(a.Delay)*time.Millisecond))
	}
	return fmt.Sprintf("%s; forget after %s", strings.Join(words, ", "), time.Duration(f.ResetPeriod)*time.Second)
}

// requiredPrivileges is SERVICE_REQUIRED_PRIVILEGES_INFOW, winsvc.h.
type requiredPrivileges struct{ list *uint16 }

func writePrivileges(text string) (unsafe.Pointer, error) {
	return unsafe.Pointer(&requiredPrivileges{multi(strings.Fields(text))}), nil
}

func readPrivileges(b []byte) string {
	return strings.Join(unmulti((*requiredPrivileges)(unsafe.Pointer(&b[0])).list), " ")
}

func (s service) set(name setting, text string) error {
	l := levels[name]
	p, err := l.write(text)
	if err != nil {
		return err
	}
	return explain("set it", windows.ChangeServiceConfig2(s.handle, l.number, (*byte)(p)))
}

func (s service) get(name setting) (string, error) {
	l := levels[name]
	b := make([]byte, 8<<10) // the documented most
	var need uint32
	err := windows.QueryServiceConfig2(s.handle, l.number, &b[0], uint32(len(b)), &need)
	if err != nil {
		return "", fmt.Errorf("read it: %w", err)
	}
	return l.read(b), nil
}
