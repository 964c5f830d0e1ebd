//go:build windows

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/windows"

	"github.com/turnstone-go/turnstone/launcher/host"
)

// Files in the state folder by which the checks speak to the service.
const (
	fileSession = "session" // written by the service: its session
	fileExit    = "exit"    // if it is there, a reload ends the service with an error
)

// drainTime is how long the service takes to stop.
const drainTime = 3 * time.Second

// beService is the service that is checked: it does nothing, in the way the launcher does.
func beService(args []string) int {
	ctx, stop := host.Interruptible(context.Background(), true)
	defer stop()
	s := host.Service{Name: name, Managed: true, Code: func(error) int { return 13 }}
	s.Run = func(ctx context.Context, ready func(host.Controls)) error {
		log, err := host.OpenLog(name, filepath.Join(args[0], "log"), slog.LevelInfo)
		if err != nil {
			return err
		}
		defer log.Close()
		var id uint32
		if err := windows.ProcessIdToSessionId(uint32(os.Getpid()), &id); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(args[0], fileSession), fmt.Append(nil, id), 0o600); err != nil {
			return err
		}
		log.Info("wincheck runs", "kind", "running")
		end := make(chan error, 1)
		fine := func() error { return nil }
		ready(host.Controls{Pause: fine, Resume: fine, Log: log.Logger, Reload: func() error {
			if _, err := os.Stat(filepath.Join(args[0], fileExit)); err == nil {
				end <- errors.New("was told to fail")
			}
			return nil
		}})
		if err := tryAccounts(ctx, args[0]); err != nil {
			return err
		}
		select {
		case err := <-end:
			return err
		case <-ctx.Done():
		}
		time.Sleep(drainTime) // what a drain would take
		return nil
	}
	return s.ExitCode(host.Run(ctx, s))
}

func install(ctx context.Context, b *bench) (string, error) {
	if _, err := host.Install(ctx, b.spec); err != nil {
		return "", err
	}
	var err error
	b.steps, err = host.Inspect(ctx, b.spec)
	return "", err
}

// kept checks that a step of install is as it was set, read back.
func kept(step string) func(context.Context, *bench) (string, error) {
	return func(_ context.Context, b *bench) (string, error) {
		for _, s := range b.steps {
			if s.Name != step {
				continue
			}
			if s.Bad() || s.Result == host.Warned {
				return "", errors.New(s.String())
			}
			return s.Now, nil
		}
		return "", errors.New("no such step")
	}
}

func start(ctx context.Context, _ *bench) (string, error) {
	begun := time.Now()
	if err := host.StartService(ctx, name); err != nil {
		return "", err
	}
	return time.Since(begun).Round(time.Millisecond).String(), nil
}

func session(_ context.Context, b *bench) (string, error) {
	id, err := os.ReadFile(filepath.Join(b.spec.State, fileSession))
	if err == nil && string(id) != "0" {
		err = fmt.Errorf("it runs in session %s", id)
	}
	return string(id), err
}

// Controls, winsvc.h.
const (
	controlPause       = windows.SERVICE_CONTROL_PAUSE
	controlContinue    = windows.SERVICE_CONTROL_CONTINUE
	controlInterrogate = windows.SERVICE_CONTROL_INTERROGATE
	controlReload      = windows.SERVICE_CONTROL_PARAMCHANGE
	controlStop        = windows.SERVICE_CONTROL_STOP
)

func pause(_ context.Context, b *bench) (string, error) {
	if err := b.control(controlPause); err != nil {
		return "", err
	}
	if _, err := b.until(10*time.Second, func(s status) bool { return s.CurrentState == windows.SERVICE_PAUSED }); err != nil {
		return "", err
	}
	if err := b.control(controlContinue); err != nil {
		return "", err
	}
	_, err := b.until(10*time.Second, func(s status) bool { return s.CurrentState == windows.SERVICE_RUNNING })
	return "", err
}

// events asks Windows' own tool for the entry that the service made at its start.
func events(ctx context.Context, _ *bench) (string, error) {
	query := "*[System[Provider[@Name='" + name + "'] and (EventID=1)]]"
	out, err := system(ctx, "wevtutil.exe", "qe", "Application", "/q:"+query, "/c:1", "/rd:true", "/f:text")
	if err == nil && !strings.Contains(out, "wincheck runs") {
		err = fmt.Errorf("event 1 is not in the Application log: %q", out)
	}
	return "event 1", err
}

// comesBack ends the service in some way and waits for another process of it.
func (b *bench) comesBack(end func(before status) error) (string, error) {
	before, err := b.query()
	if err != nil {
		return "", err
	}
	if err := end(before); err != nil {
		return "", err
	}
	begun := time.Now()
	_, err = b.until(20*time.Second, func(s status) bool {
		return s.CurrentState == windows.SERVICE_RUNNING && s.ProcessId != before.ProcessId
	})
	took := time.Since(begun).Round(100 * time.Millisecond).String()
	if err != nil { // for the checks after this one
		err = errors.Join(err, host.StartService(context.Background(), name))
	}
	return took, err
}

func crash(_ context.Context, b *bench) (string, error) {
	return b.comesBack(func(before status) error {
		p, err := windows.OpenProcess(windows.PROCESS_TERMINATE, false, before.ProcessId)
		if err != nil {
			return err
		}
		defer windows.CloseHandle(p)
		return windows.TerminateProcess(p, 1)
	})
}

func exitCode(_ context.Context, b *bench) (string, error) {
	file := filepath.Join(b.spec.State, fileExit)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return "", err
	}
	defer os.Remove(file)
	return b.comesBack(func(status) error {
		if err := b.control(controlReload); err != nil {
			return err
		}
		_, err := b.until(10*time.Second, func(s status) bool { return s.CurrentState == windows.SERVICE_STOPPED })
		return errors.Join(err, os.Remove(file))
	})
}

func stop(_ context.Context, b *bench) (string, error) {
	if err := b.control(controlStop); err != nil {
		return "", err
	}
	most := uint32(0)
	_, err := b.until(30*time.Second, func(s status) bool {
		most = max(most, s.CheckPoint)
		return s.CurrentState == windows.SERVICE_STOPPED
	})
	if err == nil && most < 2 {
		err = fmt.Errorf("%d checkpoints in %s", most, drainTime)
	}
	return fmt.Sprintf("%d checkpoints", most), err
}

// marked deletes the service while it is open, as services.msc has it.
func marked(ctx context.Context, b *bench) (string, error) {
	window, err := open()
	if err != nil {
		return "", err
	}
	steps, err := host.Uninstall(ctx, name, b.spec.State)
	if err == nil && !strings.Contains(steps[0].Err, "marked for deletion") {
		err = fmt.Errorf("uninstall said %v", steps[0])
	}
	_ = windows.CloseServiceHandle(window) // now it goes
	if err == nil {
		_, err = host.Install(ctx, b.spec)
	}
	return "", err
}

func uninstall(ctx context.Context, b *bench) (string, error) {
	if _, err := host.Uninstall(ctx, name, b.spec.State); err != nil {
		return "", err
	}
	if _, _, err := host.Running(ctx, name); !errors.Is(err, host.ErrNoService) {
		return "", fmt.Errorf("the service is still there: %w", err)
	}
	return "", os.RemoveAll(b.spec.State)
}
