package host

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
	"golang.org/x/sys/windows/svc/eventlog"
)

func install(ctx context.Context, s Spec, look bool) ([]Step, error) {
	program, err := programStep(s)
	if err != nil {
		return nil, err
	}
	steps, err := realSCM().register(ctx, s, look)
	if err != nil {
		return append([]Step{program}, steps...), err
	}
	return append(append([]Step{program}, steps...), sourceStep(s.Name, look), folderStep(s, look)), nil
}

// programStep refuses a program that others can replace: it would run as LocalSystem.
func programStep(s Spec) (Step, error) {
	step := Step{Name: "program", Result: Right, Now: s.Exe}
	err := checkProgram(s.Exe)
	if err == nil {
		return step, nil
	}
	if !s.Unprotected {
		return step, fmt.Errorf("%w\nput the program into a folder below Program Files and install from there", err)
	}
	return s.exposed(step, err), nil
}

func folderStep(s Spec, look bool) Step {
	step := Step{Name: "state folder", Result: Right, Now: s.State}
	err := CheckFolder(s.State)
	if err == nil {
		return step
	}
	if !look {
		var made bool
		made, err = MakeFolder(s.State)
		step.Result = Changed
		if made {
			step.Result = Created
		}
		if err == nil {
			err = CheckFolder(s.State)
		}
	}
	if err != nil {
		return s.exposed(step, err)
	}
	return step
}

// sources is where the Application log finds what an event's text means.
const sources = `SYSTEM\CurrentControlSet\Services\EventLog\Application`

// sourceStep registers the event source. EventCreate.exe, a part of Windows, serves as its message file:
// each of its messages 1 to 1000 is just the text that came with the event, so we need no DLL of our own.
func sourceStep(name string, look bool) Step {
	step := Step{Name: "event source " + name, Result: Right}
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, sources+`\`+name, registry.QUERY_VALUE)
	if err == nil {
		file, _, ferr := k.GetStringValue("EventMessageFile")
		_ = k.Close() // it was only read
		if ferr == nil && file != "" {
			step.Now = file
			return step
		}
	}
	if look {
		step.Result, step.Was, step.Now = Differs, "none", "registered"
		return step
	}
	_ = eventlog.Remove(name) // half a registration, or none
	step.Result = Created
	if err := eventlog.InstallAsEventCreate(name, eventlog.Info|eventlog.Warning|eventlog.Error); err != nil {
		step.Result, step.Err = Failed, err.Error()
	}
	return step
}

// uninstall has no link to replace: the installed file is still there, and what starts another is the service alone.
func uninstall(ctx context.Context, name, _ string) ([]Step, error) {
	step, err := realSCM().unregister(ctx, name)
	if err != nil {
		return nil, err
	}
	guard, err := realSCM().unregister(ctx, GuardName(name))
	if err != nil {
		return []Step{step}, err
	}
	source := Step{Name: "event source " + name, Result: Removed}
	switch err := eventlog.Remove(name); {
	case errors.Is(err, windows.ERROR_FILE_NOT_FOUND):
		source.Result = Absent
	case err != nil:
		source.Result, source.Err = Failed, err.Error()
	}
	if guard.Result == Absent { // as it is but for a minute after a self-update
		return []Step{step, source}, nil
	}
	return []Step{step, guard, source}, nil
}

func startService(ctx context.Context, name string) error {
	return with(name, func(e *entry) error { return e.launch(ctx) })
}

func stopService(ctx context.Context, name string) error {
	return with(name, func(e *entry) error { return e.halt(ctx) })
}

func serviceState(_ context.Context, name string) (word string, up bool, err error) {
	err = with(name, func(e *entry) error {
		st, err := e.status()
		word, up = st.State, st.PID != 0 && st.State != stateStopped
		if st.State == stateStopped && st.Win32 != 0 && st.Win32 != uint32(windows.ERROR_SERVICE_NEVER_STARTED) {
			word += ": " + st.exit()
		}
		return err
	})
	return word, up, err
}

func with(name string, do func(*entry) error) error {
	e, err := realSCM().open(name)
	if err != nil {
		return err
	}
	defer e.close()
	return do(e)
}

// checkProgram looks at the folder that holds the program.
func checkProgram(exe string) error {
	chain, err := components(filepath.Dir(exe))
	if err != nil {
		return err
	}
	chain[len(chain)-1].protected = true // Program Files inherits what it needs
	return judge(chain)
}

func stopAsked(context.Context, string) (bool, error) { return false, errors.ErrUnsupported }
