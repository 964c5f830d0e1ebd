package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/turnstone-go/turnstone/internal/durable"
)

// systemd is the manager of this machine, as far as we use it.
type systemd struct {
	folder string // of units
	root   bool   // whether we may change anything
	ctl    func(ctx context.Context, args ...string) (string, error)
}

func realSystemd() systemd {
	return systemd{folder: "/etc/systemd/system", root: os.Geteuid() == 0, ctl: systemctl}
}

// systemctlTime bounds one call. A stop may take as long as the service drains.
const systemctlTime = 10 * time.Minute

func systemctl(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, systemctlTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	text := string(bytes.TrimSpace(out))
	if errors.Is(err, exec.ErrNotFound) {
		return text, fmt.Errorf("systemctl is not here: this machine is not run by systemd; use `launcher run` under your own manager: %w", err)
	}
	if err != nil {
		return text, fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, text)
	}
	return text, nil
}

func (d systemd) unit(name string) string { return filepath.Join(d.folder, name+".service") }

func install(ctx context.Context, s Spec, look bool) ([]Step, error) {
	d := realSystemd()
	if _, err := os.Stat(booted); err != nil && d.root && !look {
		return nil, fmt.Errorf("%w: this machine was not booted with systemd: use `launcher run` under your own manager", ErrNoManager)
	}
	return d.register(ctx, s, look)
}

// booted is there where systemd runs: sd_booted(3).
const booted = "/run/systemd/system"

func uninstall(ctx context.Context, name, state string) ([]Step, error) {
	d := realSystemd()
	names := []string{d.program(name)} // the unit's, and the one that was called, which a console registers
	if called, err := registered(name); err == nil {
		names = append(names, called)
	}
	steps, err := d.unregister(ctx, name)
	if err != nil {
		return steps, err
	}
	for _, program := range names {
		if step := unlinkStep(program, state); step.Name != "" {
			steps = append(steps, step)
		}
	}
	return steps, nil
}

// program is what the unit starts, "" without one.
func (d systemd) program(name string) string {
	text, _ := os.ReadFile(d.unit(name)) // none, then
	_, command, _ := strings.Cut(string(text), "\nExecStart=\"")
	program, _, _ := strings.Cut(command, `"`)
	return program
}

// unlinkStep puts the launcher itself in the place of the link by which name leads into the state folder. It is the
// zero Step where name leads elsewhere.
func unlinkStep(name, state string) Step {
	file, err := filepath.EvalSymlinks(name)
	dir, derr := filepath.EvalSymlinks(state)
	if err != nil || derr != nil || !strings.HasPrefix(file, dir+"/") {
		return Step{}
	}
	link := ""
	for at := name; ; { // it ends at a file, as EvalSymlinks did
		next, err := os.Readlink(at)
		if err != nil {
			break
		}
		if link = at; !filepath.IsAbs(next) {
			next = filepath.Join(filepath.Dir(at), next)
		}
		at = next
	}
	if link == "" { // it was called in the state folder itself
		return Step{}
	}
	step := Step{Name: "program " + link, Result: Changed, Was: "a link to " + file, Now: "that file"}
	data, err := durable.ReadFile(durable.OS(), file, maxProgram)
	if err == nil {
		err = durable.WriteFile(durable.OS(), link, data, 0o755)
	}
	if err != nil {
		step.Result, step.Err = Failed, err.Error()
	}
	return step
}

// maxProgram bounds a launcher, as launcher/self does.
const maxProgram = 256 << 20

func startService(ctx context.Context, name string) error {
	return realSystemd().do(ctx, "start", name)
}
func stopService(ctx context.Context, name string) error { return realSystemd().do(ctx, "stop", name) }

// register writes the unit and lets systemd read it, one step each.
func (d systemd) register(ctx context.Context, s Spec, look bool) ([]Step, error) {
	step, err := d.write(s, look)
	if err != nil {
		return nil, err
	}
	steps := []Step{step, folderStep(s, look)}
	if step.Result != Right && !look {
		steps = append(steps, d.step(ctx, "systemd", "daemon-reload"))
	}
	return append(steps, d.enableStep(ctx, s, look)), nil
}

// enableStep compares whether the unit starts with the machine, and mends that.
func (d systemd) enableStep(ctx context.Context, s Spec, look bool) Step {
	unit, verb := s.Name+".service", "enable"
	if s.Start == Manual || s.Start == Disabled {
		verb = "disable"
	}
	step := Step{Name: "start with the machine", Result: Right, Now: verb + "d"}
	is, err := d.ctl(ctx, "is-enabled", unit) // it exits 1 for "disabled"
	switch {
	case is == step.Now:
		return step
	case len(strings.Fields(is)) != 1: // no state but a complaint
		step.Result, step.Err = Failed, fmt.Sprint(err)
		return step
	}
	if step.Result, step.Was = Differs, is; look {
		return step
	}
	step.Result = Changed
	if _, err := d.ctl(ctx, verb, unit); err != nil {
		step.Result, step.Err = Failed, err.Error()
	}
	return step
}

func (d systemd) step(ctx context.Context, name string, args ...string) Step {
	st := Step{Name: name, Result: Changed, Now: strings.Join(args, " ")}
	if _, err := d.ctl(ctx, args...); err != nil {
		st.Result, st.Err = Failed, err.Error()
	}
	return st
}

func (d systemd) write(s Spec, look bool) (Step, error) {
	file := d.unit(s.Name)
	step := Step{Name: "unit " + file, Result: Right}
	have, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return step, err
	}
	want := Unit(s)
	switch {
	case string(have) == want:
		return step, nil
	case look && err != nil:
		return step, ErrNoService
	case look:
		step.Result, step.Was, step.Now = Differs, "another text", "what install writes"
		return step, nil
	case !d.root:
		return step, ErrPrivilege
	case err != nil:
		step.Result = Created
	default:
		step.Result = Changed
	}
	return step, durable.WriteFile(durable.OS(), file, []byte(want), 0o644)
}

func folderStep(s Spec, look bool) Step {
	step := Step{Name: "state folder", Result: Right, Now: s.State}
	err := CheckFolder(s.State)
	if errors.Is(err, fs.ErrNotExist) && !look {
		step.Result = Created
		if _, err = MakeFolder(s.State); err == nil {
			err = CheckFolder(s.State)
		}
	}
	if err != nil {
		return s.exposed(step, err)
	}
	return step
}

func (d systemd) unregister(ctx context.Context, name string) ([]Step, error) {
	file := d.unit(name)
	if _, err := os.Lstat(file); errors.Is(err, fs.ErrNotExist) {
		return []Step{{Name: "unit " + file, Result: Absent}}, nil
	}
	if !d.root {
		return nil, ErrPrivilege
	}
	stop, unit := d.step(ctx, "stop", "disable", "--now", name+".service"), Step{Name: "unit " + file, Result: Removed}
	if err := os.Remove(file); err != nil {
		unit.Result, unit.Err = Failed, err.Error()
	}
	steps := []Step{stop, unit, d.step(ctx, "systemd", "daemon-reload")}
	_, _ = d.ctl(ctx, "reset-failed", name+".service") // it says so if there is nothing to forget
	return steps, nil
}

func (d systemd) do(ctx context.Context, verb, name string) error {
	if _, err := os.Lstat(d.unit(name)); errors.Is(err, fs.ErrNotExist) {
		return ErrNoService
	}
	if !d.root {
		return ErrPrivilege
	}
	_, err := d.ctl(ctx, verb, name+".service")
	return err
}

func serviceState(ctx context.Context, name string) (word string, up bool, err error) {
	d := realSystemd()
	if _, err := os.Lstat(d.unit(name)); errors.Is(err, fs.ErrNotExist) {
		return "", false, ErrNoService
	}
	word, err = d.ctl(ctx, "is-active", name+".service")
	if word != "" { // it exits 3 for every service that is not active
		err = nil
	}
	return word, word == "active" || word == "reloading" || word == "deactivating", err
}

// stopAsked looks for a job that ends the service. While systemd waits to restart it by itself, the service has no job,
// and while it starts, a "start": a launcher that dies then, one that cannot take over for example, is started again.
func stopAsked(ctx context.Context, name string) (bool, error) {
	out, err := systemctl(ctx, "list-jobs", "--no-legend", "--plain", name+".service") // a line is: number, unit, type, state
	job := strings.Fields(out)
	return len(job) == 4 && (job[2] == "stop" || job[2] == "restart"), err
}
