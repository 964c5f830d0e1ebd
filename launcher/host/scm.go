package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// basics is what CreateService and ChangeServiceConfig take, in words.
type basics struct {
	Display string
	Command string
	Start   Start // Delayed is Automatic here, and a setting
	Needs   []string
}

// setting is one of the things that are set one by one after the service exists.
type setting string

const (
	settingDescription setting = "description"
	settingSID         setting = "service SID"
	settingDelay       setting = "delayed start"
	settingRecovery    setting = "recovery"
	settingFailures    setting = "recovery after an exit code"
	settingPrivileges  setting = "privileges"
	settingPreShutdown setting = "preshutdown"
)

// recovery is restart 5 s x 3, and the count of failures begins anew after a day: the SCM repeats the last
// action for ever, so one that is not "restart" would end the service at some point.
const recovery = "restart after 5s, restart after 5s, restart after 5s; forget after 24h0m0s"

// privileges are all that the launcher keeps of LocalSystem's: to start payloads under an account of their
// own, to give them their folder, and to make named objects.
const privileges = "SeAssignPrimaryTokenPrivilege SeChangeNotifyPrivilege SeCreateGlobalPrivilege SeImpersonatePrivilege " +
	"SeIncreaseQuotaPrivilege SeRestorePrivilege SeTakeOwnershipPrivilege SeTcbPrivilege"

// value is a setting and what it should be.
type value struct {
	setting setting
	want    string
}

// values are the settings of a service in the order in which they are set.
func (s Spec) values() []value {
	return []value{
		{settingDescription, s.Description},
		{settingSID, "unrestricted"},
		{settingDelay, yes(s.Start == Delayed)},
		{settingRecovery, recovery},
		{settingFailures, "yes"},
		{settingPrivileges, privileges},
		{settingPreShutdown, s.PreShutdown.String()},
	}
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (s Spec) basics() basics {
	b := basics{Display: s.Display, Command: s.command(), Start: s.Start, Needs: s.Needs}
	if b.Start == Delayed {
		b.Start = Automatic
	}
	return b
}

// drift lists what differs, as "name: was > now".
func (b basics) drift(want basics) (was, now string) {
	var w, n []string
	add := func(name, x, y string) {
		if x != y {
			w, n = append(w, name+" "+x), append(n, name+" "+y)
		}
	}
	add("display name", b.Display, want.Display)
	add("command", b.Command, want.Command)
	add("start", string(b.Start), string(want.Start))
	add("needs", strings.Join(b.Needs, ","), strings.Join(want.Needs, ","))
	return strings.Join(w, "; "), strings.Join(n, "; ")
}

// scm is the service control manager, as far as we use it. The fake of the tests knows the steps that a
// real one at hand may lack.
type scm struct {
	open   func(name string) (*entry, error) // ErrNoService
	create func(name string, b basics) (*entry, error)
}

// entry is one open service.
type entry struct {
	basics func() (basics, error)
	change func(basics) error
	get    func(setting) (string, error)
	set    func(setting, string) error
	status func() (serviceStatus, error)
	start  func() error
	stop   func() error
	remove func() error
	close  func()
}

// serviceStatus is a service in the eyes of the SCM.
type serviceStatus struct {
	State    string // stopped, starting, running, pausing, paused, resuming, stopping
	Check    uint32
	Hint     time.Duration
	PID      uint32
	Win32    uint32 // exit code; 1066 says that Specific counts
	Specific uint32
}

const (
	stateStopped    = "stopped"
	errSpecificCode = 1066 // ERROR_SERVICE_SPECIFIC_ERROR
	errNeverStarted = 1077 // ERROR_SERVICE_NEVER_STARTED
)

// Errors of an scm.
var (
	errMarked    = errors.New("marked for deletion")
	errNotActive = errors.New("not running")
	errRunning   = errors.New("runs already")
)

// register makes or mends the service and then sets everything else, one step each. With look it only
// compares.
func (m scm) register(ctx context.Context, s Spec, look bool) ([]Step, error) {
	e, step, err := m.ensure(ctx, s, look)
	if err != nil {
		return nil, err
	}
	defer e.close()
	steps := []Step{step}
	for _, v := range s.values() {
		steps = append(steps, e.apply(v, look))
	}
	return steps, nil
}

// ensure opens the service, or creates it. A service that is marked for deletion is waited for a while: it
// goes when the last program that has it open lets go.
func (m scm) ensure(ctx context.Context, s Spec, look bool) (*entry, Step, error) {
	step := Step{Name: "service " + s.Name}
	e, err := m.open(s.Name)
	if err == nil {
		step, err = e.mend(s, look)
		if errors.Is(err, errMarked) {
			e.close()
			e = nil
		} else if err != nil {
			e.close()
			return nil, step, err
		} else {
			return e, step, nil
		}
	}
	if look || err != nil && !errors.Is(err, ErrNoService) && !errors.Is(err, errMarked) {
		return nil, step, err
	}
	err = patiently(ctx, func() (bool, error) {
		e, err = m.create(s.Name, s.basics())
		return !errors.Is(err, errMarked), err
	})
	if errors.Is(err, errMarked) {
		return nil, step, fmt.Errorf("service %s is %w: close every services window and Task Manager, then install again", s.Name, err)
	}
	step.Result, step.Now = Created, s.command()
	return e, step, err
}

// mend brings the basics of an existing service in line.
func (e *entry) mend(s Spec, look bool) (Step, error) {
	step := Step{Name: "service " + s.Name, Result: Right}
	have, err := e.basics()
	if err != nil {
		return step, fmt.Errorf("read service %s: %w", s.Name, err)
	}
	if step.Was, step.Now = have.drift(s.basics()); step.Now != "" {
		step.Result = Differs
	}
	if look {
		return step, nil
	}
	if step.Result == Differs {
		step.Result = Changed
	} // and else the same again: only a change tells that a service is marked for deletion
	if err := e.change(s.basics()); err != nil {
		return step, fmt.Errorf("change service %s: %w", s.Name, err)
	}
	return step, nil
}

// apply sets one value if it is not so already, and reads it back: a system that accepts and forgets says so.
func (e *entry) apply(v value, look bool) Step {
	step := Step{Name: string(v.setting), Result: Right, Now: v.want}
	have, readErr := e.get(v.setting)
	if readErr == nil && have == v.want {
		return step
	}
	step.Was = have
	if look {
		step.Result = Differs
		if readErr != nil {
			step.Result, step.Err = Failed, readErr.Error()
		}
		return step
	}
	if err := e.set(v.setting, v.want); err != nil {
		step.Result, step.Err = Failed, err.Error()
		return step
	}
	step.Result = Changed
	switch again, err := e.get(v.setting); {
	case err != nil:
		step.Result, step.Err = Accepted, "cannot be read back: "+err.Error()
	case again != v.want:
		step.Result, step.Was = NotKept, again
	}
	return step
}

// Bounds of waiting for the SCM. A service's own wait hint may lengthen the wait for its stop.
const (
	lookEvery = 100 * time.Millisecond
	patience  = 15 * time.Second
	stopBound = 4 * time.Minute // preshutdown's three and some
)

// patiently asks again until done, at most for as long as our patience lasts; the last error is returned.
func patiently(ctx context.Context, ask func() (done bool, err error)) error {
	for begun := time.Now(); ; {
		done, err := ask()
		if done || time.Since(begun) > patience {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lookEvery):
		}
	}
}

// restarts returns why the SCM would not start the service again once it has ended, nil if it would.
func (m scm) restarts(name string) error {
	e, err := m.open(name)
	if err != nil {
		return err
	}
	defer e.close()
	b, err := e.basics()
	if err != nil {
		return fmt.Errorf("read service %s: %w", name, err)
	}
	st, err := e.status()
	switch {
	case err != nil:
		return fmt.Errorf("ask for the state of service %s: %w", name, err)
	case b.Start == Disabled:
		return fmt.Errorf("service %s is disabled: enable it first, or Windows does not start it again", name)
	case st.State == "stopping" || st.State == stateStopped:
		return fmt.Errorf("service %s is %s", name, st.State)
	}
	if err := e.change(b); errors.Is(err, errMarked) { // only a change tells
		return fmt.Errorf("service %s is %w and would not be started again", name, errMarked)
	}
	return nil
}

// guard makes or mends the service of a guard, and returns what starts it. One that is about to end after an earlier
// trial is waited for.
func (m scm) guard(ctx context.Context, s Spec) (start func() error, err error) {
	if e, err := m.open(s.Name); err == nil {
		err = e.halt(ctx)
		e.close()
		if err != nil {
			return nil, err
		}
	}
	e, _, err := m.ensure(ctx, s, false)
	if err != nil {
		return nil, err
	}
	e.close()
	return func() error {
		e, err := m.open(s.Name)
		if err != nil {
			return err
		}
		defer e.close()
		return e.launch(ctx)
	}, nil
}

// forget deletes a service, which goes when its process has ended.
func (m scm) forget(name string) error {
	e, err := m.open(name)
	if errors.Is(err, ErrNoService) {
		return nil
	}
	if err != nil {
		return err
	}
	defer e.close()
	if err := e.remove(); err != nil && !errors.Is(err, errMarked) {
		return fmt.Errorf("delete service %s: %w", name, err)
	}
	return nil
}

// awaken waits until the service has been started since the machine was: its start may be delayed, or a person's affair.
func (e *entry) awaken(ctx context.Context) error {
	for {
		st, err := e.status()
		if err != nil {
			return fmt.Errorf("ask for the state of the service: %w", err)
		}
		if st.State != stateStopped || st.Win32 != errNeverStarted {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lookEvery):
		}
	}
}

// revive starts a service, again and again for a while: one whose process was just ended in its start is still
// starting for the SCM. One that was stopped in order stays so.
func (e *entry) revive(ctx context.Context) error {
	return patiently(ctx, func() (bool, error) {
		st, err := e.status()
		if err == nil && (st.State == "running" || st.State == stateStopped && st.Win32 == 0) {
			return true, nil
		}
		err = e.launch(ctx)
		return err == nil, err
	})
}

// unregister stops the service, deletes it, and waits until it is gone. The error is ErrPrivilege; what else fails is
// in the step.
func (m scm) unregister(ctx context.Context, name string) (Step, error) {
	step := Step{Name: "service " + name, Result: Removed}
	e, err := m.open(name)
	switch {
	case errors.Is(err, ErrNoService):
		step.Result = Absent
		return step, nil
	case errors.Is(err, ErrPrivilege):
		return step, err
	case err != nil:
		return step.failed(err), nil
	}
	stopped := e.halt(ctx)
	err = e.remove()
	e.close()
	if err != nil && !errors.Is(err, errMarked) {
		return step.failed(errors.Join(fmt.Errorf("delete service %s: %w", name, err), stopped)), nil
	}
	gone := false
	err = patiently(ctx, func() (bool, error) {
		e, err := m.open(name)
		if err == nil {
			e.close()
		}
		gone = errors.Is(err, ErrNoService)
		return gone, nil
	})
	if !gone && err == nil {
		step.Result = Accepted
		step.Err = "marked for deletion: it goes when every program that has it open ends (services.msc, Task Manager), or at the next start of Windows"
	}
	if err := errors.Join(err, stopped); err != nil {
		return step.failed(err), nil
	}
	return step, nil
}

// halt stops a service and waits for it, as long as its checkpoints go on.
func (e *entry) halt(ctx context.Context) error {
	err := e.stop()
	if errors.Is(err, errNotActive) {
		return nil
	}
	st, qerr := e.status()
	if err != nil && (qerr != nil || st.State != "stopping") {
		return fmt.Errorf("ask the service to stop: %w", err)
	}
	return e.await(ctx, func(st serviceStatus) bool { return st.State == stateStopped })
}

// await looks at the service until it is as wanted. It gives up on a service whose checkpoint stands still
// for its own hint, or for our patience if that is longer.
func (e *entry) await(ctx context.Context, wanted func(serviceStatus) bool) error {
	begun := time.Now()
	moved, last := begun, serviceStatus{}
	for {
		st, err := e.status()
		if err != nil {
			return fmt.Errorf("ask for the state of the service: %w", err)
		}
		if wanted(st) {
			return nil
		}
		if st.State != last.State || st.Check != last.Check {
			moved, last = time.Now(), st
		}
		if time.Since(moved) > max(patience, st.Hint) || time.Since(begun) > stopBound {
			return fmt.Errorf("the service is still %s after %s: its process %d does not answer", st.State, time.Since(begun).Round(time.Second), st.PID)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lookEvery):
		}
	}
}

// launch starts a service and waits until it runs or has ended again.
func (e *entry) launch(ctx context.Context) error {
	if err := e.start(); err != nil && !errors.Is(err, errRunning) {
		return fmt.Errorf("start the service: %w", err)
	}
	var end serviceStatus
	err := e.await(ctx, func(st serviceStatus) bool {
		end = st
		return st.State == "running" || st.State == "paused" || st.State == stateStopped
	})
	if err == nil && end.State == stateStopped {
		return &Ended{Code: end.code(), text: "the service ended at once: " + end.exit()}
	}
	return err
}

// exit is how a service ended, in a sentence.
func (s serviceStatus) exit() string {
	switch s.Win32 {
	case 0:
		return "in order"
	case errSpecificCode:
		return fmt.Sprintf("service code %d, %s", s.Specific, ExitSentence(int(s.Specific)))
	}
	return fmt.Sprintf("Windows error %d", s.Win32)
}

// code is the exit code of the service, 1 if it ended by something else than its own word.
func (s serviceStatus) code() int {
	if s.Win32 == errSpecificCode {
		return int(s.Specific)
	}
	return 1
}
